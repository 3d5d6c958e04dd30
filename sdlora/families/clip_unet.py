"""What SD 1.x, SD 2.x and SDXL share: a UNet that reads CLIP's states, AutoencoderKL, and names of their layers in LoRA files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sdlora.core.text import Text
from sdlora.families import ldm_names, refusals
from sdlora.families.autoencoder import downscaling
from sdlora.families.spec import Config, Configs

if TYPE_CHECKING:
    from torch import Tensor

    from sdlora.families.base_model import Base
    from sdlora.families.conditioning import Conditioning
    from sdlora.families.objective import Objective

DENOISER = "unet"
CLASSES = {
    "unet": "diffusers.UNet2DConditionModel",
    "vae": "diffusers.AutoencoderKL",
    "text_encoder": "transformers.CLIPTextModel",
    "tokenizer": "transformers.CLIPTokenizer",
}

SCHEDULE: Config = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}

# Module paths inside diffusers' UNet2DConditionModel and transformers' CLIPTextModel. The widest choice is what sd-scripts can
# hold: its networks know these module kinds and drop the rest (conv_in, conv_out, time_embedding) without a word.
_ATTENTION = r"attn[12]\.(to_q|to_k|to_v|to_out\.0)"
_FF = r"ff\.net\.(0\.proj|2)"
_CONV = r"proj_in|proj_out|resnets\.\d+\.(conv1|conv2|conv_shortcut|time_emb_proj)|(downsamplers|upsamplers)\.0\.conv"
UNET_TARGETS = {
    "attention": rf".*\.({_ATTENTION})",
    "attention+ff": rf".*\.({_ATTENTION}|{_FF})",
    "attention+ff+conv": rf".*\.({_ATTENTION}|{_FF}|{_CONV})",
}
_TEXT_ATTENTION = r".*\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"
_TEXT_ALL = r".*\.(self_attn\.(q_proj|k_proj|v_proj|out_proj)|mlp\.(fc1|fc2))"
TEXT_TARGETS = {
    "attention": _TEXT_ATTENTION,
    "attention+ff": _TEXT_ALL,
    "attention+ff+conv": _TEXT_ALL,  # CLIP's text encoder has no convolutions
}
WORDS = (
    *("down_blocks", "up_blocks", "mid_block", "transformer_blocks", "input_blocks", "output_blocks", "middle_block"),
    *("in_layers", "out_layers", "emb_layers", "skip_connection", "time_embed", "label_emb", "to_q", "to_k", "to_v"),
    *("to_out", "proj_in", "proj_out", "time_emb_proj", "conv_shortcut", "conv_in", "conv_out", "time_embedding"),
    *("add_embedding", "linear_1", "linear_2", "text_model", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj"),
    *("text_projection", "conv_norm_out", "cond_proj", "layer_norm1", "layer_norm2", "final_layer_norm"),
    *("token_embedding", "position_embedding"),
)
_BLOCK = (
    rf"attentions\.\d+\.(norm|proj_in|proj_out|transformer_blocks\.\d+\.({_ATTENTION}|{_FF}|norm[123]))|"
    r"resnets\.\d+\.(norm1|norm2|conv1|conv2|conv_shortcut|time_emb_proj)|(downsamplers|upsamplers)\.0\.conv"
)
# Every layer of UNet2DConditionModel and CLIPTextModel that has a weight: what a file can mean by a path.
UNET_LAYERS = (
    rf"((down|up)_blocks\.\d+|mid_block)\.({_BLOCK})|conv_in|conv_out|conv_norm_out|"
    r"(time|add)_embedding\.(linear_1|linear_2|cond_proj)"
)
TEXT_LAYERS = (
    r"text_model\.(encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12]|layer_norm[12])|final_layer_norm|"
    r"embeddings\.(token|position)_embedding)|text_projection"
)
# ComfyUI's names of the models (its own save nodes, OneTrainer), and those of checkpoints in one file.
DOTTED_PREFIXES = {
    "diffusion_model.": "unet",
    "model.diffusion_model.": "unet",
    **{
        f"{prefix}{name}{model}.": part
        for name, part in (("clip_l", "text_encoder"), ("clip_h", "text_encoder"), ("clip_g", "text_encoder_2"))
        for prefix in ("", "text_encoders.")
        for model in ("", ".transformer")
    },
}
KOHYA_UNET = r"(down_blocks|mid_block|up_blocks)_\w+"
KOHYA_TEXT = r"text_model_encoder_layers_\d+_(self_attn_(q|k|v|out)_proj|mlp_fc[12])"


def cross_attention_width(part: str, path: str, shape: Sequence[int]) -> int:
    """Width of the text that this LoRA layer of a UNet reads; 0 for a layer that does not tell. `shape` is that of `down`."""
    return shape[1] if part == DENOISER and "attn2.to_k" in path and len(shape) > 1 else 0


def from_kohya(part: str, path: str) -> str:
    """LDM's block names as diffusers', whichever of the two the file has."""
    return ldm_names.to_diffusers(path) if part == DENOISER else path


def is_plain_unet(unet: Config) -> bool:
    """Whether it is a UNet of images that reads nothing but text and what SDXL adds; Kolors' and DeepFloyd IF's project the text."""
    kind = unet.get("_class_name", "UNet2DConditionModel")
    return kind == "UNet2DConditionModel" and not unet.get("encoder_hid_dim_type")


def fault(configs: Configs) -> Text | None:
    """Why a base of the right layout can still not be trained: other inputs, another noise schedule, other latents."""
    unet, vae, scheduler = configs[DENOISER], configs["vae"], configs["scheduler"]
    kind, channels = str(scheduler.get("_class_name", "")), unet.get("in_channels", 4)
    if channels != 4:
        return refusals.channels(channels)
    if unet.get("time_cond_proj_dim"):
        return refusals.GUIDANCE_DISTILLED
    if kind.startswith("EDM") or "sigma_data" in scheduler or vae.get("latents_mean") or vae.get("latents_std"):
        return refusals.EDM
    if kind.startswith("FlowMatch") or "flow" in prediction(configs):
        return refusals.FLOW
    if prediction(configs) not in ("epsilon", "v_prediction"):
        return refusals.prediction(prediction(configs))
    if vae.get("_class_name", "AutoencoderKL") != "AutoencoderKL" or vae.get("latent_channels", 4) != channels:
        return refusals.vae_channels(vae.get("latent_channels", 4))
    return None


def prediction(configs: Configs) -> str:
    return str(configs["scheduler"].get("prediction_type", "epsilon"))


def resolution(configs: Configs) -> int:
    """Latent size × the VAE's downscaling."""
    size = configs[DENOISER].get("sample_size") or 64
    return int((min(size) if isinstance(size, list) else size) * downscaling(configs["vae"]))


