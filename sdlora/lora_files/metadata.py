"""What a LoRA file says about itself, in the keys that other programs read. All values are strings."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdlora import __version__
from sdlora.adapters.spec import AdapterConfig
from sdlora.data.buckets import batches_per_epoch
from sdlora.data.captions import split_tags
from sdlora.families import FAMILIES
from sdlora.families.spec import LoraMetadata
from sdlora.lora_files.layers import Lora

# What sd-scripts keeps with --no_metadata: what loaders need, and nothing of the pictures or the person.
MINIMAL = (
    *("ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args"),
    *("sshs_model_hash", "modelspec.sai_model_spec", "modelspec.architecture", "modelspec.implementation"),
    *("modelspec.title", "modelspec.resolution", "modelspec.prediction_type", "modelspec.hash_sha256"),
)
MOST_TAGS = 1_000  # in the header
_LEGACY = (0x100000, 0x110000)  # the bytes of a file that its oldest hash is of; most LoRAs end before
_OPTIMIZERS = {
    "adamw": "torch.optim.AdamW",
    "adamw8bit": "bitsandbytes.optim.AdamW8bit",
    "prodigy": "prodigyopt.Prodigy",
    "adafactor": "transformers.Adafactor",
}
_MIXED = {"fp32": "no", "auto": "auto"}


@dataclass(frozen=True)
class RunMetadata:
    """Facts of a run that its file carries. `created` is the job's start: a resumed run must write the same bytes.

    The end of a training is in no file for the same reason.
    """

    name: str
    family: LoraMetadata
    prediction: str  # a key of the mappings in `family`
    base_name: str
    resolution: int
    created: float  # unix time, seconds
    settings: dict[str, Any]  # flat, as `config.values_of` gives them
    captions: Sequence[str]
    step: int
    buckets: Mapping[tuple[int, int], int] = field(default_factory=dict)  # (width, height) in pixels -> pictures
    strength: float | None = None  # the recommended one, once it is known
    thumbnail: bytes = b""  # a small JPEG
    zero_snr: bool = False  # whether the base's last noise level has no signal left


def metadata(about: RunMetadata) -> dict[str, str]:
    """Keys of sd-scripts (`ss_`) and of ModelSpec 1.0.1, and our own; `with_hashes` and `network_metadata` add the rest."""
    found = _training(about) | _modelspec(about)
    found["sdlora.version"] = __version__
    found["sdlora.settings"] = json.dumps(_public(about.settings), ensure_ascii=False, sort_keys=True)
    if about.strength is not None:
        found["sdlora.recommended_strength"] = f"{about.strength:g}"
    if about.settings["export.captions"]:
        found["ss_tag_frequency"] = json.dumps({about.name: _tags(about.captions)}, ensure_ascii=False)
    return found


def _training(about: RunMetadata) -> dict[str, str]:
    s = about.settings
    accumulation, batches = (
        s["train.gradient_accumulation"],
        batches_per_epoch(about.buckets.values(), s["train.batch_size"]),
    )
    batches = max(1, batches)
    return {
        "ss_base_model_version": about.family.base_version[about.prediction],
        "ss_v2": str(about.family.v2),
        "ss_output_name": about.name,
        "ss_sd_model_name": about.base_name,
        "ss_resolution": f"({about.resolution}, {about.resolution})",
        "ss_num_train_images": str(len(about.captions)),
        "ss_num_reg_images": "0",
        "ss_num_batches_per_epoch": str(batches),
        "ss_training_started_at": str(float(int(about.created))),
        "ss_learning_rate": str(s["train.unet_lr"]),
        "ss_unet_lr": str(s["train.unet_lr"]),
        "ss_text_encoder_lr": str(s["train.text_encoder_lr"]),
        "ss_lr_scheduler": s["train.schedule"],
        "ss_lr_warmup_steps": str(s["train.warmup_steps"]),
        "ss_optimizer": _OPTIMIZERS[s["train.optimizer"]],
        "ss_steps": str(about.step),
        "ss_max_train_steps": str(s["train.steps"]),
        "ss_epoch": str(about.step * accumulation // batches),
        "ss_num_epochs": str(-(-s["train.steps"] * accumulation // batches)),
        "ss_batch_size_per_device": str(s["train.batch_size"]),
        "ss_total_batch_size": str(s["train.batch_size"] * s["train.gradient_accumulation"]),
        "ss_gradient_accumulation_steps": str(s["train.gradient_accumulation"]),
        "ss_gradient_checkpointing": str(s["train.gradient_checkpointing"]),
        "ss_max_grad_norm": str(s["train.max_grad_norm"]),
        "ss_mixed_precision": _MIXED.get(s["train.precision"], s["train.precision"]),
        "ss_seed": str(s["train.seed"]),
        "ss_min_snr_gamma": str(s["train.min_snr_gamma"]),
        "ss_noise_offset": str(s["train.noise_offset"] or None),
        "ss_shuffle_caption": str(s["data.shuffle"]),
        "ss_keep_tokens": str(s["data.keep_tokens"] if s["data.shuffle"] else 0),
        "ss_zero_terminal_snr": str(about.zero_snr),
        "ss_loss_type": "l2",
        "ss_network_dropout": str(s["lora.dropout"]),
        "ss_caption_dropout_rate": str(s["data.caption_dropout"]),
        "ss_clip_skip": "None",
        "ss_cache_latents": "True",
        "ss_bucket_info": _buckets(about.buckets),
        "ss_dataset_dirs": json.dumps(
            {about.name: {"n_repeats": 1, "img_count": len(about.captions)}}, ensure_ascii=False
        ),
    }


def _buckets(buckets: Mapping[tuple[int, int], int]) -> str:
    rows = {str(k): {"resolution": list(size), "count": buckets[size]} for k, size in enumerate(sorted(buckets))}
    return json.dumps({"buckets": rows, "mean_img_ar_error": 0.0})


def _modelspec(about: RunMetadata) -> dict[str, str]:
    trigger = about.settings["data.trigger"]
    hints = [f"Write {trigger} into the prompt."] if trigger else []
    hints += [f"Recommended strength: {about.strength:g}."] if about.strength is not None else []
    found = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": about.family.architecture[about.prediction],
        "modelspec.implementation": about.family.implementation,
        "modelspec.title": about.name,
        "modelspec.resolution": f"{about.resolution}x{about.resolution}",
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(about.created)),
        "modelspec.description": f"LoRA for {about.base_name}, trained on {len(about.captions)} pictures for {about.step} steps",
        "modelspec.prediction_type": "v" if about.prediction == "v_prediction" else "epsilon",
        "modelspec.timestep_range": "0,1000",
    }
    if trigger:
        found["modelspec.trigger_phrase"] = trigger
    if hints:
        found["modelspec.usage_hint"] = " ".join(hints)
    if about.thumbnail:
        found["modelspec.thumbnail"] = "data:image/jpeg;base64," + base64.b64encode(about.thumbnail).decode()
    return found


def network_metadata(lora: Lora) -> dict[str, str]:
    """What loaders go by, told by the layers themselves. Keys that the file has already and that no layer tells stay as they are."""
    convolutions = [x for x in lora.layers if x.down.ndim == 4 and tuple(x.down.shape[2:]) != (1, 1)]
    ranks, alphas = {x.rank for x in lora.layers}, {x.alpha for x in lora.layers}
    args = {}
    if convolutions:
        args = {"conv_dim": str(convolutions[0].rank), "conv_alpha": str(convolutions[0].alpha)}
    found = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(*ranks) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": str(*alphas) if len(alphas) == 1 else "Dynamic",
        "ss_network_args": json.dumps(args),
    }
    family = FAMILIES.get(lora.family)
    if family and "ss_base_model_version" not in lora.metadata:
        said = "v_prediction" if lora.metadata.get("modelspec.prediction_type") == "v" else "epsilon"
        versions = family.metadata.base_version
        found["ss_base_model_version"] = versions.get(said) or next(iter(versions.values()))
    if family and "ss_v2" not in lora.metadata:
        found["ss_v2"] = str(family.metadata.v2)
    return found


def lycoris_metadata(config: AdapterConfig) -> dict[str, str]:
    """The same for a kind that is no plain LoRA: LyCORIS' algorithm, as its own files name it."""
    rank, (algorithm, *options) = config.rank, (config.adapter_kind.network_args or {}).items()
    args = dict([algorithm, ("conv_dim", str(rank)), ("conv_alpha", str(config.alpha_of(rank))), *options])
    return {
        "ss_network_module": "lycoris.kohya",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(config.alpha_of(rank)),
        "ss_network_args": json.dumps(args),
    }


def with_hashes(found: Mapping[str, str], data: bytes, trained: bytes) -> dict[str, str]:
    """With the hashes of `data`, the file's bytes after the header: A1111's, ModelSpec's and the one of its first extension.

    `trained` is the header with the `ss_` keys alone: sd-scripts takes the oldest hash of a file that has no others.
    """
    digest = hashlib.sha256(data).hexdigest()
    first, last = (max(0, place - len(trained)) for place in _LEGACY)
    inside = trained[slice(*_LEGACY)] + data[first:last]
    return {
        **found,
        "sshs_model_hash": digest,
        "sshs_legacy_hash": hashlib.sha256(inside).hexdigest()[:8],
        "modelspec.hash_sha256": f"0x{digest}",
    }


def minimal(found: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in found.items() if k in MINIMAL}


def _public(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without what may name a person's folders, or quote captions that were asked to stay private."""
    hidden = {"model.base"} | (set() if settings["export.captions"] else {"sample.prompts"})
    return {k: v for k, v in settings.items() if k not in hidden}


def _tags(captions: Sequence[str]) -> dict[str, int]:
    """The most frequent: all those of 100,000 pictures would be a header that no reader takes."""
    counts = Counter(tag for caption in captions for tag in split_tags(caption))
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_TAGS])
