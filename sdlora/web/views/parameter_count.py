"""The live line under the settings: the parameters of this LoRA beside a full fine-tune, and how often each picture is seen."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from sdlora.adapters.spec import AdapterConfig, count_adapter_parameters
from sdlora.config import Config
from sdlora.core.text import Text
from sdlora.families import FAMILIES
from sdlora.families.spec import is_text_encoder
from sdlora.models import bases
from sdlora.web import strings
from sdlora.web.context import Page
from sdlora.web.views import numbers
from sdlora.web.views.render import html

BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class Cost:
    """Parameters of the parts that these settings train: those of the adapters, and all."""

    trained: int
    full: int


def cost(settings: Config) -> Cost | None:
    """None for a base that is not on this machine yet. A part with learning rate 0 gets no adapters."""
    facts = bases.facts(bases.resolve_base(settings.model.base))
    if facts is None:
        return None
    adapter, train = AdapterConfig(**settings.lora.model_dump()), settings.train
    layout = FAMILIES[facts.family].lora
    rates = {part: train.text_encoder_lr if is_text_encoder(part) else train.unet_lr for part in facts.shapes}
    learning = [part for part in facts.shapes if rates[part] > 0]
    return Cost(
        trained=sum(count_adapter_parameters(layout, part, facts.shapes[part], adapter) for part in learning),
        full=sum(facts.parameters(part) for part in learning),
    )


def view(page: Page, settings: Config, pictures: int) -> Markup:
    lines = [_scale(settings), *([_times_seen(settings, pictures)] if pictures else [])]
    found = cost(settings)
    if found is None:
        return html("parameter_count", page.language, has_cost=False, lines=lines)
    return html(
        "parameter_count",
        page.language,
        has_cost=True,
        trained=numbers.amount(found.trained),
        full=numbers.amount(found.full),
        share=numbers.share(found.trained, found.full),
        percent=f"{max(0.3, 100 * found.trained / found.full):.3f}",
        size=numbers.size(found.trained * BYTES[settings.export.dtype]),
        lines=lines,
    )


def _scale(settings: Config) -> Text:
    scale = settings.lora.alpha / settings.lora.rank
    own = strings.settings
    meaning = own.SCALE_ONE if scale == 1 else own.SCALE_SMALL if scale < 1 else own.SCALE_LARGE
    return _paragraph(own.SCALE.fill(scale=f"{scale:.3g}"), meaning.fill(scale=f"{scale:.3g}"))


def _times_seen(settings: Config, pictures: int) -> Text:
    train = settings.train
    times = train.steps * train.batch_size * train.gradient_accumulation / pictures
    text = strings.settings.SEEN.fill(times=numbers.times(times))
    if times < 20:
        return _paragraph(text, strings.settings.SEEN_RARELY)
    return _paragraph(text, strings.settings.SEEN_OFTEN) if times > 300 else _paragraph(text)


def _paragraph(*sentences: Text) -> Text:
    return Text(
        ". ".join(s.en.rstrip(".") for s in sentences) + ".", "。".join(s.ja.rstrip("。") for s in sentences) + "。"
    )
