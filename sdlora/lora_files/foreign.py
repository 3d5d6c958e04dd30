"""Files that are no LoRA for a family here, told by what they say about themselves and by their tensors' names: one table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.families import FAMILIES

# Entries in which programs name the model that a LoRA was trained for.
_METADATA = ("ss_base_model_version", "modelspec.architecture", "ss_network_module", "modelspec.implementation")


@dataclass(frozen=True)
class ForeignModel:
    """A model that LoRAs are made for elsewhere. The patterns are searched, whatever the case."""

    title: str
    metadata: str = r"(?!)"
    names: str = r"(?!)"  # of any tensor


@dataclass(frozen=True)
class OtherFile:
    """A kind of file that is no LoRA. `names` must be found in a tensor's name, and `never` in none."""

    title: Text  # with its article
    advice: Text
    names: str
    never: str = r"(?!)"


# By their metadata all are told apart. By names, some share their layers: those are named together.
MODELS = (
    ForeignModel("Stable Diffusion XL's refiner", r"refiner"),
    ForeignModel("Kolors", r"kolors", r"encoder_hid_proj|chatglm"),
    ForeignModel("AnimateDiff", r"animatediff", r"motion_modules|temporal_transformer"),
    ForeignModel("Stable Cascade", r"cascade|wuerstchen", r"lora_prior_|clip_txt_mapper"),
    ForeignModel("Stable Diffusion 3", r"sd_?3|stable-diffusion-3", r"joint_blocks|context_block"),
    ForeignModel("Chroma", r"chroma", r"distilled_guidance_layer"),
    ForeignModel("HunyuanVideo", r"hunyuan_?-?video|framepack", r"individual_token_refiner|img_mlp[._]fc\d"),
    ForeignModel("Hunyuan-DiT", r"hunyuan", r"attn1[._]Wqkv|attn2[._]kv_proj"),
    ForeignModel("AuraFlow", r"aura_?flow", r"joint_transformer_blocks"),
    ForeignModel("HiDream", r"hidream", r"(double|single)_stream_blocks"),
    ForeignModel("Flux", r"flux", r"double_blocks|single_blocks|single_transformer_blocks"),
    ForeignModel("Qwen-Image", r"qwen", r"(img|txt)_(mlp|mod)[._]"),
    ForeignModel("Z-Image", r"z_?-?image"),
    ForeignModel("Lumina", r"lumina"),
    ForeignModel("Z-Image or Lumina", names=r"(noise|context)_refiner|layers[._]\d+[._](attention|feed_forward)[._]"),
    ForeignModel("PixArt", r"pixart", r"adaln_single|blocks[._]\d+[._]cross_attn[._](q_linear|kv_linear)"),
    ForeignModel("Wan", r"wan_?-?(video|\d)|lora_wan|\bwan\b", r"blocks[._]\d+[._](self_attn|cross_attn|ffn)[._]"),
    ForeignModel("LTX-Video", r"ltx"),
    ForeignModel("Mochi", r"mochi"),
    ForeignModel("CogVideoX", r"cogvideo"),
    ForeignModel("Sana", r"\bsana"),
    ForeignModel("Cosmos", r"cosmos"),
    ForeignModel("OmniGen", r"omnigen"),
    ForeignModel(
        "another kind of model (a transformer)",
        names=r"(^|[._])(transformer_blocks|blocks|layers)[._]\d+[._]|encoder[._]block[._]\d+[._]layer",
    ),
)
_BASE = Text("give it as --base", "--base に指定してください")
_ONLY_LORAS = Text("only LoRA files are read here", "ここで読めるのは LoRA ファイルだけです")
OTHER_FILES = (
    OtherFile(
        Text("a ControlNet", "ControlNet"), _ONLY_LORAS, r"lora_controlnet|control_model\.|controlnet_|input_hint_block"
    ),
    OtherFile(Text("an IP-Adapter", "IP-Adapter"), _ONLY_LORAS, r"^ip_adapter\.|^image_proj\."),
    OtherFile(
        Text("a whole checkpoint", "モデル全体のチェックポイント"),
        _BASE,
        r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.",
    ),
    OtherFile(
        Text("a textual inversion (an embedding)", "Textual Inversion(埋め込み)"),
        _ONLY_LORAS,
        r"^(emb_params|string_to_param.*|clip_[lgh](_out)?|t5|<.*>)$|string_to_param",
    ),
    OtherFile(
        Text("a VAE", "VAE"),
        _ONLY_LORAS,
        r"^(encoder|decoder|post_quant_conv|quant_conv)\.",
        r"text_model|transformer_blocks",
    ),
    OtherFile(
        Text("a hypernetwork", "ハイパーネットワーク"),
        _ONLY_LORAS,
        r"^\d+\.\d+\.linear\d*\.|^(320|640|768|1024|1280)\.",
    ),
    OtherFile(
        Text("a model's own weights", "モデルの重みそのもの"),
        _BASE,
        r"^(unet\.)?(down_blocks|mid_block|up_blocks|conv_in|input_blocks|double_blocks|joint_blocks|text_model)\b.*\.(weight|bias)$",
    ),
)


def detect_model(names: Iterable[str], metadata: Mapping[str, str]) -> str | None:
    """The model that a LoRA is for, where it is none of a family here: by the metadata, else by the names given."""
    said = " ".join(metadata.get(key, "") for key in _METADATA)
    by_metadata = next((model.title for model in MODELS if re.search(model.metadata, said, re.IGNORECASE)), None)
    if by_metadata:
        return by_metadata
    names = list(names)
    return next((m.title for m in MODELS if any(re.search(m.names, name, re.IGNORECASE) for name in names)), None)


def refuse_foreign_lora(file: str, names: Iterable[str], metadata: Mapping[str, str]) -> None:
    """Raises BadInput where the file is a LoRA for another model. `names` are those of layers that no family here has."""
    title = detect_model(names, metadata)
    if title:
        ours = ", ".join(family.short_title for family in FAMILIES.values())
        raise BadInput(
            Text(
                f"{file} is a LoRA for {title}; only those for {ours} can be used here.",
                f"{file} は {title} 用の LoRA です。使えるのは {ours} 用だけです。",
            )
        )


def refuse_no_lora(file: str, names: Iterable[str]) -> None:
    """Raises BadInput, naming what else the file is."""
    names = list(names)
    for other in OTHER_FILES:
        found = any(re.search(other.names, name) for name in names)
        if found and not any(re.search(other.never, name) for name in names):
            raise BadInput(
                Text(
                    f"{file} is {other.title.en}, not a LoRA: {other.advice.en}.",
                    f"{file} は LoRA ではなく{other.title.ja}です。{other.advice.ja}。",
                )
            )
    raise BadInput(
        Text(
            f"{file} holds {len(names)} tensors, but none by the name of a LoRA's (kohya, diffusers, PEFT, LyCORIS, ComfyUI).",
            f"{file} には {len(names)} 個のテンソルがありますが、LoRA の名前(kohya、diffusers、PEFT、LyCORIS、ComfyUI)のものはありません。",
        )
    )