def objective(scheduler: Config, prediction: str) -> Objective:
    from sdlora.families.objective import DiffusionObjective

    return DiffusionObjective.of(scheduler, prediction)


def size_unit(configs: Configs) -> int:
    """Pixels that one value of the UNet's smallest level stands for, along a side."""
    return int(downscaling(configs["vae"]) * 2 ** (len(configs[DENOISER]["block_out_channels"]) - 1))


def tokenize(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Token ids, padded and cut to the tokenizer's own length: (B, T)."""
    ids: Tensor = tokenizer(
        list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def encode(base: Base, texts: Sequence[str]) -> Conditioning:
    """The text encoder's last states after its final norm. Gradients flow where it has adapters."""
    from sdlora.families.conditioning import Conditioning

    ids = tokenize(base.tokenizers["text_encoder"], texts).to(base.parts["text_encoder"].device)
    return Conditioning({"prompt_embeds": base.parts["text_encoder"](ids).last_hidden_state})


def predict(
    base: Base,
    x_t: Tensor,
    t: Tensor,
    text: Conditioning,
    sizes: Sequence[Sequence[int]],
    **added: Mapping[str, Tensor],
) -> Tensor:
    """The UNet's output for x_t (B, C, h, w) at t (B,)."""
    output: Tensor = base.denoiser(
        x_t.to(base.device, base.dtype),
        t.to(base.device),
        encoder_hidden_states=text.tensors["prompt_embeds"].to(base.device),
        return_dict=False,
        **added,
    )[0]
    return output


def without_safety_checker(base: Base) -> dict[str, Any]:
    return {"feature_extractor": None, "safety_checker": None, "requires_safety_checker": False}
