"""The rule of names (docs/glossary.md): words that the house once had for what the field has a word for do not come back."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "app.py", *(f for room in ("sdlora", "bench", "base") for f in sorted((ROOT / room).rglob("*.py")))]

# what was said -> what the field says
FIELD = {
    "here": "run",
    "noised": "add_noise",
    "noise_between": "equivalent_noise",
    "asking_for": "target_for_x0",
    "hides_shapes": "structure_weight",
    "with_shapes_held": "distill",
    "in_colours_of": "match_colours",
    "together": "distributed, world",
    "chief": "is_main_process",
    "agreed": "broadcast",
    "add_up": "all_reduce_grads",
    "foresee": "estimate",
    "foreseen": "estimate",
    "aside": "live_weights",
    "lean": "load_as_dtype",
    "plainly": "to_diffusers_state_dict",
    "applied": "weight_patch",
    "applied_here": "needs_weight_patch",
    "look": "theme, snapshot, scan",
    "looks": "image_stats",
    "look_at": "read_job",
    "sight": "scan",
    "crowd": "adaptive_polling",
    "among": "queue_notes",
    "dressed": "inject_head",
    "placed": "with_queue_positions",
    "undisturbed": "log_exceptions",
    "asker": "request",
    "greet": "initialise",
    "greeted": "initialised_for",
    "wish": "request",
    "memory_of": "state_for",
    "remember": "load_state_for",
    "numbers_of": "group_scalars",
    "leaving": "graceful_shutdown",
    "telling": "event_writer",
    "making": "tasks",
    "surgery": "merge, resize",
    "outlook": "eta",
    "kept": "cache",
    "treated": "style_filters",
    "painted": "sampling",
    "unseen": "holdout",
    "known": "users, cache",
}


def names(path: Path) -> set[str]:
    """Every name that a file defines: the module, functions, classes, parameters, variables, fields."""
    found = {path.stem}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_the_field_has_a_word_for_it() -> None:
    wrong = []
    for path in FILES:
        for name in sorted(names(path)):
            word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().strip("_")
            if word in FIELD:
                wrong.append(f"{path.relative_to(ROOT)}: {name} (say {FIELD[word]})")
    assert not wrong
