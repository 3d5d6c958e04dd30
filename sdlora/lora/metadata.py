"""What a LoRA file says about itself, in the keys that other programs read. All values are strings."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdlora import __version__


@dataclass(frozen=True)
class About:
    """Facts of a run that its file carries. `created` is the job's start: a resumed run must write the same bytes."""

    name: str
    architecture: str  # modelspec.architecture
    base_version: str  # ss_base_model_version
    v2: bool
    prediction: str  # "epsilon" or "v_prediction"
    base_name: str
    resolution: int
    created: float  # unix time, seconds
    settings: dict[str, Any]  # flat, as `config.values_of` gives them
    captions: Sequence[str]
    step: int


def metadata(about: About, data: bytes) -> dict[str, str]:
    """Keys of sd-scripts (`ss_`), of its hashes (`sshs_`) and of ModelSpec 1.0.1. `data`: the file's bytes after the header."""
    s = about.settings
    digest = hashlib.sha256(data).hexdigest()
    size = f"{about.resolution}x{about.resolution}"
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(about.created))
    found = {
        "ss_base_model_version": about.base_version,
        "ss_v2": str(about.v2),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(s["lora.rank"]),
        "ss_network_alpha": str(s["lora.alpha"]),
        "ss_network_args": json.dumps({"targets": s["lora.targets"]}),
        "ss_output_name": about.name,
        "ss_sd_model_name": about.base_name,
        "ss_resolution": f"({about.resolution}, {about.resolution})",
        "ss_num_train_images": str(len(about.captions)),
        "ss_training_started_at": str(float(int(about.created))),
        "ss_learning_rate": str(s["train.unet_lr"]),
        "ss_unet_lr": str(s["train.unet_lr"]),
        "ss_text_encoder_lr": str(s["train.text_encoder_lr"]),
        "ss_lr_scheduler": s["train.schedule"],
        "ss_lr_warmup_steps": str(s["train.warmup_steps"]),
        "ss_optimizer": "torch.optim.AdamW",
        "ss_steps": str(about.step),
        "ss_max_train_steps": str(s["train.steps"]),
        "ss_batch_size_per_device": str(s["train.batch_size"]),
        "ss_gradient_accumulation_steps": str(s["train.gradient_accumulation"]),
        "ss_seed": str(s["train.seed"]),
        "ss_min_snr_gamma": str(s["train.min_snr_gamma"]),
        "ss_caption_dropout_rate": str(s["data.caption_dropout"]),
        "ss_clip_skip": "None",
        "sshs_model_hash": digest,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": about.architecture,
        "modelspec.implementation": "diffusers",
        "modelspec.title": about.name,
        "modelspec.resolution": size,
        "modelspec.date": created,
        "modelspec.prediction_type": "v" if about.prediction == "v_prediction" else "epsilon",
        "modelspec.hash_sha256": f"0x{digest}",
        "sdlora.version": __version__,
        "sdlora.settings": json.dumps(_public(s), ensure_ascii=False, sort_keys=True),
    }
    if s["data.trigger"]:
        found["modelspec.trigger_phrase"] = s["data.trigger"]
    if s["export.captions"]:
        found["ss_tag_frequency"] = json.dumps({about.name: _tags(about.captions)}, ensure_ascii=False)
        found["ss_dataset_dirs"] = json.dumps(
            {about.name: {"n_repeats": 1, "img_count": len(about.captions)}}, ensure_ascii=False
        )
    return found


def _public(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without what may name a person's folders, or quote captions that were asked to stay private."""
    hidden = {"model.base"} | (set() if settings["export.captions"] else {"sample.prompts"})
    return {k: v for k, v in settings.items() if k not in hidden}


def _tags(captions: Sequence[str]) -> dict[str, int]:
    counts = Counter(tag.strip() for caption in captions for tag in caption.split(",") if tag.strip())
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
