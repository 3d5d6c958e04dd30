"""What resuming needs: a trainer as a state and back, states on disk, and what a state was made from.

On disk a state is written to a temporary folder, synced, hashed and renamed; the newest valid one wins. Overwriting in place
loses the only state to a crash in the middle, so a state is a folder of its own and two are kept.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sdlora.config import values_of
from sdlora.core.errors import BadInput, Diverged
from sdlora.core.events import Emit, Warned
from sdlora.core.files import create, make_folder, move_folder, read_json, remove_folder, sha256_of, to_json
from sdlora.core.safetensors_io import writer
from sdlora.core.text import Text
from sdlora.models.fingerprint import fingerprint
from sdlora.train.optimizer import group_scalars, load_state_for, state_for
from sdlora.train.setup import Request
from sdlora.train.trainer import Trainer

FORMAT = 1
STATES_TO_KEEP = 2
MAY_DIFFER = (  # settings, or sections of them, that may change before a run is resumed
    "train.steps",
    "train.processes",  # which process computes a sample changes rounding only
    "train.save_every",
    "train.sample_every",
    "train.state_every",
    "sample.",
    "export.",
)
PROVENANCE = {
    "base": Text("the base model", "基礎モデル"),
    "settings": Text("the settings", "設定"),
    "pictures": Text("the pictures or their captions", "画像またはキャプション"),
}


@dataclass(frozen=True)
class State:
    """A resumable moment: `step` updates are done. `facts` is plain JSON: threads, skipped steps, gradient scale."""

    step: int
    tensors: dict[str, Tensor]  # adapters and optimizer moments by name
    facts: dict[str, Any]


# A trainer as a state, and back


def capture(trainer: Trainer) -> State:
    """Everything the next step depends on, after `trainer.step` updates. Hold `trainer.weights_lock` while calling it."""
    tensors: dict[str, Tensor] = {f"{name}:average": value for name, value in trainer.ema_weights.items()}
    for name, parameter in trainer.parameters.items():
        tensors[name] = trainer.live_weights.get(name, parameter.data)
        for slot, value in state_for(trainer.optimizer, parameter).items():
            tensors[f"{name}:{slot}"] = value
    facts = {
        "threads": torch.get_num_threads(),
        "skipped": list(trainer.skipped),
        "numbers": group_scalars(trainer.optimizer),
        "scaler": trainer.scaler.state_dict(),
        "pieces": trainer.micro_batches,
        "checkpointing": trainer.base.denoiser.is_gradient_checkpointing,
    }
    return State(trainer.step, tensors, facts)


def to_cpu(state: State) -> State:
    """A copy that training does not change any more."""
    return replace(state, tensors={name: t.detach().to("cpu", copy=True) for name, t in state.tensors.items()})


def restore(trainer: Trainer, state: State) -> None:
    """Put a trainer where `capture` found it: its next step gives the same bytes as in an unbroken run."""
    trainer.step = state.step
    trainer.adapters.load(state.tensors)
    for name, parameter in trainer.parameters.items():
        slots = {k.split(":")[1]: v for k, v in state.tensors.items() if k.startswith(f"{name}:")}
        if "average" in slots:
            trainer.ema_weights[name] = slots.pop("average").to(parameter.device)
        if slots:
            load_state_for(trainer.optimizer, parameter, slots, trainer.fused)
    facts = state.facts
    for group, scalars in zip(trainer.optimizer.param_groups, facts.get("numbers", []), strict=False):
        group.update(scalars)
    trainer.skipped[:], trainer.micro_batches = facts["skipped"], facts["pieces"]
    if facts["checkpointing"]:
        trainer.base.denoiser.enable_gradient_checkpointing()
    if trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(facts["scaler"])


def require_finite(state: State) -> None:
    """Raises Diverged: a state that could only go on diverging must not take the place of a sound one."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in state.tensors.values():
        by_device.setdefault(tensor.device, []).append(torch.isfinite(tensor).all())
    # Joined before it is asked: each answer waits for the GPU, and SDXL has 4,480 tensors.
    if not all(torch.stack(answers).all() for answers in by_device.values()):
        raise Diverged(
            Text(
                f"Training diverged by step {state.step}: weights are not finite any more. Lower the learning rate (to a third), or set precision to fp32 or bf16.",
                f"ステップ {state.step} までに学習が発散しました(重みが有限値ではありません)。学習率を 3 分の 1 に下げるか、精度を fp32 か bf16 にしてください。",
            )
        )


