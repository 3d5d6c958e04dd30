"""Every setting, once: the form, the command line, presets, `job.json`, the file's metadata and the README are derived from here."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from sdlora.errors import BadInput
from sdlora.text import Text


def setting(default: Any, label: Text, help: Text, *, first: bool = False, **limits: Any) -> Any:
    """Declare one setting. `first` puts it on the first level of the form; `limits` are pydantic's (ge, le, max_length)."""
    return Field(default, json_schema_extra={"label": label, "help": help, "first": first}, **limits)  # type: ignore[dict-item]


class Section(BaseModel):
    # strict: 3.7 is no integer and True is no number, which Gradio's own components let through.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelSettings(Section):
    base: str = setting(
        "emoji",
        Text("Base model", "基礎モデル"),
        Text(
            "The trained model that stays frozen: `emoji` (bundled), a diffusers folder, a `.safetensors` checkpoint, or a hub id such as `owner/name`.",
            "凍結したまま使う事前学習済みモデル。`emoji`(同梱)、diffusers 形式のフォルダー、`.safetensors` のチェックポイント、または `owner/name` 形式のハブ ID。",
        ),
        first=True,
        min_length=1,
        max_length=1024,
    )
    prediction: Literal["auto", "epsilon", "v_prediction"] = setting(
        "auto",
        Text("Prediction type", "予測タイプ"),
        Text(
            "What the base predicts. `auto` reads it from the base's scheduler; set it only for bases that name it wrongly.",
            "基礎モデルが予測する量。`auto` はスケジューラー設定から読み取ります。設定が誤っているモデルでのみ変更してください。",
        ),
    )


class DataSettings(Section):
    trigger: str = setting(
        "",
        Text("Trigger word", "トリガーワード"),
        Text(
            "A word that calls the style in a prompt. It is put in front of every caption that lacks it.",
            "プロンプトでこの画風を呼び出す言葉。含まれていないキャプションの先頭に付けます。",
        ),
        first=True,
        max_length=200,
    )
    flip: bool = setting(
        True,
        Text("Mirror pictures", "左右反転"),
        Text(
            "Show half of the pictures mirrored. Turn off for lettering or faces that are not symmetric.",
            "画像の半分を左右反転して学習します。文字や非対称な顔がある場合はオフにします。",
        ),
    )
    buckets: bool = setting(
        True,
        Text("Aspect-ratio buckets", "アスペクト比バケット"),
        Text(
            "Train each picture in its own shape; nothing is enlarged. Off: the middle square is cut out.",
            "画像を元の縦横比のまま学習します(拡大はしません)。オフにすると中央の正方形を切り出します。",
        ),
    )
    caption_dropout: float = setting(
        0.05,
        Text("Caption dropout", "キャプションドロップアウト"),
        Text(
            "Share of steps that see an empty caption, so that guidance keeps working and the style does not hang on single words.",
            "空のキャプションで学習する割合。ガイダンスを保ち、画風が特定の単語に依存しすぎるのを防ぎます。",
        ),
        ge=0.0,
        le=1.0,
    )
    held_out: float = setting(
        0.1,
        Text("Held-out share", "検証用の割合"),
        Text(
            "Share of the pictures that is never trained on, but used to judge which checkpoint is best. Below 8 pictures none is held out.",
            "学習に使わず、どのチェックポイントが最良かの判定だけに使う画像の割合。8 枚未満では取り分けません。",
        ),
        ge=0.0,
        le=0.5,
    )


