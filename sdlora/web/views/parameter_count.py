"""The live line under the settings: what this LoRA trains beside a full fine-tune, and how often each picture is seen."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from sdlora.adapters.spec import AdapterConfig, count_adapter_parameters
from sdlora.config import Config
from sdlora.core.text import Text
from sdlora.families.spec import is_text_encoder
from sdlora.models import bases
from sdlora.web.context import Page
from sdlora.web.strings import words
from sdlora.web.views import numbers

BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class Cost:
    """Parameters of the parts that these settings train."""

    trained: int
    full: int


def cost(settings: Config) -> Cost | None:
    """None for a base that is not on this machine yet. A part with learning rate 0 gets no adapters."""
    facts = bases.facts(bases.resolve_base(settings.model.base))
    if facts is None:
        return None
    adapter, train = AdapterConfig(**settings.lora.model_dump()), settings.train
    rates = {part: train.text_encoder_lr if is_text_encoder(part) else train.unet_lr for part in facts.shapes}
    learning = [part for part in facts.shapes if rates[part] > 0]
    return Cost(
        trained=sum(count_adapter_parameters(facts.shapes[part], part, adapter) for part in learning),
        full=sum(facts.parameters(part) for part in learning),
    )


def view(page: Page, settings: Config, pictures: int) -> Markup:
    lines = [_scale(settings)]
    if pictures:
        lines.append(_seen(settings, pictures))
    found = cost(settings)
    top = _bars(page, settings, found) if found else Markup("<p>{}</p>").format(page.say(words.BASE_NOT_HERE))
    rest = Markup("").join(Markup("<p>{}</p>").format(page.say(line)) for line in lines)
    return Markup('<div class="comparison" role="status">{}{}</div>').format(top, rest)


def _bars(page: Page, settings: Config, found: Cost) -> Markup:
    share = numbers.share(found.trained, found.full)
    trained, full = numbers.amount(found.trained), numbers.amount(found.full)
    sentence = Text(
        words.TRAINS.en.format(lora=trained.en, full=full.en, share=share),
        words.TRAINS.ja.format(lora=trained.ja, full=full.ja, share=share),
    )
    return Markup(
        '<p class="headline">{}</p>'
        '<div class="versus"><span>{}</span><i style="width:{:.3f}%"></i><b>{}</b>'
        '<span>{}</span><i class="full" style="width:100%"></i><b>{}</b></div>'
        "<p>{}</p>"
    ).format(
        page.say(sentence),
        page.say(words.ONLY_LORA),
        max(0.3, 100 * found.trained / found.full),
        page.say(trained),
        page.say(words.FULL_TUNE),
        page.say(full),
        page.say(words.FILE_SIZE, size=numbers.size(found.trained * BYTES[settings.export.dtype])),
    )


def _scale(settings: Config) -> Text:
    scale = settings.lora.alpha / settings.lora.rank
    shown = f"{scale:.3g}"
    meaning = words.SCALE_ONE if scale == 1 else words.SCALE_SMALL if scale < 1 else words.SCALE_LARGE
    return _joined(words.SCALE.fill(scale=shown), meaning.fill(scale=shown))


def _seen(settings: Config, pictures: int) -> Text:
    train = settings.train
    times = train.steps * train.batch_size * train.gradient_accumulation / pictures
    text = words.SEEN.fill(times=numbers.times(times))
    if times < 20:
        return _joined(text, words.SEEN_RARELY)
    return _joined(text, words.SEEN_OFTEN) if times > 300 else _joined(text)


def _joined(*sentences: Text) -> Text:
    return Text(
        ". ".join(s.en.rstrip(".") for s in sentences) + ".", "。".join(s.ja.rstrip("。") for s in sentences) + "。"
    )
