"""Layer names of Stable Diffusion's first code (LDM: `input_blocks`, `output_blocks`) beside diffusers' own; strings only.

Checkpoints in one file and SDXL LoRAs use the LDM names. All three families have two layers a block, so three LDM blocks stand
for one of diffusers. The table is the one in sd-scripts' `make_unet_conversion_map`.
"""

from __future__ import annotations

import re

_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
    "norm1": "in_layers.0",
    "norm2": "out_layers.0",
}
_ALONE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "conv_norm_out": "out.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_DIFFUSERS_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(attentions|resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")
_DIFFUSERS_MIDDLE = re.compile(r"mid_block\.(attentions|resnets)\.(\d+)\.(.+)")
_LDM_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)")
_LDM_MIDDLE = re.compile(r"middle_block\.([012])\.(.+)")


def is_ldm(path: str) -> bool:
    return path.startswith(("input_blocks.", "middle_block.", "output_blocks."))


def to_ldm(path: str, sdxl: bool) -> str:
    """A UNet path of diffusers (of a layer or a weight) in LDM's words; what has no LDM name comes back as it is."""
    if found := _DIFFUSERS_BLOCK.fullmatch(path):
        way, block, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        if way == "down":
            if kind == "downsamplers":
                return f"input_blocks.{3 * block + 3}.0.{_swap(rest, {'conv': 'op'})}"
            return _inside(f"input_blocks.{3 * block + number + 1}", kind, rest)
        if kind == "upsamplers":
            # it comes after the attention, where the block has one: all of SDXL's, but not the first of SD 1 and 2
            return f"output_blocks.{3 * block + 2}.{1 if block == 0 and not sdxl else 2}.{rest}"
        return _inside(f"output_blocks.{3 * block + number}", kind, rest)
    if found := _DIFFUSERS_MIDDLE.fullmatch(path):
        kind, number, rest = found[1], int(found[2]), found[3]
        return f"middle_block.1.{rest}" if kind == "attentions" else f"middle_block.{2 * number}.{_swap(rest, _RESNET)}"
    return _swap(path, _ALONE)


def _inside(block: str, kind: str, rest: str) -> str:
    return f"{block}.1.{rest}" if kind == "attentions" else f"{block}.0.{_swap(rest, _RESNET)}"


def to_diffusers(path: str) -> str:
    """The other way; what is no LDM name comes back as it is."""
    alone = _swap(path, _ALONE_BACK)
    if alone != path:
        return alone
    if found := _LDM_BLOCK.fullmatch(path):
        way, block, place, rest = found[1], int(found[2]), int(found[3]), found[4]
        return _input(block, place, rest) if way == "input" else _output(block, place, rest)
    if found := _LDM_MIDDLE.fullmatch(path):
        place, rest = int(found[1]), found[2]
        return f"mid_block.attentions.0.{rest}" if place == 1 else f"mid_block.resnets.{place // 2}.{_resnet(rest)}"
    return path


def _input(block: int, place: int, rest: str) -> str:
    start, number = f"down_blocks.{(block - 1) // 3}", (block - 1) % 3
    if place == 1:
        return f"{start}.attentions.{number}.{rest}"
    if rest.startswith("op"):
        return f"{start}.downsamplers.0.{_swap(rest, {'op': 'conv'})}"
    return f"{start}.resnets.{number}.{_resnet(rest)}"


def _output(block: int, place: int, rest: str) -> str:
    start, number = f"up_blocks.{block // 3}", block % 3
    if place == 0:
        return f"{start}.resnets.{number}.{_resnet(rest)}"
    if rest.split(".", maxsplit=1)[0] == "conv":
        return f"{start}.upsamplers.0.{rest}"
    return f"{start}.attentions.{number}.{rest}"


_RESNET_BACK = {ldm: ours for ours, ldm in _RESNET.items()}
_ALONE_BACK = {ldm: ours for ours, ldm in _ALONE.items()}


def inside_to_diffusers(module: str, rest: str) -> str:
    """The end of a path inside `module`, which is diffusers' path of a resnet, a sampler or an attention."""
    kind = module.split(".")[-2]
    return _resnet(rest) if kind == "resnets" else _swap(rest, {"op": "conv"}) if kind == "downsamplers" else rest


def _resnet(rest: str) -> str:
    return _swap(rest, _RESNET_BACK)


def _swap(path: str, names: dict[str, str]) -> str:
    """Replace a leading name by its counterpart; what follows it (`.weight`) stays."""
    for old, new in names.items():
        if path == old or path.startswith(old + "."):
            return new + path[len(old) :]
    return path
