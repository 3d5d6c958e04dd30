"""Proof that a written LoRA file is what was trained: read back by a reader that is not its writer, compared layer by layer and as a picture.

The reader is diffusers' own loader; for kinds that it does not load, what ComfyUI and A1111 compute (`lora.kinds.change`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from sdlora.adapters.file_tensors import file_delta
from sdlora.adapters.inject import Adapters, eject
from sdlora.adapters.kind_spec import ADAPTER, AdapterKind
from sdlora.adapters.kinds import KINDS
from sdlora.core.device_errors import is_out_of_memory
from sdlora.core.errors import BadInput, Unloadable
from sdlora.core.oom_retry import once, retry_on_oom
from sdlora.core.text import Text
from sdlora.families.base_model import Base
from sdlora.families.conditioning import Conditioning
from sdlora.families.spec import LoraLayout, Part, canonical_path
from sdlora.lora_files.layers import pad_to_rank
from sdlora.lora_files.read import read_file
from sdlora.render.renderer import DrawRequest, Renderer

PROBE = DrawRequest("", seed=0, steps=2, guidance=1.0)
MAX_SIDE = 256  # pixels of a side: enough to compare numbers, and cheap on large bases
_CLOSE = 0.02  # of a matrix' largest value: what is left of a number in bf16 is 0.004
# Of the LoRA's effect on the picture, and of the picture itself, what may differ. Measured on a tiny base in bf16: 0.07 of the
# effect, since diffusers keeps adapters in the base's dtype while training has them in fp32.
_SHARE = {True: (0.05, 1e-4), False: (0.25, 2e-2)}  # whether the base computes in fp32
COMPARED_AGAIN = Text(
    "Memory ran out while the file was compared: it was compared again after unused memory was freed.",
    "ファイルの照合中にメモリが不足したため、未使用のメモリを解放して照合し直しました。",
)
# layer -> what is compared, in fp32: A, and B times its scale; of other kinds the whole change of the weight
LayerTensors = dict[tuple[Part, str], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Certificate:
    """What was found true of a file."""

    layers: int
    difference: float  # between the file's picture and the trainer's, as a share of the LoRA's effect on it
    kind: AdapterKind = KINDS["lora"]

    @property
    def text(self) -> Text:
        if not self.kind.two_matrices:
            name = self.kind.title
            return Text(
                f"Checked: {name} names complete ({self.layers} layers), same picture as in training where it is computed as ComfyUI, Forge and A1111 do. diffusers does not load {name}.",
                f"確認済み: {name} の名前がすべてそろい({self.layers} 層)、ComfyUI・Forge・A1111 の計算方法で学習時と同じ絵になります。diffusers は {name} を読み込めません。",
            )
        return Text(
            f"Checked: loads in diffusers, kohya names complete ({self.layers} layers), same picture as in training.",
            f"確認済み: diffusers で読み込め、kohya 形式の名前がすべてそろい({self.layers} 層)、学習時と同じ絵になります。",
        )


def verify_file(
    file: Path,
    base: Base,
    adapters: Adapters,
    text_cache: Mapping[str, Conditioning] | None = None,
    warn: Callable[[Text], None] = lambda text: None,
) -> Certificate:
    """Compare `file` with the live adapters that it was written from. They are taken out of the base on the way.
    `text_cache` holds embeddings of encoders that are gone, that of "" among them. `warn` is told what was done again with less
    memory.

    Raises:
        Unloadable: the file lacks layers, does nothing, does not load, or loads as something else.
    """
    parts: dict[Part, nn.Module] = {part: base.parts[part] for part in adapters.parts}
    for model in parts.values():
        model.eval()
    kind = adapters.config.adapter_kind
    trained = retry_on_oom(lambda: _live(adapters), once(COMPARED_AGAIN), warn)
    _check_tensors(file, len(trained), base.family.lora, kind)
    if not kind.two_matrices:
        _check_layers(retry_on_oom(lambda: _read(file, adapters), once(COMPARED_AGAIN), warn), trained)
    side = min(base.resolution, MAX_SIDE)
    live = Renderer(base, adapters, text_cache=text_cache or {}, warn=warn)
    pictures = {}
    for strength in (1.0, 0.0):
        live.set_strength(strength)
        pictures[strength] = live.latent(PROBE, side)
    eject(parts)
    loaded = Renderer(base, text_cache=text_cache or {}, warn=warn)
    try:
        loaded.load(file, verbatim=kind.two_matrices and base.family.lora.diffusers_reads_kohya)
    except BadInput as error:
        raise _unloadable(f"it cannot be loaded: {error.text.en}", f"読み込めません({error.text.ja})") from error
    try:
        if kind.two_matrices:
            _check_layers(_loaded(parts), trained)
        difference = _difference(loaded.latent(PROBE, side), pictures[1.0], pictures[0.0], base.dtype)
    finally:
        loaded.load(None)
    return Certificate(len(trained), difference, kind)


def _live(adapters: Adapters) -> LayerTensors:
    kind = adapters.config.adapter_kind
    rank = max(adapters.config.rank_of(part) for part in adapters.parts)
    return {
        (part, canonical_path(part, path)): pad_to_rank(*_matrices(layer, ADAPTER), rank)
        if kind.two_matrices
        else (adapters.delta_weight(layer),)
        for part, layers in adapters.parts.items()
        for path, layer in layers.items()
    }


def _read(file: Path, adapters: Adapters) -> LayerTensors:
    """What the file means to programs that change weights."""
    weights = {
        (part, canonical_path(part, path)): layer.get_base_layer().weight
        for part, layers in adapters.parts.items()
        for path, layer in layers.items()
    }
    try:
        return {place: (file_delta(tensors, weights[place]),) for place, tensors in read_file(file).layers.items()}
    except (KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise _unloadable(f"its tensors do not fit together: {error}", f"テンソルの形が合いません: {error}") from error


def _loaded(parts: dict[Part, nn.Module]) -> LayerTensors:
    """What diffusers made of the file."""
    found: LayerTensors = {}
    for part, model in parts.items():
        for path, layer in model.named_modules():
            if isinstance(layer, LoraLayer):
                (name,) = layer.lora_A.keys()
                found[part, canonical_path(part, path)] = _matrices(layer, name)
    return found


def _matrices(layer: LoraLayer, name: str) -> tuple[Tensor, Tensor]:
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return a.detach().float().clone(), b.detach().float() * layer.scaling[name]


def _check_tensors(file: Path, layers: int, layout: LoraLayout, kind: AdapterKind) -> None:
    """A plain LoRA has three tensors a layer and no other, by kohya's names; all are finite. A whole file of zeros fails; single layers
    without effect are normal, such as the last ones of SDXL's first text encoder, which get no gradient."""
    tensors = load_file(file)
    if len({name.split(".")[0] for name in tensors}) != layers or (kind.two_matrices and len(tensors) != 3 * layers):
        raise _unloadable(
            f"it has {len(tensors)} tensors for {layers} layers",
            f"{layers} 層に対しテンソルが {len(tensors)} 個あります",
        )
    # both patterns are written apart from the tables of the writer, so that a fault in those does not pass
    expected = re.compile(rf"({layout.kohya_pattern})\.({kind.file_pattern})")
    if strange := [name for name in tensors if not expected.fullmatch(name)]:
        raise _unloadable(
            f"{strange[0]} is no name that kohya's readers know", f"{strange[0]} は kohya 形式の名前ではありません"
        )
    if not all(torch.isfinite(t).all() for t in tensors.values()):
        raise _unloadable("not all of its numbers are finite", "有限でない値が含まれています")


