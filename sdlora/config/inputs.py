"""Sections `model` and `data`: the base model and the pictures."""

from __future__ import annotations

from typing import Literal

from sdlora.config.declare import Section, setting
from sdlora.core.text import Text


class ModelSettings(Section):
    base: str = setting(
        "emoji",
        Text("Base model", "基礎モデル"),
        Text(
            "The trained model that stays frozen: `emoji` (bundled), a diffusers folder, a `.safetensors` checkpoint, or a hub id such as `owner/name`.",
            "凍結したまま使う事前学習済みモデル。`emoji`(同梱)、diffusers 形式のフォルダー、`.safetensors` のチェックポイント、または `owner/name` 形式のハブ ID。",
        ),
        basic=True,
        min_length=1,
        max_length=1024,
    )
    prediction: Literal["auto", "epsilon", "v_prediction"] = setting(
        "auto",
        Text("Prediction type", "予測タイプ"),
        Text(
            "What the base predicts. `auto` reads it from the base's scheduler; set it only for bases that name it wrongly.",
            "基礎モデルが予測する量。`auto` はスケジューラー設定から読み取ります。設定が誤っているモデルでのみ変更してください。",
        ),
    )
    start_from: str = setting(
        "",
        Text("Start from a LoRA", "開始時の LoRA"),
        Text(
            "Train an existing LoRA further instead of beginning at nothing: its name in the Library, or a file. It must be of the same kind, of this rank or a smaller one, and on the same layers.",
            "ゼロからではなく既存の LoRA から学習を続けます。ライブラリー内の名前かファイルを指定します。種類と対象の層が同じで、ランクが設定値以下である必要があります。",
        ),
        max_length=1024,
    )


class DataSettings(Section):
    trigger: str = setting(
        "",
        Text("Trigger word", "トリガーワード"),
        Text(
            "A word that calls the style in a prompt. It is put in front of every caption that lacks it.",
            "プロンプトでこの画風を呼び出す言葉。含まれていないキャプションの先頭に付けます。",
        ),
        basic=True,
        max_length=200,
    )
    class_prompt: str = setting(
        "",
        Text("Class words", "クラスの言葉"),
        Text(
            "What the trigger word is one of, such as `a person`: with prior preservation it takes the trigger's place. Empty: the trigger is left out.",
            "トリガーワードが属する種類(例: `a person`)。事前知識の保持で、トリガーの代わりに使います。空欄ならトリガーを取り除きます。",
        ),
        max_length=200,
    )
    flip: bool = setting(
        True,
        Text("Mirror pictures", "左右反転"),
        Text(
            "Show half of the pictures mirrored. Turn off for lettering or faces that are not symmetric.",
            "画像の半分を左右反転して学習します。文字や非対称な顔がある場合はオフにします。",
        ),
    )
    buckets: bool = setting(
        True,
        Text("Aspect-ratio buckets", "アスペクト比バケット"),
        Text(
            "Train each picture in its own shape; nothing is enlarged. Off: the middle square is cut out.",
            "画像を元の縦横比のまま学習します(拡大はしません)。オフにすると中央の正方形を切り出します。",
        ),
    )
    masks: bool = setting(
        False,
        Text("Masked loss", "マスク付き損失"),
        Text(
            "Learn only what a mask shows: the opaque parts of pictures with transparency, or what is white in a picture of the same name in a folder `masks`.",
            "マスクで示された部分だけを学習します。透明部分のある画像の不透明な部分、または `masks` フォルダーにある同名画像の白い部分です。",
        ),
    )
    shuffle: bool = setting(
        False,
        Text("Shuffle tags", "タグのシャッフル"),
        Text(
            "Show each caption's tags, split at commas, in up to 8 orders, so that the first ones do not count for more.",
            "カンマ区切りのタグを最大 8 通りの順序で学習し、先頭のタグに偏らないようにします。",
        ),
    )
    keep_tokens: int = setting(
        1,
        Text("Tags that stay in front", "先頭に固定するタグ数"),
        Text(
            "How many tags at the front are not shuffled; 1 keeps the trigger word there.",
            "シャッフルせず先頭に残すタグの数。1 ならトリガーワードが先頭に残ります。",
        ),
        ge=0,
        le=100,
    )
    recolour: float = setting(
        0.0,
        Text("Recolouring", "色の付け替え"),
        Text(
            "Share of the samples that are shown in random other colours while the answer asked for keeps the right ones: the LoRA learns to bring its own colours back, and, where noise hides shapes, to keep the base's. For styles that live from their colours; each picture is encoded 24 times more, once. 1 suits the bundled base, 0 turns it off.",
            "この割合のサンプルを、正解はそのままに色だけランダムに変えて見せます。LoRA は本来の色に戻し、ノイズで形が隠れる段階では基礎モデルの形を保つことを学びます。色づかいが特徴の画風向けで、初回のみ各画像を 24 回多くエンコードします。付属の基礎モデルでは 1、0 で無効。",
        ),
        ge=0.0,
        le=1.0,
    )
    caption_dropout: float = setting(
        0.05,
        Text("Caption dropout", "キャプションドロップアウト"),
        Text(
            "Share of steps that see an empty caption, so that guidance keeps working and the style does not hang on single words.",
            "空のキャプションで学習する割合。ガイダンスを保ち、画風が特定の単語に依存しすぎるのを防ぎます。",
        ),
        ge=0.0,
        le=1.0,
    )
    held_out: float = setting(
        0.1,
        Text("Held-out share", "検証用の割合"),
        Text(
            "Share of the pictures that is never trained on, but used to judge which checkpoint is best. Below 8 pictures none is held out; never more than 64 are.",
            "学習に使わず、どのチェックポイントが最良かの判定だけに使う画像の割合。8 枚未満では取り分けません。最大 64 枚です。",
        ),
        ge=0.0,
        le=0.5,
    )
