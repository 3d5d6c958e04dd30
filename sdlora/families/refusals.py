"""Why a model is no base for a LoRA here: what it is and what to take instead, as the end of a sentence in both languages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sdlora.core.text import Text
from sdlora.families.spec import Configs

INPAINTING = Text(
    "it is made for inpainting (its UNet takes 9 channels). Use the model that it was made from",
    "インペイント用のモデルです(UNet の入力が 9 チャンネル)。元になったモデルを使ってください",
)
EDITING = Text(
    "it is made for editing pictures (its UNet takes 8 channels). Use the model that it was made from",
    "画像編集用のモデルです(UNet の入力が 8 チャンネル)。元になったモデルを使ってください",
)
EDM = Text(
    "it has EDM's noise schedule (as CosXL and Playground 2.5), which cannot be trained here. Use an ordinary SDXL model",
    "EDM 方式のノイズスケジュールを使うモデル(CosXL、Playground 2.5 など)で、学習に対応していません。通常の SDXL モデルを使ってください",
)
GUIDANCE_DISTILLED = Text(
    "it is distilled for few steps and is told the guidance (LCM). Use the model that it was made from; an LCM LoRA can be added when drawing",
    "少ないステップ用に蒸留され、ガイダンスを入力に取るモデル(LCM)です。元になったモデルを使ってください。LCM LoRA は生成時に追加できます",
)
FLOW = Text(
    "it is trained by flow matching, which SD 1.x, 2.x and XL models are not. Use an ordinary one",
    "フローマッチングで学習されたモデルです。通常の SD 1.x・2.x・XL モデルを使ってください",
)
SCALED_FP8 = Text(
    "its weights are fp8 with scales apart (ComfyUI's scaled fp8), which cannot be read here. Use its fp16 or bf16 file, or plain fp8",
    "重みがスケール付き fp8(ComfyUI の scaled fp8)で、読み込みに対応していません。fp16・bf16 版か、通常の fp8 版を使ってください",
)
BAKE_A_VAE = Text(
    "it has no VAE, which turns pictures into latents. Use a file with the VAE in it (baked VAE), or the model's folder in diffusers layout",
    "画像を潜在表現に変える VAE が入っていません。VAE 込みのファイルか、diffusers 形式のフォルダーを使ってください",
)
VAE_NOT_WHOLE = Text(
    "the VAE in it is not whole or not in the usual layout. Use a file with a standard VAE in it",
    "中の VAE が不完全か、通常の形式ではありません。標準的な VAE 込みのファイルを使ってください",
)
ENCODER_LAYOUT = Text(
    "a text encoder in it is not in the usual layout. Use the model's folder in diffusers layout",
    "中のテキストエンコーダーが通常の形式ではありません。diffusers 形式のフォルダーを使ってください",
)
DAMAGED = Text(
    "its parts do not fit together. Get it again, or use its folder in diffusers layout",
    "各部の構成が一致していません。入手し直すか、diffusers 形式のフォルダーを使ってください",
)


def channels(count: int) -> Text:
    """A UNet that takes more than the four channels of a latent."""
    by_channels = {9: INPAINTING, 8: EDITING}
    return by_channels.get(count) or Text(
        f"its UNet takes {count} channels where a latent has 4: it is told more than a picture (depth, or a smaller picture)",
        f"UNet の入力が {count} チャンネルです(通常は 4)。深度や低解像度画像なども入力に取るモデルです",
    )


def vae_channels(count: int) -> Text:
    return Text(
        f"its VAE makes latents of {count} channels, its UNet takes others. Use a file with the VAE of its own family",
        f"VAE の潜在表現が {count} チャンネルで、UNet と合いません。同じ系列の VAE を使ってください",
    )


def prediction(kind: str) -> Text:
    return Text(
        f"its UNet predicts {kind!r}; epsilon and v_prediction can be trained",
        f"UNet の予測方式が {kind!r} です。対応しているのは epsilon と v_prediction です",
    )


def another_kind(kind: str) -> Text:
    """A denoiser that no family here has; `kind` is what its configuration calls it."""
    return Text(
        f"it is a model of another kind ({kind}), which cannot be trained here. Use an SD 1.x, 2.x or XL model",
        f"別の種類のモデル({kind})で、学習に対応していません。SD 1.x・2.x・XL のモデルを使ってください",
    )


@dataclass(frozen=True)
class OtherModel:
    """Something that people take for a base. `tensors` matches the start of a tensor's name that only this has."""

    reason: Text
    tensors: str = r"(?!)"
    folder: Callable[[Configs], bool] = lambda configs: False


def _model(title: str, tensors: str, pipelines: str = r"(?!)") -> OtherModel:
    """A model of another family; `pipelines` matches the start of diffusers' class in `model_index.json`."""
    return OtherModel(
        another_kind(title), tensors, lambda c: bool(re.match(pipelines, str(c["model_index"].get("_class_name"))))
    )


