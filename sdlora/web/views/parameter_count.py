"""The live line under the settings: the parameters of this LoRA beside a full fine-tune, and how often each picture is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sdlora.adapters.spec import AdapterConfig, count_adapter_parameters
from sdlora.config import Config
from sdlora.core.text import Text
from sdlora.data.buckets import Exposure, exposure, training_size, whole_units
from sdlora.data.holdout import split
from sdlora.families import FAMILIES
from sdlora.families.spec import is_text_encoder
from sdlora.models import bases
from sdlora.web import strings
from sdlora.web.context import Page
from sdlora.web.views import numbers
from sdlora.web.views.render import html

UNDERFILLED = 0.75  # share of a batch from which on down it is said that batches are not full
BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class Cost:
    """Parameters of the parts that these settings train: those of the adapters, and all."""

    trained: int
    full: int


def cost(settings: Config, facts: bases.BaseFacts) -> Cost:
    """A part with learning rate 0 gets no adapters."""
    adapter, train = AdapterConfig(**settings.lora.model_dump()), settings.train
    layout = FAMILIES[facts.family].lora
    rates = {part: train.text_encoder_lr if is_text_encoder(part) else train.unet_lr for part in facts.shapes}
    learning = [part for part in facts.shapes if rates[part] > 0]
    return Cost(
        trained=sum(count_adapter_parameters(layout, part, facts.shapes[part], adapter) for part in learning),
        full=sum(facts.parameters(part) for part in learning),
    )


def view(page: Page, settings: Config, sizes: Sequence[tuple[int, int]]) -> Markup:
    """`sizes`: width and height of each picture of the data set; none where there is no data set yet."""
    facts = bases.facts(bases.resolve_base(settings.model.base))
    lines = [_scale(settings), *([_times_seen(settings, sizes, facts)] if sizes else [])]
    if facts is None:  # the base is not on this machine yet
        return html("parameter_count", page.language, has_cost=False, lines=lines)
    found = cost(settings, facts)
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


def exposure_of(settings: Config, sizes: Sequence[tuple[int, int]], facts: bases.BaseFacts | None) -> Exposure:
    """How often this run shows its pictures, by the trainer's own split and buckets; as for SD 1.5 where the base is not here yet."""
    train, data = settings.train, settings.data
    resolution, unit = (facts.resolution, facts.size_unit) if facts else (512, 64)
    side = whole_units(train.resolution or resolution, unit)
    trained, _ = split(len(sizes), data.held_out, train.seed)
    shapes = [training_size(*sizes[index], side, unit, data.buckets) for index in trained]
    return exposure(shapes, train.batch_size, train.steps * train.gradient_accumulation)


def _times_seen(settings: Config, sizes: Sequence[tuple[int, int]], facts: bases.BaseFacts | None) -> Text:
    found, batch_size, own = exposure_of(settings, sizes, facts), settings.train.batch_size, strings.settings
    sentences = [own.SEEN.fill(times=numbers.times(found.times))]
    if found.pictures_per_batch < UNDERFILLED * batch_size:
        average = f"{found.pictures_per_batch:.1f}"
        sentences.append(own.UNDERFILLED.fill(shapes=found.shapes, average=average, batch=batch_size))
    if found.times < 20:
        sentences.append(own.SEEN_RARELY)
    if found.times > 300:
        sentences.append(own.SEEN_OFTEN)
    return _paragraph(*sentences)


def _paragraph(*sentences: Text) -> Text:
    return Text(
        ". ".join(s.en.rstrip(".") for s in sentences) + ".", "。".join(s.ja.rstrip("。") for s in sentences) + "。"
    )