class LoraSettings(Section):
    rank: int = setting(
        16,
        Text("Rank", "ランク"),
        Text(
            "How many directions each change may have: the shared side of the A and B matrices. Small = few parameters and a small file; large = more detail, more memory, easier overfitting.",
            "A マトリクスと B マトリクスが共有する次元で、変化の表現力を決めます。小さいほどパラメータとファイルが小さく、大きいほど細部を表現できますが、メモリを使い過学習しやすくなります。",
        ),
        first=True,
        ge=1,
        le=1024,
    )
    alpha: float = setting(
        16.0,
        Text("Alpha", "アルファ"),
        Text(
            "Scaling factor: the update is (alpha / rank) · B·A. Equal to the rank is a good start; half of it learns more gently.",
            "スケーリング係数。更新は (アルファ / ランク)·B·A です。ランクと同じ値が出発点で、半分にすると緩やかに学習します。",
        ),
        first=True,
        gt=0.0,
        le=4096.0,
    )
    targets: Literal["attention", "attention+ff", "attention+ff+conv"] = setting(
        "attention+ff",
        Text("Insertion points", "アダプター挿入点"),
        Text(
            "Which layers get adapters: the query, key, value and output projections of attention; these and the feed-forward layers; or the convolutions too (LoCon).",
            "アダプターを挿入する層。アテンションの Q・K・V・出力投影のみ、それに FFN 層を加えたもの、さらに畳み込み層も加えたもの(LoCon)。",
        ),
    )
    blocks: str = setting(
        "",
        Text("Only these UNet blocks", "対象の UNet ブロック"),
        Text(
            "Parts of layer names, separated by commas, `*` for anything: `up_blocks.0.attentions.1` carries the style of SDXL, `up_blocks.0.attentions.0` the content (B-LoRA). Empty: all.",
            "層の名前の一部をカンマ区切りで指定します(`*` は任意)。SDXL では `up_blocks.0.attentions.1` が画風、`up_blocks.0.attentions.0` が内容を担います(B-LoRA)。空欄ならすべて。",
        ),
        max_length=500,
        pattern=r"^[\w.*, ]*$",
    )
    dropout: float = setting(
        0.0,
        Text("Adapter dropout", "アダプタードロップアウト"),
        Text(
            "Share of the adapters' inputs set to zero while training; a little of it can slow down overfitting.",
            "学習中にアダプターの入力をゼロにする割合。少し入れると過学習を遅らせることがあります。",
        ),
        ge=0.0,
        le=0.9,
    )