def _check_layers(loaded: LayerTensors, trained: LayerTensors) -> None:
    if missing := trained.keys() ^ loaded.keys():
        part, path = min(missing)
        raise _unloadable(
            f"{len(missing)} of {len(trained)} layers are lost when it is read, the first is {part}.{path}",
            f"{len(trained)} 層中 {len(missing)} 層が読み込み時に失われます(例: {part}.{path})",
        )
    if not any(matrices[-1].any() for matrices in loaded.values()):
        raise _unloadable(
            "all of its layers are zero, so it changes nothing; train longer or with a higher learning rate",
            "すべての層がゼロで効果がありません。学習を長くするか学習率を上げてください",
        )
    for (part, path), matrices in trained.items():
        for ours, theirs in zip(matrices, loaded[part, path], strict=True):
            if (ours - theirs.to(ours.device)).abs().max() > _CLOSE * ours.abs().max() + 1e-6:
                raise _unloadable(
                    f"it reads as other numbers at {part}.{path}", f"{part}.{path} の値が読み込むと異なります"
                )


def _difference(loaded: Tensor, live: Tensor, plain: Tensor, dtype: torch.dtype) -> float:
    effect, error = (live - plain).norm().item(), (loaded - live).norm().item()
    share, rounding = _SHARE[dtype == torch.float32]
    if not error <= share * effect + rounding * live.norm().item():
        raise _unloadable(
            f"the picture differs from the trainer's own by {error / effect if effect else error:.0%} of the LoRA's effect",
            f"学習時の絵との差が LoRA の効果の {error / effect if effect else error:.0%} あります",
        )
    return error / effect if effect else 0.0


def _unloadable(en: str, ja: str) -> Unloadable:
    return Unloadable(
        Text(
            f"The file was written, but it is not what was trained: {en}.",
            f"ファイルを書き出しましたが、学習結果と一致しません: {ja}。",
        )
    )
