"""The terms of the page, explained for people who do not build models: a fold under the headline."""

from __future__ import annotations

from sdlora.core.text import Text

TITLE = Text("How a LoRA works, in a dozen words", "LoRA のしくみと用語")

ENTRIES: list[tuple[Text, Text]] = [
    (
        Text("Base model", "基礎モデル(事前学習済みモデル)"),
        Text(
            "Stable Diffusion as it was trained by others. It stays frozen: none of its weights ever changes here.",
            "すでに学習を終えた Stable Diffusion。凍結(フリーズ)したまま使い、その重みは一切変わりません。",
        ),
    ),
    (
        Text("LoRA, low rank", "LoRA(低ランク適応)、低秩分解"),
        Text(
            "The change of a layer, ΔW, is written as the product of two thin matrices, A and B. Only these are trained. "
            "(Papers and libraries swap the two names; here, as in PEFT, A reads the layer's input and B writes its output.)",
            "層の変化 ΔW を、細長い 2 つの行列(A マトリクスと B マトリクス)の積で表し、この 2 つだけを学習します。"
            "(A と B の呼び方は文献により逆になります。ここでは PEFT と同じく、A が入力側、B が出力側です。)",
        ),
    ),
    (
        Text("Rank", "ランク"),
        Text(
            "The shared side of A and B. A small rank has few parameters and says less; a high rank says more, up to full rank, "
            "costs more and overfits sooner.",
            "A と B が共有する次元。小さいとパラメータが少なく表現力は控えめ、高ランクは表現力が増しますが(最大はフルランク)、コストがかかり過学習も早まります。",
        ),
    ),
    (
        Text("Alpha, strength", "アルファ(スケーリング係数)、強さ"),
        Text(
            "The change is added as (alpha / rank) · B·A. The strength slider in step 4 is one more factor of the same kind, chosen after training.",
            "変化は (アルファ / ランク)·B·A として足されます。手順 4 の「強さ」は、学習後に選べる同じ種類の係数です。",
        ),
    ),
    (
        Text("Learning rate, steps, batch size", "学習率・ステップ数・バッチサイズ(ハイパーパラメータ)"),
        Text(
            "How far, how often and on how many pictures at once A and B are moved. Too little shows no effect, too much is overfitting.",
            "A と B をどれだけ大きく、何回、何枚ずつ動かすか。少なすぎると効果がなく、多すぎると過学習になります。",
        ),
    ),
    (
        Text("Overfitting", "過学習"),
        Text(
            "The model repeats the training pictures instead of their style. The loss on held-out pictures rises again: the best checkpoint lies before that.",
            "画風ではなく学習画像そのものを覚えてしまうこと。学習に使わない画像での損失(検証損失)が再び上がります。最良のチェックポイントはその手前です。",
        ),
    ),
    (
        Text("Insertion points", "アダプター挿入点"),
        Text(
            "The layers that get A and B: query, key and value projections of attention, its output projection, the linear layers of the feed-forward part. "
            "A trigger word teaches the text side a new meaning.",
            "A と B を加える層。自己注意などの Q・K・V の射影、出力投影、FFN の線形層。トリガーワードはテキスト側(埋め込み層)に新しい意味を教えます。",
        ),
    ),
    (
        Text("Full fine-tuning", "フルファインチューニング"),
        Text(
            "Training every weight of the model. A LoRA trains a small share of that, on little data, with less memory and computing; step 2 shows the numbers.",
            "モデルのすべての重みを学習する方法。LoRA はそのごく一部だけを、少ないデータ・メモリ・計算量で学習します(手順 2 に数値を表示)。",
        ),
    ),
    (
        Text("Merging, difference tuning", "マージ、差分微調整"),
        Text(
            "B·A can be added into the base's weights, then it costs nothing when drawing. The other way round, the difference of two models can be "
            "approximated by a LoRA.",
            "B·A を基礎モデルの重みに足し込めば、推論コストは増えません。逆に、2 つのモデルの差を低ランク近似して LoRA にできます。",
        ),
    ),
    (
        Text("Evaluation", "評価"),
        Text(
            "Prepare the base, add the LoRA, train only it, look at the result, adjust, again. Steps 3 and 4 are there for looking.",
            "基礎モデルを用意し、LoRA を加え、それだけを学習し、結果を見て調整する。この繰り返しです。手順 3 と 4 は見て判断するためにあります。",
        ),
    ),
]