_UNET = r"(model\.diffusion_model\.)?"
_WHOLE = (
    "Use a whole checkpoint: UNet, text encoder and VAE",
    "UNet・テキストエンコーダー・VAE がそろったものを使ってください",
)
# The first that matches counts.
OTHERS = (
    OtherModel(
        Text(
            "it is a LoRA, which is added to a base. Choose the model that it was made for as the base",
            "LoRA です。基礎モデルには、その LoRA の元になったモデルを選んでください",
        ),
        r".*([._]lora[._]?(A|B|down|up|mid)\b|\.lora\.(down|up)\.|hada_w\d|lokr_w\d|lora_linear_layer|oft_blocks)",
    ),
    OtherModel(
        Text(
            "it is a ControlNet, not a base. Use the model that it belongs to",
            "ControlNet です。対応する基礎モデルを使ってください",
        ),
        r"(control_model|controlnet_\w+|input_hint_block)\.",
        lambda configs: str(configs["model_index"].get("_class_name")).startswith("ControlNet"),
    ),
    OtherModel(
        Text(
            "it is a textual inversion (an embedding), not a base",
            "Textual Inversion(埋め込み)で、基礎モデルではありません",
        ),
        r"(emb_params|string_to_param|clip_[gl])$",
    ),
    OtherModel(
        Text(
            "it is a motion module (AnimateDiff), not a base",
            "モーションモジュール(AnimateDiff)で、基礎モデルではありません",
        ),
        r".*motion_modules\.",
    ),
    _model("Stable Diffusion XL refiner", r"(?!)"),
    _model("Flux", _UNET + r"double_blocks\.", "Flux"),
    _model("Stable Diffusion 3", _UNET + r"joint_blocks\.", "StableDiffusion3"),
    _model("AuraFlow", _UNET + r"double_layers\.", "AuraFlow"),
    _model(
        "Stable Cascade",
        _UNET + r"(clip_(txt_)?mapper|effnet_mapper|clip_txt_pooled_mapper)\.",
        "StableCascade|Wuerstchen",
    ),
    _model("Stable Video Diffusion", r"conditioner\.embedders\.\d\.open_clip\.", "StableVideoDiffusion"),
    _model("Qwen-Image", _UNET + r"transformer_blocks\.0\.(img|txt)_mod", "Qwen"),
    _model("Z-Image or Lumina", _UNET + r"(cap_embedder|noise_refiner)\.", "ZImage|Lumina"),
    _model("HunyuanVideo", _UNET + r"txt_in\.individual_token_refiner", "HunyuanVideo"),
    _model("Hunyuan-DiT", _UNET + r"mlp_t5\.", "HunyuanDiT"),
    _model("LTX-Video", _UNET + r"patchify_proj\.", "LTX"),
    _model("PixArt", _UNET + r"(t_block\.1|adaln_single)\.", "PixArt"),
    _model("Wan", _UNET + r"blocks\.0\.self_attn\.norm_q", "Wan"),
    _model("Kolors", r"encoder_hid_proj\.", "Kolors"),
    _model("DeepFloyd IF", r"(?!)", "IF"),
    _model("Kandinsky", r"(?!)", "Kandinsky"),
)
_REFINER = next(other for other in OTHERS if "refiner" in other.reason.en)
_PARTS = {
    "UNet": _UNET + r"(input_blocks|middle_block|output_blocks|down_blocks|mid_block|up_blocks|time_embed)\b",
    "VAE": r"(first_stage_model\.)?(encoder\.(down|mid|conv_in|norm_out)|decoder|quant_conv|post_quant_conv)\b",
    "text encoder": r"(cond_stage_model|conditioner|text_model|encoder\.layers|shared|transformer\.resblocks|token_embedding)\b",
}
_JAPANESE = {"text encoder": "テキストエンコーダー"}
AVERAGED = Text(
    f"it holds averaged weights (EMA) alone. {_WHOLE[0]}", f"平均化した重み(EMA)だけのファイルです。{_WHOLE[1]}"
)
UNKNOWN = Text(
    f"it is no whole Stable Diffusion checkpoint. {_WHOLE[0]}",
    f"Stable Diffusion の完全なチェックポイントではありません。{_WHOLE[1]}",
)


def name_file(names: Iterable[str]) -> Text:
    """What a file that no family reads is, by its tensors' names."""
    found = list(names)
    if any(name.startswith("conditioner.embedders.0.model.") for name in found):  # SDXL has another encoder there
        return _REFINER.reason
    for other in OTHERS:
        if _any(other.tensors, found):
            return other.reason
    there = [part for part, pattern in _PARTS.items() if _any(pattern, found)]
    missing = [part for part in _PARTS if part not in there]
    if len(missing) == 1:
        return BAKE_A_VAE if missing == ["VAE"] else _lacking(missing[0])
    if len(there) == 1:
        return _alone(there[0])
    if not there:
        return AVERAGED if _any(r"model_ema\.", found) else UNKNOWN
    return ENCODER_LAYOUT


def _any(pattern: str, names: list[str]) -> bool:
    start = re.compile(pattern)
    return any(start.match(name) for name in names)


def _lacking(part: str) -> Text:
    en, ja = f"its {part} is not in it", f"{_JAPANESE.get(part, part)} が入っていません"
    return Text(f"{en}. {_WHOLE[0]}", f"{ja}。{_WHOLE[1]}")


def _alone(part: str) -> Text:
    en, ja = f"it is a {part} alone", f"{_JAPANESE.get(part, part)} だけのファイルです"
    return Text(f"{en}. {_WHOLE[0]}", f"{ja}。{_WHOLE[1]}")


def name_folder(configs: Configs) -> Text | None:
    """What a folder in diffusers layout is, where it is a known model of another family."""
    unet = configs.get("unet", {})
    if unet.get("addition_embed_type") == "text_time" and unet.get("cross_attention_dim") == 1280:
        return _REFINER.reason
    return next((other.reason for other in OTHERS if "model_index" in configs and other.folder(configs)), None)
