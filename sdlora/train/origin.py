"""What a state was made of: going on from it with anything else would be another training without a word."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from sdlora.config import values_of
from sdlora.core.errors import BadInput
from sdlora.core.events import Emit, Warned
from sdlora.core.text import Text
from sdlora.models.bases import fingerprint
from sdlora.train.setup import Run
from sdlora.train.state import State

FREE = (
    "train.steps",
    "train.processes",  # who computes a sample is rounding
    "train.save_every",
    "train.sample_every",
    "train.state_every",
    "sample.",
    "export.",
)  # may differ
PARTS = {
    "base": Text("the base model", "基礎モデル"),
    "settings": Text("the settings", "設定"),
    "pictures": Text("the pictures or their captions", "画像またはキャプション"),
}


def origin(run: Run) -> dict[str, str]:
    """Fingerprints of what the weights depend on."""
    request = run.request
    base = run.trainer.base.path
    return {
        "base": request.base_fingerprint or (fingerprint(base) if base else ""),
        "settings": _digest({k: v for k, v in values_of(request.settings).items() if not k.startswith(FREE)}),
        "pictures": _digest([[p.sha256, p.caption] for p in request.pictures]),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def use_threads_of(saved: State) -> None:
    """Another thread count adds in another order. Before anything is computed: latents and judgements depend on it too."""
    torch.set_num_threads(saved.facts["threads"])


def check(run: Run, saved: State, emit: Emit) -> None:
    """Refuse a state of something else; tell where the bytes may differ from those of an unbroken run.

    Raises:
        BadInput: base, settings or pictures are not those that the state was made of.
    """
    other = [PARTS[part] for part in PARTS if saved.facts["origin"][part] != run.origin[part]]
    if other:
        raise BadInput(
            Text(
                f"The saved state cannot go on: {' and '.join(t.en for t in other)} changed since. Put it back, or start a new job.",
                f"保存状態から再開できません({'、'.join(t.ja for t in other)}が変更されています)。元に戻すか、新しいジョブを始めてください。",
            )
        )
    before, after = saved.facts["versions"], run.request.versions
    changed = [
        f"{k} {before.get(k, '-')} → {after.get(k, '-')}" for k in {**before, **after} if before.get(k) != after.get(k)
    ]
    if changed:
        emit(
            Warned(
                "versions",
                f"Not bit-exact: versions changed since the last save ({', '.join(changed)}). The training goes on as it should.",
                f"ビット単位では一致しません。前回の保存後にバージョンが変わりました({'、'.join(changed)})。学習は問題なく続きます。",
            )
        )
