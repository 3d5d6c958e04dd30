"""A base in one `.safetensors` file in LDM layout, told from its header alone: family, prediction, configs, shapes. No torch, no network.

The configs are derived from the tensors' shapes; what shapes do not tell (head sizes, activation, schedule) is each family's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdlora.core.errors import BadInput, BaseUnusable
from sdlora.core.safetensors_io.header import read_header
from sdlora.core.text import Text
from sdlora.families import ldm_names

UNET, VAE = "model.diffusion_model.", "first_stage_model."
# Where each family keeps its text encoders: (part, prefix, whether it is OpenCLIP's layout).
TEXT_ENCODERS: dict[str, list[tuple[str, str, bool]]] = {
    "sd1": [("text_encoder", "cond_stage_model.transformer.", False)],
    "sd2": [("text_encoder", "cond_stage_model.model.", True)],
    "sdxl": [
        ("text_encoder", "conditioner.embedders.0.transformer.", False),
        ("text_encoder_2", "conditioner.embedders.1.model.", True),
    ],
}
_OPENCLIP = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_HEAD = 64  # width of a head in OpenAI's and OpenCLIP's encoders and in the UNets of SD 2 and SDXL

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """What a file's header says. `shapes` are by the file's own names."""

    file: Path
    family: str
    prediction: str  # "epsilon" or "v_prediction"
    zero_snr: bool
    shapes: Shapes

    def open_clip_layers(self, prefix: str) -> int:
        return _count(self.shapes, re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.")


def read_checkpoint(file: Path) -> Checkpoint:
    """Raises BaseUnusable: no safetensors file, or no Stable Diffusion 1, 2 or XL with UNet, VAE and text encoder in it."""
    if file.suffix != ".safetensors":
        raise _unusable(
            file, "only .safetensors files are read, since other kinds can run code", "対応形式は .safetensors のみです"
        )
    try:
        header, metadata, _ = read_header(file)
    except BadInput as error:
        raise BaseUnusable(error.text) from None
    shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    family = _family(file, shapes)
    return Checkpoint(file, family, _prediction(family, shapes, metadata), "ztsnr" in shapes, shapes)


def _family(file: Path, shapes: Shapes) -> str:
    missing = [p for p in (UNET, VAE) if not any(name.startswith(p) for name in shapes)]
    family = next((f for f in ("sdxl", "sd2", "sd1") if all(_has(shapes, p) for _, p, _ in TEXT_ENCODERS[f])), "")
    if missing or not family:
        names = ", ".join(missing) or "text encoder"
        raise _unusable(
            file,
            f"it is no whole Stable Diffusion 1, 2 or XL checkpoint ({names} missing)",
            f"SD 1・2・XL の完全なチェックポイントではありません({names} がありません)",
        )
    if shapes.get(UNET + "input_blocks.0.0.weight", (0, 4))[1] != 4:
        raise _unusable(file, "it is made for inpainting or editing", "インペイントまたは画像編集用のモデルです")
    if any(name.startswith("edm_") for name in shapes):  # CosXL, Playground 2.5: trained on noise by another formula
        raise _unusable(file, "it has EDM's noise schedule", "EDM 方式のノイズスケジュールを使うモデルです")
    return family


def _has(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def _prediction(family: str, shapes: Shapes, metadata: dict[str, str]) -> str:
    """The `v_pred` key that v-prediction checkpoints carry, else ModelSpec's word, else the family's usual.

    SD 2.x at 768 pixels predicts v, at 512 epsilon, and no weight tells which: without a word it counts as v, as in diffusers.
    """
    if "v_pred" in shapes:
        return "v_prediction"
    if word := metadata.get("modelspec.prediction_type"):
        return "v_prediction" if word.startswith("v") else "epsilon"
    if "v2-512" in metadata.get("modelspec.architecture", ""):
        return "epsilon"
    return "v_prediction" if family == "sd2" else "epsilon"


def configs(found: Checkpoint, prediction: str = "auto") -> dict[str, dict[str, Any]]:
    """The files of a diffusers folder: part -> config."""
    prediction = found.prediction if prediction == "auto" else prediction
    parts = {"unet": _unet(found, prediction), "vae": _vae(found), "scheduler": _scheduler(found, prediction)}
    for part, prefix, open_clip in TEXT_ENCODERS[found.family]:
        parts[part] = _open_clip(found, prefix) if open_clip else _clip(found, prefix)
    return parts


def _unet(found: Checkpoint, prediction: str) -> dict[str, Any]:
    shapes, sd1 = found.shapes, found.family == "sd1"
    channels: list[int] = []
    depths: list[int] = []
    while (first := f"{UNET}input_blocks.{3 * len(channels) + 1}.") + "0.in_layers.2.weight" in shapes:
        channels.append(shapes[first + "0.in_layers.2.weight"][0])
        depths.append(_count(shapes, re.escape(first) + r"1\.transformer_blocks\.(\d+)\."))
    middle = f"{UNET}middle_block.1."
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": {"sd1": 64, "sdxl": 128}.get(found.family, 96 if prediction == "v_prediction" else 64),
        "block_out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D" if d else "DownBlock2D" for d in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if d else "UpBlock2D" for d in reversed(depths)],
        "cross_attention_dim": shapes[middle + "transformer_blocks.0.attn2.to_k.weight"][1],
        "use_linear_projection": len(shapes[middle + "proj_in.weight"]) == 2,
        "attention_head_dim": 8 if sd1 else [max(1, c // _HEAD) for c in channels],  # how many heads, whatever its name
        "layers_per_block": 2,
        "upcast_attention": found.family == "sd2",
    }
    if found.family == "sdxl":
        text, joined = (
            shapes["conditioner.embedders.1.model.text_projection"][1],
            shapes[UNET + "label_emb.0.0.weight"][1],
        )
        config |= {
            "transformer_layers_per_block": [max(1, d) for d in depths],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (joined - text) // 6,  # six sizes beside the pooled text
            "projection_class_embeddings_input_dim": joined,
        }
    return config


def _vae(found: Checkpoint) -> dict[str, Any]:
    channels: list[int] = []
    while (name := f"{VAE}encoder.down.{len(channels)}.block.0.conv1.weight") in found.shapes:
        channels.append(found.shapes[name][0])
    xl = found.family == "sdxl"
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "latent_channels": found.shapes[VAE + "decoder.conv_in.weight"][1],
        "layers_per_block": 2,
        "sample_size": 1024 if xl else 512,
        "scaling_factor": 0.13025 if xl else 0.18215,
        "force_upcast": True,
    }


def _clip(found: Checkpoint, prefix: str) -> dict[str, Any]:
    start = prefix + ("text_model." if _has(found.shapes, prefix + "text_model.") else "")
    tokens, width = found.shapes[start + "embeddings.token_embedding.weight"]
    return _text_config(
        (tokens, width),
        found.shapes[start + "embeddings.position_embedding.weight"][0],
        found.shapes[start + "encoder.layers.0.mlp.fc1.weight"][0],
        _count(found.shapes, re.escape(start) + r"encoder\.layers\.(\d+)\."),
        "quick_gelu",
    )


def _open_clip(found: Checkpoint, prefix: str) -> dict[str, Any]:
    """SD 2 reads the states before the last layer, which diffusers therefore leaves out; SDXL keeps all."""
    tokens, width = found.shapes[prefix + "token_embedding.weight"]
    return _text_config(
        (tokens, width),
        found.shapes[prefix + "positional_embedding"][0],
        found.shapes[prefix + "transformer.resblocks.0.mlp.c_fc.weight"][0],
        found.open_clip_layers(prefix) - (found.family == "sd2"),
        "gelu",
    )


def _text_config(
    embedding: tuple[int, ...], positions: int, inner: int, layers: int, activation: str
) -> dict[str, Any]:
    tokens, width = embedding
    return {
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD),
        "max_position_embeddings": positions,
        "projection_dim": width,
        "hidden_act": activation,
        "eos_token_id": 2,  # as in the published configs: the pooled text is at the largest token id
    }


def _scheduler(found: Checkpoint, prediction: str) -> dict[str, Any]:
    """As the families' published folders have it."""
    names = {"sd1": "PNDMScheduler", "sd2": "DDIMScheduler", "sdxl": "EulerDiscreteScheduler"}
    config: dict[str, Any] = {
        "_class_name": names[found.family],
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "prediction_type": prediction,
    }
    if found.family == "sd1":
        return config | {"skip_prk_steps": True, "set_alpha_to_one": False}
    if found.family == "sd2":
        config |= {"clip_sample": False, "set_alpha_to_one": False}
    return config | {"rescale_betas_zero_snr": found.zero_snr}


