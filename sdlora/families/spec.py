"""What a model family must say: how its bases are told apart, run and trained, and how its LoRAs are named. One `FamilySpec` a family.

Nothing here needs torch, since the page reads these facts too: what computes imports torch when it is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sdlora.core.text import Text

if TYPE_CHECKING:
    from torch import Tensor

    from sdlora.families.base_model import Base
    from sdlora.families.conditioning import Conditioning
    from sdlora.families.objective import Objective

Part = str  # a folder of a base that a LoRA can act on: the denoiser ("unet", …) or a text encoder ("text_encoder", …)
Shapes = dict[str, tuple[int, ...]]  # tensor name -> shape
Config = dict[str, Any]
Configs = Mapping[str, Config]  # folder of a base in diffusers layout -> the configuration in it


@dataclass(frozen=True)
class LoraLayout:
    """Which layers of a family get adapters, and what files call them. Paths are diffusers' module paths."""

    targets: Mapping[Part, Mapping[str, str]]  # part -> a value of `lora.targets` -> regular expression for whole paths
    prefixes: Mapping[Part, str]  # what kohya's flat layer names begin with: "lora_unet_"
    words: tuple[str, ...]  # words of paths that hold an underscore, which a flat name does not tell from a dot
    kohya_pattern: (
        str  # regular expression for whole layer names in a kohya file; not made from `to_kohya`, which it checks
    )
    # (part, path, shape of `down`): whether only this family has such a layer
    detect: Callable[[Part, str, Sequence[int]], bool]
    # Part -> regular expression for the paths of all its layers; without one, any path is taken for a layer.
    layers: Mapping[Part, str] = field(default_factory=dict)
    dotted_prefixes: Mapping[str, Part] = field(default_factory=dict)  # what paths begin with in files not by diffusers
    to_kohya: Callable[[Part, str], str] = lambda part, path: path  # path in diffusers -> path that is flattened
    from_kohya: Callable[[Part, str], str] = lambda part, path: path
    ldm_blocks: bool = False  # kohya files name the denoiser's layers by LDM's blocks
    diffusers_reads_kohya: bool = True  # else it is given LoRAs by its own names


@dataclass(frozen=True)
class LoraMetadata:
    """What files of this family say about themselves. The mappings are by prediction type."""

    architecture: Mapping[str, str]  # modelspec.architecture
    base_version: Mapping[str, str]  # ss_base_model_version
    v2: bool  # ss_v2
    implementation: str  # modelspec.implementation
    sidecar: str  # "sd version" in the JSON file that A1111 and Forge read
    pattern: str  # regular expression for the start of either of the first two, whoever wrote it


@dataclass(frozen=True)
class CheckpointLayout:
    """How bases of a family lie in one `.safetensors` file. The functions take the file's own tensor names and shapes."""

    detect: Callable[[Shapes], bool]
    fault: Callable[[Shapes], Text | None]  # why such a file can still not be used, as the end of a sentence
    prediction: Callable[[Shapes, Mapping[str, str]], str]  # the second: the file's metadata
    configs: Callable[[Shapes, str], dict[str, Config]]  # by prediction type: as in a folder in diffusers layout
    shapes: Callable[[Shapes], dict[Part, Shapes]]  # by diffusers' names, text encoders with `text_model.`
    # The tensors themselves by diffusers' names, those of the VAE too.
    tensors: Callable[[dict[str, Tensor], Configs], dict[str, dict[str, Tensor]]]
    vae_prefix: str  # what the names of the VAE's tensors begin with
    padding: Mapping[Part, str]  # text encoder -> its tokenizer's padding token, where that is not the end token


@dataclass(frozen=True)
class FamilySpec:
    """One model family. Another one is one such value in a file of its own, and an entry in `families.FAMILIES`."""

    name: str
    title: str
    short_title: str
    denoiser: Part
    text_encoders: tuple[Part, ...]
    classes: Mapping[str, str]  # "unet": "diffusers.UNet2DConditionModel", …; of all parts but the scheduler
    pipeline: str  # diffusers' class that draws
    pipeline_options: Callable[[Base], dict[str, Any]]  # what it is given beside the parts

    detect: Callable[[Configs], bool]
    prediction: Callable[[Configs], str]  # what the denoiser predicts: a key of the mappings in `metadata`
    resolution: Callable[[Configs], int]  # pixels of a side that the base was trained on
    fault: Callable[[Configs], Text | None]  # why such a base can still not be trained, as the end of a sentence
    scheduler: Config  # diffusers' configuration that bases are drawn with whose own scheduler cannot be used

    objective: Callable[[Config, str], Objective]  # by the scheduler's configuration and the prediction type
    encode: Callable[[Base, Sequence[str]], Conditioning]
    # (base, x_t (B, C, h, w), t (B,), text, the pictures' sizes in pixels) -> the denoiser's output (B, C, h, w)
    predict: Callable[[Base, Tensor, Tensor, Conditioning, Sequence[Sequence[int]]], Tensor]
    size_unit: Callable[[Configs], int]  # pixels that a picture's sides must be multiples of

    lora: LoraLayout
    metadata: LoraMetadata
    checkpoint: CheckpointLayout | None = None  # None: bases of this family in one file are not read
    zero_empty_text: bool = False  # an empty text is zeros, not its encoding, unless `model_index.json` says otherwise

    @property
    def parts(self) -> tuple[Part, ...]:
        """All that a LoRA can act on."""
        return (self.denoiser, *self.text_encoders)

    def part_class(self, part: str) -> Any:
        """The class of a part, tokenizers among them."""
        library, name = self.classes[part].split(".")
        return getattr(importlib.import_module(library), name)


def is_text_encoder(part: Part) -> bool:
    return part.startswith("text_encoder")


def tokenizer_of(part: Part) -> str:
    """The folder of the tokenizer that a text encoder reads from: `text_encoder_2` has `tokenizer_2`."""
    return part.replace("text_encoder", "tokenizer")


def canonical_path(part: Part, path: str) -> str:
    """A module's path (or a weight's name) as published files have it: with `text_model.` in CLIP's encoders, which transformers 5.6
    and newer leaves out of CLIPTextModel's own names."""
    if not is_text_encoder(part) or path.startswith(("text_model.", "text_projection")):
        return path
    return f"text_model.{path}"


def short_path(path: str) -> str:
    """Without `text_model.`: the end of the module's path in every version of transformers."""
    return path.removeprefix("text_model.")
