"""Prompt, LoRA and strength in, picture out: diffusers' own pipeline around a base that stays loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image
from torch import Tensor, nn

from sdlora.adapters.inject import Adapters
from sdlora.adapters.weight_patch import WeightPatch, layer_changes, misfit
from sdlora.core.device_errors import is_out_of_memory
from sdlora.core.errors import BadInput
from sdlora.core.lru_cache import LruCache
from sdlora.core.oom_retry import once, retry_on_oom
from sdlora.core.text import Text
from sdlora.families.autoencoder import smaller_tile, tiled, to_pixels
from sdlora.families.base_model import Base
from sdlora.families.conditioning import Conditioning
from sdlora.families.spec import Part, tokenizer_of
from sdlora.lora_files.inspect import refuse_other_family
from sdlora.lora_files.read import LoraFile, read_file
from sdlora.lora_files.to_diffusers import to_diffusers_state_dict
from sdlora.models.bases import resolve_base
from sdlora.models.load import load_base
from sdlora.render.row_by_row import row_by_row

_ADAPTER_NAME = "sdlora_preview"  # long and distinct: transformers looks for adapter keys by substring
LOADED_AGAIN = Text(
    "Memory ran out while a LoRA file was loaded: it was loaded again after unused memory was freed.",
    "LoRA ファイルの読み込み中にメモリが不足したため、未使用のメモリを解放して読み込み直しました。",
)


@dataclass(frozen=True)
class DrawRequest:
    """What to draw. The same values with diffusers' pipeline and `torch.Generator().manual_seed(seed)` give the same picture."""

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 25
    guidance: float = 6.0


class Cancelled(Exception):
    """The picture is not wanted any more."""


