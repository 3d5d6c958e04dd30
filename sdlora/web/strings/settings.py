"""Strings of screen 2, Settings: goal, base, refusals, the parameter count."""

from __future__ import annotations

from sdlora.core.text import Text

TITLE = Text("Settings", "設定")
LEAD = Text(
    "Choose a goal; it fills in the numbers. Everything can stay as it is.",
    "目的を選ぶと数値が入ります。そのままで学習を始められます。",
)
PRESET = Text("Goal", "目的")
BUNDLED = Text("emoji — small, bundled, for learning and trying", "emoji(同梱の小型モデル。練習・お試し用)")
BASE_HELP = Text(
    "The pre-trained model that stays frozen. Or type a hub id such as owner/name.",
    "凍結したまま使う事前学習済みモデル。ハブ ID(owner/name)も入力できます。",
)
BASE_REFUSED = Text(
    "The base model “{name}” is not offered here. Choose one of the list, or type a hub id such as owner/name.",
    "基礎モデル「{name}」は選べません。一覧から選ぶか、owner/name 形式のハブ ID を入力してください。",
)
MORE_SETTINGS = Text("More settings", "詳細設定")
TRAINS = Text(
    "{lora} of {full} parameters train: {share}", "{full}個のパラメータのうち {lora}個({share})だけを学習します"
)
FILE_SIZE = Text("The file: about {size}", "ファイルは約 {size}")
SEEN = Text("Each picture is seen {times} times", "各画像を {times} 回学習します")
UNDERFILLED = Text(
    "The pictures have {shapes} shapes, and a batch holds one shape: {average} of {batch} pictures on average. A smaller batch size takes less time for the same",
    "画像の形が {shapes} 種類あり、1 つのバッチには同じ形だけが入るため、平均 {average} / {batch} 枚になります。バッチサイズを小さくしても同じ学習がより短時間で済みます",
)
SEEN_RARELY = Text(
    "That is little: fewer than 20 times often shows no effect. Raise the steps.",
    "少なめです。20 回未満では効果が出ないことがあります。ステップ数を増やしてください。",
)
SEEN_OFTEN = Text(
    "That is a lot: beyond 300 times overfitting is likely. Lower the steps, or watch the held-out loss.",
    "多めです。300 回を超えると過学習しやすくなります。ステップ数を減らすか、検証損失に注意してください。",
)
FULL_TUNE = Text("A full fine-tune would train all of them", "フルファインチューニングなら全部を学習します")
ONLY_LORA = Text("This LoRA", "この LoRA")
SCALE = Text("Scale = alpha / rank = {scale}", "スケール = アルファ / ランク = {scale}")
SCALE_ONE = Text(
    "The update counts fully: ΔW = B·A.",
    "更新がそのまま効きます(ΔW = A マトリクスと B マトリクスの積)。",
)
SCALE_SMALL = Text(
    "The update counts {scale} times: gentler than the learning rate says.",
    "更新は {scale} 倍で効きます。学習率の数字より穏やかです。",
)
SCALE_LARGE = Text(
    "The update counts {scale} times: stronger than the learning rate says.",
    "更新は {scale} 倍で効きます。学習率の数字より強めです。",
)
BASE_NOT_HERE = Text(
    "This base is not on this computer yet; it is fetched when the training starts. The numbers follow then.",
    "この基礎モデルはまだこのパソコンにありません。学習開始時に取得し、数値はその後に表示します。",
)
NO_EFFECT = Text("No effect now: {why}.", "現在は効果がありません({why})。")
NO_NUMBER = Text("“{label}” is empty or not a number.", "「{label}」が空欄か、数値ではありません。")
