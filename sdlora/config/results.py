"""Sections `sample` and `export`: pictures drawn while training, and the file."""

from __future__ import annotations

from typing import Literal

from sdlora.config.declare import Section, setting
from sdlora.core.text import Text


class SampleSettings(Section):
    draw: bool = setting(
        True,
        Text("Draw samples", "サンプルを描く"),
        Text(
            "Draw sample pictures before the first step and on the way. Off: training begins and ends sooner, and nothing is seen before the end.",
            "学習の開始前と途中にサンプル画像を描きます。オフにすると学習が早く始まり早く終わりますが、終わるまで絵は見られません。",
        ),
    )
    prompts: str = setting(
        "",
        Text("Sample prompts", "サンプル用プロンプト"),
        Text(
            "One prompt a line, drawn while training. Empty: captions of the set are used.",
            "学習中に描くプロンプトを 1 行に 1 つ。空欄ならデータセットのキャプションを使います。",
        ),
        max_length=4000,
    )
    steps: int = setting(
        20,
        Text("Sampling steps", "生成ステップ数"),
        Text("Denoising steps of samples and previews.", "サンプルとプレビューのノイズ除去ステップ数。"),
        ge=1,
        le=150,
    )
    guidance: float = setting(
        6.0,
        Text("Guidance", "ガイダンス"),
        Text(
            "How strictly pictures follow the prompt (classifier-free guidance).",
            "プロンプトへの忠実度(classifier-free guidance)。",
        ),
        ge=1.0,
        le=30.0,
    )


class ExportSettings(Section):
    dtype: Literal["fp16", "bf16", "fp32"] = setting(
        "fp16",
        Text("File precision", "保存精度"),
        Text(
            "Number format in the downloaded file. fp16 loads everywhere.",
            "ダウンロードするファイルの数値形式。fp16 はどこでも読み込めます。",
        ),
    )
    captions: bool = setting(
        True,
        Text("Tag counts in the file", "タグ頻度を書き込む"),
        Text(
            "Write how often each caption tag occurs into the file, as other tools show it. Turn off if captions are private.",
            "キャプションのタグ頻度をファイルに書き込みます(他のツールで表示されます)。非公開にしたい場合はオフにします。",
        ),
    )
