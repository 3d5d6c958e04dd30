"""The README.md of an exported LoRA: front matter for hubs, then what it is, how to use it, how it was made."""

from __future__ import annotations

import json

from sdlora.jobs.spec import JobSpec, Outcome
from sdlora.library.catalog import LibraryEntry
from sdlora.lora_files.inspect import Inspection

_FRONT_MATTER = ["---", "tags:", "- text-to-image", "- stable-diffusion", "- lora", "- diffusers"]


def model_card(name: str, spec: JobSpec, outcome: Outcome, metadata: dict[str, str]) -> str:
    """The card of a LoRA that was trained here."""
    s, trigger = spec.settings, spec.settings.data.trigger
    base = metadata.get("ss_sd_model_name", "")
    front_matter = [
        *_FRONT_MATTER,
        *([f"instance_prompt: {json.dumps(trigger, ensure_ascii=False)}"] if trigger else []),
    ]
    lines = [
        *front_matter,
        "---",
        f"# {name}",
        "",
        f"A LoRA for {base} ({metadata.get('ss_base_model_version', '')}), trained on {metadata.get('ss_num_train_images', '')} pictures.",
        "",
        f"- Trigger word / トリガーワード: {trigger or '-'}",
        f"- Recommended strength / 推奨強度: {outcome.recommended_strength:g}",
        f"- Rank {s.lora.rank}, alpha {s.lora.alpha:g}, {outcome.best_step} steps, learning rate {s.train.unet_lr:g}",
        f"- sha256 {outcome.sha256}",
        *([f"- {outcome.certificate.en}"] if outcome.certificate.en else []),
        "",
        *_usage(name, outcome.recommended_strength, f"{trigger}, a picture" if trigger else "a picture"),
    ]
    return "\n".join(lines) + "\n"


def file_card(entry: LibraryEntry, inspection: Inspection) -> str:
    """The card of an uploaded or derived LoRA: facts of its header alone."""
    metadata = inspection.metadata
    derived = f"{entry.origin} from {', '.join(entry.sources)}" if entry.sources else ""
    trigger = metadata.get("modelspec.trigger_phrase", "")
    base = " ".join(
        filter(None, (metadata.get("ss_sd_model_name", ""), metadata.get("ss_base_model_version", inspection.family)))
    )
    lines = [
        *_FRONT_MATTER,
        "---",
        f"# {entry.name}",
        "",
        f"A LoRA for {base}.",
        "",
        *([f"- Made here: {derived}"] if derived else []),
        f"- Trigger word / トリガーワード: {trigger or '-'}",
        f"- Format {inspection.format} ({inspection.network}), rank {inspection.rank}, {inspection.dtype}, {inspection.parameters:,} parameters",
        f"- sha256 {inspection.sha256}",
        "",
        *(_usage(entry.name, 1.0, f"{trigger}, a picture" if trigger else "a picture") if entry.file.is_file() else []),
    ]
    return "\n".join(lines) + "\n"


def _usage(name: str, strength: float, prompt: str) -> list[str]:
    return [
        "ComfyUI, Forge, A1111: put the `.safetensors` file (and the `.json` and `.png` beside it) into the folder of LoRAs.",
        "",
        "```python",
        f'pipe.load_lora_weights(".", weight_name="{name}.safetensors", adapter_name="{name}")',
        f'pipe.set_adapters(["{name}"], [{strength:g}])',
        f"pipe({json.dumps(prompt, ensure_ascii=False)})",
        "```",
    ]
