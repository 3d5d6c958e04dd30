"""Every setting, once: the form, the command line, presets, `job.json`, the file's metadata and the README are derived from here."""

from sdlora.config.inactive import INACTIVE_RULES, inactive_settings
from sdlora.config.presets import Preset, preset_folder, presets, resolve
from sdlora.config.training import TrainSettings
from sdlora.config.values import (
    SECTIONS,
    Config,
    Setting,
    from_nested,
    from_stored,
    from_values,
    parse_assignment,
    settings,
    to_json,
    values_of,
)

__all__ = [
    "INACTIVE_RULES",
    "SECTIONS",
    "Config",
    "Preset",
    "Setting",
    "TrainSettings",
    "from_nested",
    "from_stored",
    "from_values",
    "inactive_settings",
    "parse_assignment",
    "preset_folder",
    "presets",
    "resolve",
    "settings",
    "to_json",
    "values_of",
]