@dataclass
class Renderer:
    """A base kept ready to draw. Setting the strength touches one number a layer (DoRA, LoHa, LoKr: the layer's weight);
    nothing is loaded or encoded again."""

    base: Base
    adapters: Adapters | None = None  # live ones of a training run; else `load` brings a file
    file: Path | None = None
    text_cache: Mapping[str, Conditioning] = field(default_factory=dict)  # texts of frozen encoders that are gone
    warn: Callable[[Text], None] = lambda text: None  # is told what is computed in parts since memory ran out
    single_rows: bool = False  # guidance's two rows apart, since memory ran out
    tile: int = 0  # latents a side that the VAE decodes at once, since memory ran out; 0 = the whole picture
    _patch: WeightPatch | None = None  # a file of a kind that diffusers does not load
    _strength: float = 1.0
    _texts: LruCache[tuple[str, Path | None, float], Conditioning] = field(default_factory=lambda: LruCache(256))

    def __post_init__(self) -> None:
        self.pipe = _pipeline(self.base)
        self.pipe.set_progress_bar_config(disable=True)
        if self.pipe.scheduler.config.get("prediction_type", self.base.prediction) != self.base.prediction:
            self.pipe.scheduler.register_to_config(prediction_type=self.base.prediction)

    def load(self, file: Path | None, verbatim: bool = False) -> None:
        """Put this LoRA file in place of the last one; None = the base alone. `verbatim`: even if diffusers would misread it.

        Raises:
            BadInput: not a LoRA that fits this base.
        """
        if file == self.file:
            return
        self._unload()
        retry_on_oom(lambda: self._load(file, verbatim), once(LOADED_AGAIN), self.warn)
        self.file = file

    def _load(self, file: Path | None, verbatim: bool) -> None:
        if file is not None and verbatim:
            self._load_into_pipe(file, str(file.parent), weight_name=file.name, local_files_only=True)
        elif file is not None:
            self._load_layers(file, read_file(file))

    def _load_layers(self, file: Path, lora: LoraFile) -> None:
        """As diffusers' adapters where every layer is two matrices, else as changed weights."""
        refuse_other_family(lora.name, lora.family, self.base.family.name, self.base.path.name)
        patch = WeightPatch(layer_changes(lora.name, lora.layers), self._models())
        if not lora.is_plain:
            patch.set_strength(1.0)
            self._patch = patch
            return
        layers = lora.plain_layers()
        for layer in layers:
            if not layer.fits(patch.shape_of(layer.part, layer.path)):
                raise misfit(lora.name, layer.part, layer.path, is_there=True)
        self._load_into_pipe(file, to_diffusers_state_dict(layers))
        arrived = sum(isinstance(m, BaseTunerLayer) for model in self._models().values() for m in model.modules())
        if arrived != len(layers):
            self.pipe.unload_lora_weights()
            raise BadInput(
                Text(
                    f"{file.name} cannot be drawn: only {arrived} of its {len(layers)} layers reach the base.",
                    f"{file.name} を描画できません。{len(layers)} 層のうち {arrived} 層しか基礎モデルに読み込まれません。",
                )
            )

    def _load_into_pipe(self, file: Path, source: str | dict[str, Tensor], **more: Any) -> None:
        try:
            self.pipe.load_lora_weights(source, adapter_name=_ADAPTER_NAME, **more)
        except (ValueError, KeyError, RuntimeError, OSError, TypeError) as error:
            self.pipe.unload_lora_weights()
            if is_out_of_memory(error):
                raise
            raise BadInput(
                Text(
                    f"{file.name} does not fit this base: diffusers does not load it.",
                    f"{file.name} はこの基礎モデルに読み込めません。",
                )
            ) from error

    def _unload(self) -> None:
        if self._patch is not None:
            self._patch.remove()
        elif self.file is not None:
            self.pipe.unload_lora_weights()
        self.file, self._patch, self._strength = None, None, 1.0

    def _models(self) -> dict[Part, nn.Module]:
        parts = self.base.family.parts
        return {part: model for part in parts if isinstance(model := getattr(self.pipe, part, None), nn.Module)}

    def set_strength(self, strength: float) -> None:
        """0 is the base, 1 what was trained."""
        if self.adapters is not None:
            self.adapters.set_strength(strength)
        elif self._patch is not None and strength != self._strength:
            self._patch.set_strength(strength)
        elif self.file is not None and strength != self._strength:
            names = self.pipe.get_active_adapters() or [_ADAPTER_NAME]
            self.pipe.set_adapters(names, strength)
        self._strength = strength

    @torch.no_grad()
    def draw(self, request: DrawRequest, on_step: Callable[[int, int], None] = lambda done, total: None) -> Image.Image:
        """One picture at the base's own size. `on_step(done, total)` may raise `Cancelled`; it is called after each denoising step."""

        def after(pipe: object, step: int, timestep: int, values: dict[str, Tensor]) -> dict[str, Tensor]:
            on_step(step + 1, request.steps)
            return values

        latents = self._denoise(request, self.base.resolution, callback_on_step_end=after)
        decode = partial(self._decode, latents)
        return retry_on_oom(decode, self._smaller_tiles, self.warn)

    @torch.no_grad()
    def latent(self, request: DrawRequest, side: int) -> Tensor:
        """What `draw` would decode, (C, h, w) in fp32, at `side` pixels: numbers to compare."""
        return self._denoise(request, side).float().cpu()

    def _denoise(self, request: DrawRequest, side: int, **more: Any) -> Tensor:
        return retry_on_oom(partial(self._run, request, side, **more), self._rows_apart, self.warn)

    def _decode(self, latents: Tensor) -> Image.Image:
        with tiled(self.base.vae, self.tile):
            pixels = to_pixels(self.base.vae, latents[None])
        return self.pipe.image_processor.postprocess(pixels, output_type="pil")[0]

    def _rows_apart(self) -> Text | None:
        if self.single_rows:
            return None
        self.single_rows = True
        return Text(
            "Memory ran out while a picture was drawn: from here what guidance compares is computed one after the other. Pictures stay the same and take a little longer.",
            "画像の生成中にメモリが不足したため、ここからガイダンスの計算を 1 つずつ行います。画像は同じで、少し時間が延びます。",
        )

    def _smaller_tiles(self) -> Text | None:
        tile = smaller_tile(self.tile, self.base.resolution // self.base.factor)
        if not tile:
            return None
        self.tile, pixels = tile, tile * self.base.factor
        return Text(
            f"Memory ran out while a picture was decoded: from here pictures are decoded in tiles of {pixels} pixels. They may differ a little at the seams.",
            f"画像のデコード中にメモリが不足したため、ここから {pixels} ピクセルのタイルに分けてデコードします。継ぎ目がわずかに変わることがあります。",
        )

    def evaluations(self, steps: int) -> int:
        """How often the denoiser is called for a picture of so many steps; PNDM asks once more."""
        self.pipe.scheduler.set_timesteps(steps)
        return len(self.pipe.scheduler.timesteps)

    def _run(self, request: DrawRequest, side: int, **more: Any) -> Any:
        positive = self._text(request.prompt)
        more |= positive.tensors
        if request.guidance > 1:
            zeros = self.base.zero_empty and not request.negative
            negative = positive.zeros() if zeros else self._text(request.negative)
            more |= {f"negative_{name}": value for name, value in negative.tensors.items()}
        with row_by_row(self.base.denoiser) if self.single_rows else nullcontext():
            return self.pipe(
                num_inference_steps=request.steps,
                guidance_scale=request.guidance,
                generator=torch.Generator().manual_seed(request.seed),
                height=side,
                width=side,
                output_type="latent",
                **more,
            ).images[0]

    def _text(self, prompt: str) -> Conditioning:
        """The prompt as a batch of one; kept, unless live adapters may have changed its encoding."""
        if prompt in self.text_cache:
            return self.text_cache[prompt].batch()
        if self.adapters is not None:
            return self.base.family.encode(self.base, [prompt])
        key = (prompt, self.file, self._strength if self._text_encoder_adapted() else 0.0)
        if not (found := self._texts.get(key)):
            self._texts.put(key, found := self.base.family.encode(self.base, [prompt]))
        return found

    def _text_encoder_adapted(self) -> bool:
        parts = self._patch.parts if self._patch else self.pipe.get_list_adapters() if self.file else ()
        return any(part.startswith("text_encoder") for part in parts)


def _pipeline(base: Base) -> Any:
    """diffusers' own for the family, around the base's parts; text encoders that are gone are None."""
    family, scheduler = base.family, getattr(diffusers, base.scheduler["_class_name"])
    parts: dict[str, Any] = {family.denoiser: base.denoiser, "vae": base.vae}
    for part in family.text_encoders:
        parts[part], parts[tokenizer_of(part)] = base.parts.get(part), base.tokenizers[part]
    parts |= {"scheduler": scheduler.from_config(base.scheduler), **family.pipeline_options(base)}
    return getattr(diffusers, family.pipeline)(**parts)


def open_renderer(base_name: str) -> Renderer:
    """Load a base to draw with.

    Raises:
        BaseUnusable: no such base.
    """
    return Renderer(load_base(resolve_base(base_name)))
