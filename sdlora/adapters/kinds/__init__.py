"""The kinds of adapters, one file each: a module here lists what can be trained as `ADAPTER_KINDS` and what files hold as `FILE_KINDS`."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from sdlora.adapters.kind_spec import AdapterKind, FileKind

_MODULES = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
KINDS: dict[str, AdapterKind] = {kind.name: kind for m in _MODULES for kind in getattr(m, "ADAPTER_KINDS", ())}
FILE_KINDS: dict[str, FileKind] = {kind.name: kind for m in _MODULES for kind in getattr(m, "FILE_KINDS", ())}


def kind_of(endings: Mapping[str, object]) -> FileKind | None:
    """The kind of a file's layer with tensors of these endings; None where it changes no weight."""
    return next((kind for kind in FILE_KINDS.values() if endings.keys() & set(kind.endings)), None)
