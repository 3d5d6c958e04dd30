"""The loss chart: small however long the run, sound XML, nothing hidden by one spike."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sdlora.core.events import Follower, Judged, Started, Stepped
from sdlora.core.text import Language
from sdlora.render.loss_chart import loss_chart, smoothed


def follower(count: int, judged: bool = True) -> Follower:
    made = Follower(Path("nowhere"), started=Started(0, count, 10, 1, 1, 2, "cpu", "fp32"))
    made.steps = {k: Stepped(k, 0.3 + 0.1 * math.sin(k), 1e-4, 0.1) for k in range(1, count + 1)}
    if judged:
        made.judged = {k: Judged(k, 0.2 - k / count / 10, 0.2, 0.001) for k in range(count // 5, count + 1, count // 5)}
    return made


@pytest.mark.parametrize("count", [5, 300, 100_000])
@pytest.mark.parametrize("language", ["en", "ja"])
def test_it_is_small_and_sound(count: int, language: Language) -> None:
    svg = loss_chart(follower(count), best=count // 5 * 5, language=language)
    ElementTree.fromstring(svg)
    points = sum(len(p.split()) for p in re.findall(r'points="([^"]*)"', svg))
    assert points <= 400
    assert len(svg) < 20_000


def test_no_steps_no_chart() -> None:
    assert loss_chart(Follower(Path("nowhere"))) == ""


def test_a_loss_that_is_no_number_is_left_out() -> None:
    made = follower(20)
    made.steps[3] = Stepped(3, math.nan, 1e-4, 0.1)
    assert "nan" not in loss_chart(made)


def test_smoothing_starts_at_the_first_value_and_keeps_a_constant() -> None:
    assert [round(loss, 9) for _, loss in smoothed([(k, 2.0) for k in range(50)], 10)] == [2.0] * 50
