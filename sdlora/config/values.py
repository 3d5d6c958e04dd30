"""All settings as one value: parsed and validated from flat or nested values, described for forms and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sdlora.config.adapters import LoraSettings
from sdlora.config.declare import Section
from sdlora.config.inactive import contradictions
from sdlora.config.inputs import DataSettings, ModelSettings
from sdlora.config.results import ExportSettings, SampleSettings
from sdlora.config.training import TrainSettings
from sdlora.core.errors import BadInput
from sdlora.core.text import Text


class Config(Section):
    """All settings of a run, in two levels: section, setting."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    lora: LoraSettings = LoraSettings()
    train: TrainSettings = TrainSettings()
    sample: SampleSettings = SampleSettings()
    export: ExportSettings = ExportSettings()


SECTIONS: dict[str, Text] = {
    "model": Text("Base model", "基礎モデル"),
    "data": Text("Pictures", "画像"),
    "lora": Text("LoRA", "LoRA"),
    "train": Text("Training", "学習"),
    "sample": Text("Samples", "サンプル"),
    "export": Text("File", "ファイル"),
}


@dataclass(frozen=True)
class Setting:
    """One setting as forms, tables and parsers see it. `path` is `section.name`."""

    path: str
    kind: Literal["int", "float", "bool", "str", "choice"]
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    label: Text
    help: Text
    basic: bool  # shown on the first level of the form
    excludes_minimum: bool = False  # the value must be above `minimum`


def settings() -> list[Setting]:
    """Every setting in the order it is declared."""
    return [
        _describe(f"{section}.{name}", field)
        for section, outer in Config.model_fields.items()
        for name, field in outer.default.__class__.model_fields.items()
    ]


def _describe(path: str, field: FieldInfo) -> Setting:
    extra: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]
    choice = get_origin(field.annotation) is Literal
    limits = {name: getattr(m, name) for m in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(m, name)}
    return Setting(
        path=path,
        kind="choice" if choice else field.annotation.__name__,  # type: ignore[arg-type, union-attr]
        default=field.default,
        minimum=limits.get("ge", limits.get("gt")),
        maximum=limits.get("le", limits.get("lt")),
        choices=get_args(field.annotation) if choice else (),
        label=extra["label"],
        help=extra["help"],
        basic=extra["basic"],
        excludes_minimum="gt" in limits,
    )


def values_of(config: Config) -> dict[str, Any]:
    """Flat `{"lora.rank": 16, …}`."""
    return {f"{section}.{name}": v for section, inner in config.model_dump().items() for name, v in inner.items()}


def from_values(values: Mapping[str, Any]) -> Config:
    """Build a `Config` from flat values; missing settings take their defaults.

    Raises:
        BadInput: unknown name, wrong type, out of range or not finite; one sentence per fault.
    """
    nested: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        section, _, name = path.partition(".")
        nested.setdefault(section, {})[name] = value
    return from_nested(nested)


def from_nested(nested: Any) -> Config:
    """Like `from_values`, for `{"lora": {"rank": 16}}`."""
    config = from_stored(nested)
    if sentences := contradictions(values_of(config), {s.path: s.default for s in settings()}):
        raise BadInput(Text(" ".join(t.en for t in sentences), " ".join(t.ja for t in sentences)))
    return config


def from_stored(nested: Any) -> Config:
    """The settings in a `job.json`: each must be valid, but contradictions that an older version did not refuse are read.

    Raises:
        BadInput: see `from_values`.
    """
    try:
        return Config.model_validate(nested)
    except ValidationError as error:
        raise BadInput(_sentences(error)) from None


def _sentences(error: ValidationError) -> Text:
    faults = [(".".join(str(p) for p in e["loc"]) or "settings", _shown(e["input"])) for e in error.errors()]
    by_path = {s.path: s for s in settings()}
    en, ja = [], []
    for path, shown in faults:
        if path not in by_path:
            en.append(f"There is no setting {path!r}.")
            ja.append(f"設定 {path!r} はありません。")
            continue
        s = by_path[path]
        en.append(f"{path} is {shown}, but {_expected(s).en} was expected.")
        ja.append(f"{path} は {shown} ですが、{_expected(s).ja}が必要です。")
    return Text(" ".join(en), " ".join(ja))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_EXPECTED_TEXTS = {
    "model.base": Text(
        "a shorter, non-empty text without control characters", "空でなく制御文字を含まない、より短い文字列"
    ),
    "lora.blocks": Text(
        "names of letters, digits, dots and `*`, with commas between", "英数字・ピリオド・`*` の名前(カンマ区切り)"
    ),
}


def _expected(s: Setting) -> Text:
    if s.kind == "choice":
        choices = ", ".join(s.choices)
        return Text(f"one of {choices}", f"{choices} のいずれか")
    if s.kind == "bool":
        return Text("true or false", "true または false")
    if s.kind == "str":
        return _EXPECTED_TEXTS.get(
            s.path, Text("a shorter text without control characters", "制御文字を含まない、より短い文字列")
        )
    kind = Text("a whole number", "整数") if s.kind == "int" else Text("a number", "数値")
    if s.excludes_minimum:
        return Text(
            f"{kind.en} above {s.minimum:g}, {s.maximum:g} at most",
            f"{s.minimum:g} より大きく {s.maximum:g} 以下の{kind.ja}",
        )
    return Text(f"{kind.en} from {s.minimum} to {s.maximum}", f"{s.minimum} から {s.maximum} までの{kind.ja}")


# Stricter than int() and float(), which accept 1_6, full-width digits and nan.
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_BOOLEANS = {"true": True, "false": False, "on": True, "off": False}


def parse_assignment(text: str) -> tuple[str, Any]:
    """`lora.rank=8` -> ("lora.rank", 8). The value's type follows from the setting, so `--set data.trigger=8` is a text.

    Raises:
        BadInput: no `=`, no such setting, or not a value of its type.
    """
    path, sign, raw = text.partition("=")
    by_path = {s.path: s for s in settings()}
    if not sign or path not in by_path:
        shown = _shown(text)
        raise BadInput(
            Text(
                f"{shown} is no setting. Write section.name=value; `python -m sdlora settings` lists them.",
                f"{shown} は設定として読めません。section.name=value の形で書いてください。一覧は `python -m sdlora settings` で見られます。",
            )
        )
    return path, _parse(by_path[path], raw.strip())


def _parse(s: Setting, raw: str) -> Any:
    if s.kind == "int" and _INTEGER.fullmatch(raw):
        return int(raw)
    if s.kind == "float" and _NUMBER.fullmatch(raw):
        return float(raw)
    if s.kind == "bool" and raw.lower() in _BOOLEANS:
        return _BOOLEANS[raw.lower()]
    if s.kind in ("str", "choice"):
        return raw
    e, shown = _expected(s), _shown(raw)
    raise BadInput(
        Text(f"{s.path} is {shown}, but {e.en} was expected.", f"{s.path} は {shown} ですが、{e.ja}が必要です。")
    )


def to_json(config: Config) -> str:
    """One line, keys in the order of declaration: the same config gives the same bytes."""
    return json.dumps(config.model_dump(), ensure_ascii=False, allow_nan=False)