# States on disk


def save(folder: Path, state: State) -> None:
    """Commit a state. After it returns, the state survives a crash or power loss; before, the previous ones still stand."""
    final = folder / f"step-{state.step:06d}"
    if _is_valid(final):
        return
    building = folder / f".step-{state.step:06d}.tmp"
    remove_folder(building)
    remove_folder(final)  # an invalid leftover of the same step
    make_folder(building)
    data = writer.to_bytes(state.tensors)
    create(building / "tensors.safetensors", data)
    manifest = {"format": FORMAT, "step": state.step, "sha256": hashlib.sha256(data).hexdigest(), "facts": state.facts}
    create(building / "manifest.json", to_json(manifest))
    move_folder(building, final)
    for old in _newest_first(folder)[STATES_TO_KEEP:]:
        remove_folder(old)


def newest(folder: Path) -> State | None:
    """The newest valid state; None where none was ever saved.

    Raises:
        BadInput: there are states, but none is valid. Starting at 0 without a word would lose work.
    """
    for leftover in folder.glob(".step-*.tmp") if folder.is_dir() else ():
        remove_folder(leftover)
    candidates = _newest_first(folder)
    for candidate in candidates:
        if _is_valid(candidate):
            manifest = read_json(candidate / "manifest.json")
            return State(manifest["step"], load_file(candidate / "tensors.safetensors"), manifest["facts"])
    if candidates:
        raise BadInput(
            Text(
                "All saved states of this job are damaged, so it cannot go on. Start it again as a new job.",
                "このジョブの保存状態はすべて壊れているため再開できません。新しいジョブとして始めてください。",
            )
        )
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []


def _is_valid(candidate: Path) -> bool:
    try:
        manifest = read_json(candidate / "manifest.json")
        return manifest["format"] == FORMAT and sha256_of(candidate / "tensors.safetensors") == manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


# What a state was made from: resuming with anything else would be another training without a word


def provenance(request: Request, base: Path) -> dict[str, str]:
    """Fingerprints of what the weights depend on. `base` is the base's folder or file."""
    return {
        "base": request.base_fingerprint or (fingerprint(base) if base else ""),
        "settings": _digest({k: v for k, v in values_of(request.settings).items() if not k.startswith(MAY_DIFFER)}),
        "pictures": _digest([[p.sha256, p.caption] for p in request.pictures]),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def restore_threads(state: State) -> None:
    """The state's thread count, since another one adds in another order. Before anything is computed: latents depend on it too."""
    torch.set_num_threads(state.facts["threads"])


def check_provenance(state: State, now: dict[str, str], versions: dict[str, str], emit: Emit) -> None:
    """Refuse to resume with other inputs; warn where versions differ, so that bytes may differ from those of an unbroken run.

    Raises:
        BadInput: base, settings or pictures are not those that the state was made from.
    """
    changed = [title for part, title in PROVENANCE.items() if state.facts["origin"][part] != now[part]]
    if changed:
        raise BadInput(
            Text(
                f"The saved state cannot go on: {' and '.join(t.en for t in changed)} changed since. Put it back, or start a new job.",
                f"保存状態から再開できません({'、'.join(t.ja for t in changed)}が変更されています)。元に戻すか、新しいジョブを始めてください。",
            )
        )
    before = state.facts["versions"]
    other = [
        f"{k} {before.get(k, '-')} → {versions.get(k, '-')}"
        for k in {**before, **versions}
        if before.get(k) != versions.get(k)
    ]
    if other:
        emit(
            Warned(
                "versions",
                f"Not bit-exact: versions changed since the last save ({', '.join(other)}). The training goes on as it should.",
                f"ビット単位では一致しません。前回の保存後にバージョンが変わりました({'、'.join(other)})。学習は問題なく続きます。",
            )
        )
