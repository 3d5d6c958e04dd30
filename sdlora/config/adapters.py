"""Section `lora`: the adapter. Its fields are those of `sdlora.adapters.spec.AdapterConfig`."""

from __future__ import annotations

from typing import Literal

from sdlora.config.declare import Section, setting
from sdlora.core.text import Text

# The names of `sdlora.adapters.kinds.KINDS`, and those of them whose change is a product of small factors: no inputs to drop, no B.
# Written here again since settings know no adapters; tests/test_kinds.py holds both equal.
Kind = Literal["lora", "rslora", "dora", "loha", "lokr"]
PRODUCT_KINDS: tuple[Kind, ...] = ("loha", "lokr")


class LoraSettings(Section):
    kind: Kind = setting(
        "lora",
        Text("Adapter kind", "アダプターの種類"),
        Text(
            "`lora` works in every program. `rslora` is scaled for high ranks. `dora` also learns the length of each weight column, `loha` and `lokr` are products of two small changes: read by ComfyUI, Forge and A1111, not by diffusers.",
            "`lora` はすべてのソフトで使えます。`rslora` は高ランク向けのスケール。`dora` は重みの列の長さも学習し、`loha` と `lokr` は 2 つの小さな変化の積です(ComfyUI・Forge・A1111 対応、diffusers は非対応)。",
        ),
    )
    rank: int = setting(
        16,
        Text("Rank", "ランク"),
        Text(
            "How many directions each change may have: the shared side of the A and B matrices. Small = few parameters and a small file; large = more detail, more memory, easier overfitting.",
            "A マトリクスと B マトリクスが共有する次元で、変化の表現力を決めます。小さいほどパラメータとファイルが小さく、大きいほど細部を表現できますが、メモリを使い過学習しやすくなります。",
        ),
        basic=True,
        ge=1,
        le=1024,
    )
    alpha: float = setting(
        16.0,
        Text("Alpha", "アルファ"),
        Text(
            "Scaling factor: the update is (alpha / rank) · B·A. Equal to the rank is a good start; half of it learns more gently.",
            "スケーリング係数。更新は (アルファ / ランク)·B·A です。ランクと同じ値が出発点で、半分にすると緩やかに学習します。",
        ),
        basic=True,
        gt=0.0,
        le=4096.0,
    )
    targets: Literal["attention", "attention+ff", "attention+ff+conv"] = setting(
        "attention+ff",
        Text("Insertion points", "アダプター挿入点"),
        Text(
            "Which layers get adapters: the query, key, value and output projections of attention; these and the feed-forward layers; or the convolutions too (LoCon).",
            "アダプターを挿入する層。アテンションの Q・K・V・出力投影のみ、それに FFN 層を加えたもの、さらに畳み込み層も加えたもの(LoCon)。",
        ),
    )
    blocks: str = setting(
        "",
        Text("Only these UNet blocks", "対象の UNet ブロック"),
        Text(
            "Parts of layer names, separated by commas, `*` for anything: `up_blocks.0.attentions.1` carries the style of SDXL, `up_blocks.0.attentions.0` the content (B-LoRA). Empty: all.",
            "層の名前の一部をカンマ区切りで指定します(`*` は任意)。SDXL では `up_blocks.0.attentions.1` が画風、`up_blocks.0.attentions.0` が内容を担います(B-LoRA)。空欄ならすべて。",
        ),
        max_length=500,
        pattern=r"^[\w.*, ]*$",
    )
    text_encoder_rank: int = setting(
        0,
        Text("Text encoder rank", "テキストエンコーダーのランク"),
        Text(
            "A rank of its own for the text encoder; words need fewer directions than pictures. 0 takes the same rank.",
            "テキストエンコーダー専用のランク。言葉は画像より少ない方向で足ります。0 なら同じランクです。",
        ),
        ge=0,
        le=1024,
    )
    dropout: float = setting(
        0.0,
        Text("Adapter dropout", "アダプタードロップアウト"),
        Text(
            "Share of the adapters' inputs set to zero while training; a little of it can slow down overfitting.",
            "学習中にアダプターの入力をゼロにする割合。少し入れると過学習を遅らせることがあります。",
        ),
        ge=0.0,
        le=0.9,
    )