class TrainSettings(Section):
    steps: int = setting(
        1000,
        Text("Steps", "ステップ数"),
        Text(
            "Optimizer updates. Steps × batch size / pictures = how often each picture is seen; 50 to 150 times is usual.",
            "オプティマイザの更新回数。ステップ数 × バッチサイズ ÷ 画像数 = 1 枚あたりの学習回数で、50〜150 回が目安です。",
        ),
        first=True,
        ge=1,
        le=1_000_000,
    )
    unet_lr: float = setting(
        1e-4,
        Text("Learning rate", "学習率"),
        Text(
            "How far each step moves the UNet's adapters. Too small: no effect. Too large: the pictures fall apart or repeat the training pictures.",
            "1 ステップで UNet のアダプターを動かす大きさ。小さすぎると効果がなく、大きすぎると絵が崩れたり学習画像を繰り返したりします(過学習)。",
        ),
        first=True,
        ge=0.0,
        le=1.0,
    )
    text_encoder_lr: float = setting(
        0.0,
        Text("Text encoder learning rate", "テキストエンコーダーの学習率"),
        Text(
            "The same for the text encoder's adapters. 0 freezes it: faster, and safe for styles. About half of the learning rate helps characters.",
            "テキストエンコーダー側の学習率。0 で凍結し、速く、画風の学習には安全です。キャラクターには学習率の半分程度が有効です。",
        ),
        first=True,
        ge=0.0,
        le=1.0,
    )
    batch_size: int = setting(
        1,
        Text("Batch size", "バッチサイズ"),
        Text(
            "Pictures in one forward pass. More is steadier and needs more memory.",
            "一度に処理する画像数。多いほど安定しますがメモリを使います。",
        ),
        first=True,
        ge=1,
        le=256,
    )
    gradient_accumulation: int = setting(
        1,
        Text("Gradient accumulation", "勾配累積"),
        Text(
            "Forward passes before one update: the effect of a larger batch without its memory.",
            "1 回の更新までに行う順伝播の回数。メモリを増やさずに大きなバッチと同じ効果が得られます。",
        ),
        ge=1,
        le=1024,
    )
    resolution: int = setting(
        0,
        Text("Resolution", "解像度"),
        Text(
            "Side of the training pictures in pixels. 0 takes the size that the base was trained on.",
            "学習画像の一辺のピクセル数。0 で基礎モデル本来のサイズを使います。",
        ),
        ge=0,
        le=4096,
    )
    schedule: Literal["cosine", "constant", "linear"] = setting(
        "cosine",
        Text("Learning-rate schedule", "学習率スケジュール"),
        Text("How the learning rate falls over the run.", "学習の進行に伴う学習率の下げ方。"),
    )
    warmup_steps: int = setting(
        0,
        Text("Warm-up steps", "ウォームアップ"),
        Text("Steps over which the learning rate rises from zero.", "学習率をゼロから立ち上げるステップ数。"),
        ge=0,
        le=100_000,
    )
    min_snr_gamma: float = setting(
        5.0,
        Text("Min-SNR gamma", "Min-SNR ガンマ"),
        Text(
            "Weighs noise levels so that easy ones do not dominate (arXiv 2303.09556). 5 is usual, 0 turns it off.",
            "簡単なノイズレベルに偏らないよう損失に重みを付けます(arXiv 2303.09556)。通常は 5、0 で無効。",
        ),
        ge=0.0,
        le=100.0,
    )
    weight_decay: float = setting(
        0.01,
        Text("Weight decay", "重み減衰"),
        Text("Pulls the adapters towards zero (AdamW).", "アダプターをゼロへ引き戻す強さ(AdamW)。"),
        ge=0.0,
        le=1.0,
    )
    max_grad_norm: float = setting(
        1.0,
        Text("Gradient clipping", "勾配クリッピング"),
        Text("Longest gradient that is applied; 0 applies all.", "適用する勾配の最大ノルム。0 で無制限。"),
        ge=0.0,
        le=1000.0,
    )
    ema: float = setting(
        0.0,
        Text("Weight averaging (EMA)", "重みの指数移動平均(EMA)"),
        Text(
            "Save a running average of the adapters instead of their last values: 0.99 smooths over about 100 steps, 0 turns it off.",
            "アダプターの最終値ではなく移動平均を保存します。0.99 で約 100 ステップ分をならし、0 で無効です。",
        ),
        ge=0.0,
        le=0.9999,
    )
    gradient_checkpointing: bool = setting(
        False,
        Text("Gradient checkpointing", "勾配チェックポイント"),
        Text(
            "Needs much less memory and about a third more time; the result is the same.",
            "メモリを大きく節約し、時間は約 3 割増えます。結果は同じです。",
        ),
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto",
        Text("Precision", "精度"),
        Text(
            "Number format of the frozen base. `auto`: bf16 where the machine has it, else fp32. Adapters always train in fp32.",
            "凍結した基礎モデルの数値形式。`auto` は対応機では bf16、それ以外は fp32。アダプターは常に fp32 で学習します。",
        ),
    )
    seed: int = setting(
        0,
        Text("Seed", "シード"),
        Text(
            "Start of all random choices: the same seed and settings give the same file.",
            "乱数の種。同じシードと設定なら同じファイルになります。",
        ),
        ge=0,
        le=2**32 - 1,
    )
    save_every: int = setting(
        0,
        Text("Checkpoint every (steps)", "チェックポイント間隔"),
        Text(
            "Steps between saved LoRAs to choose from. 0 saves ten over the run.",
            "選択候補の LoRA を保存する間隔(ステップ)。0 なら全体で 10 回保存します。",
        ),
        ge=0,
        le=1_000_000,
    )
    sample_every: int = setting(
        0,
        Text("Sample every (steps)", "サンプル間隔"),
        Text(
            "Steps between sample pictures. 0 draws five times over the run.",
            "サンプル画像を描く間隔(ステップ)。0 なら全体で 5 回描きます。",
        ),
        ge=0,
        le=1_000_000,
    )
    state_every: int = setting(
        50,
        Text("Save state every (steps)", "状態の保存間隔"),
        Text(
            "Steps between saves of what resuming needs: the most that a crash can cost.",
            "再開に必要な状態を保存する間隔(ステップ)。クラッシュ時に失うのは最大でこのステップ数です。",
        ),
        ge=1,
        le=1_000_000,
    )


