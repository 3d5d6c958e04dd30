"""Strings of the header and of all screens: brand, language, steps."""

from __future__ import annotations

from sdlora.core.text import Text

TAGLINE = Text("Teach a picture model your style", "あなたの画風を画像生成モデルに教える")
OTHER_LANGUAGE = Text("日本語", "English")
OTHER_LANGUAGE_HINT = Text("この画面を日本語で表示", "Show this page in English")
THEME = Text("Light / dark", "明 / 暗")
SKIP_LINK = Text("Skip to the first step", "最初の手順へ移動")
STEP = Text("Step {n}", "手順 {n}")
LEAD = Text(
    "sdlora trains a LoRA: a small add-on for Stable Diffusion. The pre-trained model stays frozen; beside its layers two small low-rank "
    "matrices (A and B) are added, and only these learn from your pictures. That is why 10 to 200 pictures and one ordinary computer are enough.",
    "sdlora は LoRA(Stable Diffusion に足す小さな追加ファイル)を学習します。事前学習済みモデルは凍結したまま、その層の横に低ランクの 2 つの小さな行列"
    "(A マトリクスと B マトリクス)を加え、そこだけを画像から学習します。だから画像は 10〜200 枚、パソコンは普通のもので足ります。",
)