def diffusers_shapes(found: Checkpoint) -> dict[str, Shapes]:
    """Part -> weight name as diffusers has it -> shape; of the UNet and the text encoders."""
    parts: dict[str, Shapes] = {
        "unet": {ldm_names.to_diffusers(n.removeprefix(UNET)): s for n, s in found.shapes.items() if n.startswith(UNET)}
    }
    for part, prefix, open_clip in TEXT_ENCODERS[found.family]:
        inside = {n.removeprefix(prefix): s for n, s in found.shapes.items() if n.startswith(prefix)}
        parts[part] = _open_clip_shapes(inside, found, prefix) if open_clip else inside
    return parts


def _open_clip_shapes(inside: Shapes, found: Checkpoint, prefix: str) -> Shapes:
    """OpenCLIP keeps query, key and value in one matrix."""
    layers = found.open_clip_layers(prefix) - (found.family == "sd2")
    shapes: Shapes = {}
    for name, shape in inside.items():
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)", name)
        packed = re.fullmatch(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", name)
        if packed and int(packed[1]) < layers:
            for one in ("q_proj", "k_proj", "v_proj"):
                where = f"text_model.encoder.layers.{packed[1]}.self_attn.{one}.{packed[2]}"
                shapes[where] = (shape[0] // 3, *shape[1:])
        elif block and int(block[1]) < layers:
            shapes[f"text_model.encoder.layers.{block[1]}.{_OPENCLIP[block[2]]}.{block[3]}"] = shape
        elif not block and not packed and name != "logit_scale":
            shapes[name] = shape
    return shapes


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers the pattern's group takes at the start of names."""
    start = re.compile(pattern)
    return len({found[1] for name in shapes if (found := start.match(name))})


def _unusable(file: Path, en: str, ja: str) -> BaseUnusable:
    return BaseUnusable(
        Text(f"{file.name} cannot be used as a base: {en}.", f"{file.name} は基礎モデルとして使えません: {ja}。")
    )
