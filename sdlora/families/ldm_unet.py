"""A UNet in LDM layout by the tensors it has: diffusers' names for them, and diffusers' configuration.

Blocks are told by what is in them, not by their numbers: distilled UNets (SSD-1B, Segmind Vega, small-sd, tiny-sd) have fewer
layers, and files number these with gaps or without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sdlora.families import ldm_names
from sdlora.families.spec import Config, Shapes

_PLACE = re.compile(r"((?:input|output)_blocks\.(\d+)|middle_block)\.(\d+)\.(.+)")
_OUTSIDE = ("conv_in.", "conv_out.", "conv_norm_out.", "time_embedding.", "add_embedding.")


@dataclass(frozen=True)
class Blocks:
    """What stands where. A list is of resnets, each with the depth of the transformer behind it, 0 where there is none."""

    names: dict[str, str]  # "input_blocks.4.0" -> "down_blocks.1.resnets.0"
    down: list[list[int]]
    middle: list[int]
    up: list[list[int]]

    def rename(self, name: str) -> str | None:
        """A tensor's name in diffusers; None where a UNet there has no such tensor."""
        if (found := _PLACE.fullmatch(name)) and (module := self.names.get(f"{found[1]}.{found[3]}")):
            return f"{module}.{ldm_names.inside_to_diffusers(module, found[4])}"
        path = ldm_names.to_diffusers(name)
        return path if path.startswith(_OUTSIDE) else None


def find_blocks(names: Iterable[str]) -> Blocks:
    """`names` are a UNet's tensors in LDM layout."""
    kinds, depths = _kinds(names)
    found: dict[str, str] = {}
    down = _walk("input_blocks", "down_blocks", kinds, depths, found)
    up = _walk("output_blocks", "up_blocks", kinds, depths, found)
    middle: list[int] = []
    attentions = 0
    for place in sorted(p for p in kinds if p[0] == "middle_block"):
        address = f"middle_block.{place[2]}"
        if kinds[place] == "resnet":
            found[address] = f"mid_block.resnets.{len(middle)}"
            middle.append(0)
        elif kinds[place] == "attention":
            found[address] = f"mid_block.attentions.{attentions}"
            attentions += 1
            middle[-1:] = [depths[place]]
    return Blocks(found, down, middle, up)


_Place = tuple[str, int, int]  # ("input_blocks", 4, 1); the middle block has number 0


def _kinds(names: Iterable[str]) -> tuple[dict[_Place, str], dict[_Place, int]]:
    """What is at each place, and how many transformer blocks."""
    kinds: dict[_Place, str] = {}
    depths: dict[_Place, int] = {}
    for name in names:
        if not (found := _PLACE.fullmatch(name)):
            continue
        place = (found[1].split(".")[0], int(found[2] or 0), int(found[3]))
        word, _, rest = found[4].partition(".")
        if word == "in_layers":
            kinds[place] = "resnet"
        elif word in ("op", "conv"):
            kinds[place] = "sampler"
        elif word == "transformer_blocks":
            kinds[place] = "attention"
            depths[place] = max(depths.get(place, 0), int(rest.split(".")[0]) + 1)
    return kinds, depths


def _walk(
    side: str, ours: str, kinds: Mapping[_Place, str], depths: Mapping[_Place, int], found: dict[str, str]
) -> list[list[int]]:
    """One side of the UNet from its start; a down- or upsampler ends a block. Names go into `found`."""
    blocks: list[list[int]] = [[]]
    for place in sorted(p for p in kinds if p[0] == side):
        address, start = f"{side}.{place[1]}.{place[2]}", f"{ours}.{len(blocks) - 1}"
        if kinds[place] == "resnet":
            found[address] = f"{start}.resnets.{len(blocks[-1])}"
            blocks[-1].append(0)
        elif kinds[place] == "attention" and blocks[-1]:
            found[address] = f"{start}.attentions.{len(blocks[-1]) - 1}"
            blocks[-1][-1] = depths[place]
        elif kinds[place] == "sampler":
            found[address] = f"{start}.{'downsamplers' if side == 'input_blocks' else 'upsamplers'}.0"
            blocks.append([])
    return blocks


def unet_config(shapes: Shapes, blocks: Blocks, heads: int | None) -> Config:
    """diffusers' configuration, as far as shapes tell it; `heads` of each attention, None = as many as have a width of 64.

    Raises:
        KeyError, IndexError: a tensor is missing.
        ValueError: diffusers has no such UNet.
    """
    firsts = {path: place for place, path in blocks.names.items() if path.endswith(".resnets.0")}
    channels = [
        shapes[f"{firsts[f'down_blocks.{n}.resnets.0']}.in_layers.2.weight"][0] for n in range(len(blocks.down))
    ]
    if [len(block) - 1 for block in reversed(blocks.up)] != [len(block) for block in blocks.down]:
        raise ValueError("its halves have different numbers of layers")
    reading = [name for name in shapes if name.endswith("attn2.to_k.weight")]
    linear = any(name.endswith(".proj_in.weight") and len(shape) == 2 for name, shape in shapes.items())
    layers = [len(block) for block in blocks.down]
    return {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D" if block[0] else "DownBlock2D" for block in blocks.down],
        "mid_block_type": _middle_type(blocks),
        "up_block_types": ["CrossAttnUpBlock2D" if block[0] else "UpBlock2D" for block in blocks.up],
        "cross_attention_dim": shapes[reading[0]][1],
        "use_linear_projection": linear,
        "attention_head_dim": heads or [max(1, c // 64) for c in channels],  # how many heads, whatever its name
        "layers_per_block": layers[0] if len(set(layers)) == 1 else layers,
        **_depths(blocks),
    }


def _middle_type(blocks: Blocks) -> str | None:
    """Distilled UNets have no middle block, or one resnet without attention."""
    if not blocks.middle:
        return None
    deepest = max(1, blocks.down[-1][-1])
    if blocks.middle not in ([0], [deepest, 0]):
        raise ValueError("its middle block is unusual")
    return "UNetMidBlock2DCrossAttn" if len(blocks.middle) == 2 else "UNetMidBlock2D"


def _depths(blocks: Blocks) -> Config:
    """Nothing where every transformer has one block, diffusers' default."""
    sides = [[_depth(block) for block in side] for side in (blocks.down, blocks.up)]
    if all(depth == 1 for side in sides for depth in side):
        return {}
    down, up = sides
    found: Config = {"transformer_layers_per_block": down}
    return found if up == down[::-1] else {**found, "reverse_transformer_layers_per_block": up}


def _depth(block: list[int]) -> int | list[int]:
    """Of a block's transformers, one number where all have the same."""
    if 0 in block and any(block):
        raise ValueError("some layers of a block have attention and others none")
    return max(1, block[0]) if len(set(block)) == 1 else block
