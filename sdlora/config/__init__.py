"""Every setting, once: the form, the command line, presets, `job.json`, the file's metadata and the README are derived from here."""

from sdlora.config.inactive import RULES, idle
from sdlora.config.presets import Preset, preset_folder, presets, resolve
from sdlora.config.training import TrainSettings
from sdlora.config.values import (
    SECTIONS,
    Config,
    Setting,
    from_nested,
    from_values,
    parse_assignment,
    settings,
    to_json,
    values_of,
)

__all__ = [
    "RULES",
    "SECTIONS",
    "Config",
    "Preset",
    "Setting",
    "TrainSettings",
    "from_nested",
    "from_values",
    "idle",
    "parse_assignment",
    "preset_folder",
    "presets",
    "resolve",
    "settings",
    "to_json",
    "values_of",
]