class SampleSettings(Section):
    prompts: str = setting(
        "",
        Text("Sample prompts", "サンプル用プロンプト"),
        Text(
            "One prompt a line, drawn while training. Empty: captions of the set are used.",
            "学習中に描くプロンプトを 1 行に 1 つ。空欄ならデータセットのキャプションを使います。",
        ),
        max_length=4000,
    )
    steps: int = setting(
        20,
        Text("Sampling steps", "生成ステップ数"),
        Text("Denoising steps of samples and previews.", "サンプルとプレビューのノイズ除去ステップ数。"),
        ge=1,
        le=150,
    )
    guidance: float = setting(
        6.0,
        Text("Guidance", "ガイダンス"),
        Text(
            "How strictly pictures follow the prompt (classifier-free guidance).",
            "プロンプトへの忠実度(classifier-free guidance)。",
        ),
        ge=1.0,
        le=30.0,
    )


class ExportSettings(Section):
    dtype: Literal["fp16", "bf16", "fp32"] = setting(
        "fp16",
        Text("File precision", "保存精度"),
        Text(
            "Number format in the downloaded file. fp16 loads everywhere.",
            "ダウンロードするファイルの数値形式。fp16 はどこでも読み込めます。",
        ),
    )
    captions: bool = setting(
        True,
        Text("Tag counts in the file", "タグ頻度を書き込む"),
        Text(
            "Write how often each caption tag occurs into the file, as other tools show it. Turn off if captions are private.",
            "キャプションのタグ頻度をファイルに書き込みます(他のツールで表示されます)。非公開にしたい場合はオフにします。",
        ),
    )


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
    first: bool


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
        first=extra["first"],
    )


def values_of(config: Config) -> dict[str, Any]:
    """Flat `{"lora.rank": 16, …}`."""
    return {f"{section}.{name}": v for section, inner in config.model_dump().items() for name, v in inner.items()}


def from_values(values: Mapping[str, Any]) -> Config:
    """Build a `Config` from flat values; settings not named keep their default.

    Raises:
        BadInput: unknown name, wrong type, out of range or not finite; one sentence per fault.
    """
    nested: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        section, _, name = path.partition(".")
        nested.setdefault(section, {})[name] = value
    return from_nested(nested)


def from_nested(nested: Any) -> Config:
    """Like `from_values`, for `{"lora": {"rank": 16}}` as it stands in `job.json`."""
    try:
        config = Config.model_validate(nested)
    except ValidationError as error:
        raise BadInput(_sentences(error)) from None
    if config.train.unet_lr == 0 and config.train.text_encoder_lr == 0:
        raise BadInput(
            Text(
                "train.unet_lr and train.text_encoder_lr are both 0, so nothing would be trained. Set one of them above 0.",
                "train.unet_lr と train.text_encoder_lr がどちらも 0 のため何も学習されません。どちらかを 0 より大きくしてください。",
            )
        )
    return config


