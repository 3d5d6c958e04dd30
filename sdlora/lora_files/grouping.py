"""The names in a LoRA file sorted by layer, whatever program wrote them. No torch, no weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sdlora.adapters.layer_names import Key, parse_layer, split_ending
from sdlora.families import is_layer
from sdlora.families.spec import Part, canonical_path

_IA3 = "on_input"  # beside it a tensor called `weight` is (IA)³'s


@dataclass
class Grouping:
    """A file's tensor names by what they are."""

    layers: dict[tuple[Part, str], dict[str, str]] = field(default_factory=dict)  # layer -> ending -> tensor name
    formats: Counter[str] = field(default_factory=Counter)
    has_ldm_names: bool = False  # flat ones
    unknown_layers: list[str] = field(default_factory=list)  # tensors of layers that no model of a family here has
    others: list[str] = field(default_factory=list)  # tensors of no layer: bundled embeddings
    twice: list[str] = field(default_factory=list)  # tensors that stand in the file under another name, too


def group_names(names: Iterable[str], part: Part | None = None) -> Grouping:
    """`part` is that of a PEFT folder, whose file does not say it."""
    found, names = Grouping(), list(names)
    keys: dict[str, Key] = {}
    factors = {stem for name in names if name.endswith(f".{_IA3}") for stem in [name.removesuffix(f".{_IA3}")]}
    for name in names:
        split = split_ending(name)
        stem = name.removesuffix(".weight")
        if split is None and stem != name and stem in factors:
            split = stem, "weight"
        if split is None:
            found.others.append(name)
            continue
        stem, ending = split
        key = keys.get(stem) or keys.setdefault(stem, parse_layer(stem))
        where = (part, canonical_path(part, key.path)) if part and key.format == "peft" else (key.part, key.path)
        if not is_layer(*where):
            found.unknown_layers.append(name)
            continue
        tensors = found.layers.setdefault(where, {})
        if ending in tensors:
            found.twice.append(name)
        tensors[ending] = name
        found.formats[key.format] += 1
        found.has_ldm_names |= key.is_ldm and key.format == "kohya"
    return found