def _sentences(error: ValidationError) -> Text:
    faults = [(".".join(str(p) for p in e["loc"]) or "settings", _shown(e["input"])) for e in error.errors()]
    known = {s.path: s for s in settings()}
    en, ja = [], []
    for path, shown in faults:
        if path not in known:
            en.append(f"There is no setting {path!r}.")
            ja.append(f"設定 {path!r} はありません。")
            continue
        s = known[path]
        en.append(f"{path} is {shown}, but {_expected(s).en} was expected.")
        ja.append(f"{path} は {shown} ですが、{_expected(s).ja}が必要です。")
    return Text(" ".join(en), " ".join(ja))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_TEXTS = {
    "model.base": Text("a shorter, non-empty text", "空でない、より短い文字列"),
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
        return _TEXTS.get(s.path, Text("a shorter text", "より短い文字列"))
    kind = Text("a whole number", "整数") if s.kind == "int" else Text("a number", "数値")
    return Text(f"{kind.en} from {s.minimum} to {s.maximum}", f"{s.minimum} から {s.maximum} までの{kind.ja}")


def parse_assignment(text: str) -> tuple[str, Any]:
    """`lora.rank=8` -> ("lora.rank", 8). The value's type follows from the setting, so `--set data.trigger=8` is a text.

    Raises:
        BadInput: no `=`, no such setting, or not a value of its type.
    """
    path, sign, raw = text.partition("=")
    known = {s.path: s for s in settings()}
    if not sign or path not in known:
        raise BadInput(
            Text(
                f"{text!r} is no setting. Write section.name=value; `python -m sdlora settings` lists them.",
                f"{text!r} は設定として読めません。section.name=value の形で書いてください。一覧は `python -m sdlora settings` で見られます。",
            )
        )
    return path, _parse(known[path], raw.strip())


def _parse(s: Setting, raw: str) -> Any:
    try:
        if s.kind == "int":
            return int(raw)
        if s.kind == "float":
            return float(raw)
        if s.kind == "bool":
            return {"true": True, "false": False, "on": True, "off": False}[raw.lower()]
    except (ValueError, KeyError):
        e = _expected(s)
        raise BadInput(
            Text(f"{s.path} is {raw!r}, but {e.en} was expected.", f"{s.path} は {raw!r} ですが、{e.ja}が必要です。")
        ) from None
    return raw


@dataclass(frozen=True)
class Preset:
    """A named start for the settings, read from `presets/<name>.toml`. `on` holds what differs on particular bases."""

    name: str
    title: Text
    summary: Text
    values: dict[str, Any]
    on: dict[str, dict[str, Any]]

    def for_base(self, base: str) -> dict[str, Any]:
        """Flat values for this base; settings that the preset does not name are left out."""
        return {**self.values, **self.on.get(base, {})}


def preset_folder() -> Path:
    """`presets/` beside the package in a checkout, inside it in an installed wheel."""
    inside = Path(__file__).parent / "presets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "presets"


def presets(folder: Path | None = None) -> dict[str, Preset]:
    """All presets by name, in the order that their files say.

    Raises:
        BadInput: a file is not TOML, or names a setting that does not exist or a value out of range.
    """
    found = []
    for path in (folder or preset_folder()).glob("*.toml"):
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            about = content.pop("about")
            on = {base: _flat(nested) for base, nested in content.pop("on", {}).items()}
            preset = Preset(path.stem, Text(**about["title"]), Text(**about["summary"]), _flat(content), on)
            for base in ("", *on):
                from_values(preset.for_base(base))
        except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                Text(
                    f"The preset {path.name} cannot be read: {error}",
                    f"プリセット {path.name} を読み込めません: {error}",
                )
            ) from None
        found.append((about.get("order", 99), preset))
    return {p.name: p for _, p in sorted(found, key=lambda pair: (pair[0], pair[1].name))}


def _flat(nested: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, inner in nested.items() for name, value in inner.items()}


def resolve(preset: str = "style", base: str | None = None, changes: Iterable[tuple[str, Any]] = ()) -> Config:
    """Defaults, then the preset (with what it says for this base), then the changes. Later ones win.

    Raises:
        BadInput: no such preset, or a value that `Config` refuses.
    """
    known = presets()
    if preset not in known:
        names = ", ".join(known)
        raise BadInput(
            Text(
                f"There is no preset {preset!r}. There are: {names}.",
                f"プリセット {preset!r} はありません。使えるのは {names} です。",
            )
        )
    chosen = dict(changes)
    if base is not None:
        chosen["model.base"] = base
    name = chosen.get("model.base", Config().model.base)
    return from_values({**known[preset].for_base(str(name)), **chosen})


def to_json(config: Config) -> str:
    """One line, keys in the order of declaration: the same config gives the same bytes."""
    return json.dumps(config.model_dump(), ensure_ascii=False, allow_nan=False)
