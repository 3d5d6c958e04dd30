"""The doctor: each finding where it belongs, none for a healthy set, and no comparison of each with each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image, ImageFilter

from sdlora.data import Dataset, check, import_pictures, with_captions
from sdlora.data.checks.image_stats import ImageStats
from sdlora.data.checks.near_duplicates import groups_alike


@pytest.fixture
def healthy(draw, write, datasets):
    sources = [draw(f"{n}.png", n, (160, 128)) for n in range(6)]
    sources += [write(f"{n}.txt", f"picture number {n}") for n in range(6)]
    return import_pictures(sources, datasets)


@pytest.fixture
def add(draw: Callable, healthy: Dataset, datasets) -> Callable[..., Dataset]:
    """The healthy set and one more picture."""

    def more(picture: Image.Image, name: str = "new.png") -> Dataset:
        source = draw(name, 0).parent
        picture.save(source / name)
        (source / "new.txt").write_text("a new one")
        return import_pictures([source], datasets)

    return more


def codes(findings):
    return {finding.code for finding in findings}


def finding(findings, code):
    return next(finding for finding in findings if finding.code == code)


def test_a_healthy_set_has_nothing(healthy):
    assert check(healthy) == []
    assert check(healthy, 128) == []


def test_every_sentence_in_both_languages(three, datasets):
    for one in check(with_captions(three, {0: "x " * 100}, datasets), 512):
        assert one.text.en != one.text.ja
        assert one.fix.en != one.fix.ja


def test_few_pictures_and_empty_captions(three):
    findings = check(three)
    assert codes(findings) == {"few-pictures", "empty-captions"}
    assert finding(findings, "empty-captions").items == ("c.png",)


def test_same_and_long_captions(healthy, datasets):
    same = check(with_captions(healthy, dict.fromkeys(range(6), "a cat"), datasets))
    assert codes(same) == {"same-captions"}
    long = with_captions(healthy, {0: "word " * 75, 1: "word " * 76, 2: "猫" * 76}, datasets)
    assert finding(check(long), "long-captions").items == ("1.png", "2.png")


def test_too_small_for_the_resolution(healthy):
    """Buckets enlarge nothing, so that a picture is small by its area; without them its middle square is enlarged."""
    item = healthy.items[0]
    assert (item.width, item.height) == (160, 128)
    assert codes(check(healthy, 160)) == set()
    findings = check(healthy, 256)
    assert codes(findings) == {"too-small"}
    assert len(findings[0].items) == 6
    assert "trained at their own size (the smallest, 0.png: 160 × 128)" in findings[0].text.en
    squares = check(healthy, 129, buckets=False)
    assert codes(squares) == {"too-small"}
    assert "must be enlarged to 129 pixels" in squares[0].text.en


def test_a_set_given_twice_is_told_shortly(draw, datasets):
    for n in range(14):
        draw(f"a/{n}.png", n)
        source = draw(f"b/{n}.png", n).parent.parent
    findings = [one for one in check(import_pictures([source], datasets)) if one.code == "duplicates"]
    assert [len(one.items) for one in findings] == [2] * 10 + [8]


def test_near_duplicates(add, healthy):
    with Image.open(healthy.path(healthy.items[2])) as picture:
        findings = check(add(picture.convert("RGB").resize((240, 192)).rotate(0), "new.jpg"))
    assert codes(findings) == {"near-duplicates"}
    assert findings[0].items == ("2.png", "new.jpg")


def test_the_same_shape_in_another_colour_is_another_picture(add, healthy):
    with Image.open(healthy.path(healthy.items[2])) as picture:
        red, green, blue = picture.convert("RGB").split()
    assert "near-duplicates" not in codes(check(add(Image.merge("RGB", (blue, green, red)))))


def test_blur(add, healthy):
    with Image.open(healthy.path(healthy.items[0])) as picture:
        blurred = picture.resize((512, 410)).transpose(Image.Transpose.ROTATE_180).filter(ImageFilter.GaussianBlur(6))
    findings = check(add(blurred))
    assert finding(findings, "blurry").items == ("new.png",)
    assert "blurry" not in codes(check(add(Image.new("RGB", (200, 200), "teal"))))


def test_mixed_shapes(add):
    wide = Image.effect_noise((600, 100), 90).convert("RGB")
    mixed = add(wide)
    assert codes(check(mixed, buckets=False)) == {"mixed-shapes"}
    assert codes(check(mixed)) == set(), "each is trained in its own shape"


def test_a_damaged_picture_is_an_error_and_comes_first(three):
    three.path(three.items[0]).write_bytes(b"x")
    findings = check(three)
    assert (findings[0].code, findings[0].severity, findings[0].items) == ("damaged", "error", ("a.png",))


def test_many_pictures_are_compared_in_little_time():
    chance = random.Random(1)
    stats = [ImageStats(chance.getrandbits(64), chance.randbytes(192), False) for _ in range(10_000)]
    stats += [ImageStats(0, bytes(chance.randrange(256) for _ in range(192)), False) for _ in range(500)]
    stats += [
        replace(stats[7], shapes=stats[7].shapes ^ 0b1001),
        ImageStats(0, bytes(192), False),
        ImageStats(1, bytes(192), False),
    ]
    start = time.process_time()
    assert groups_alike(stats) == [[7, 10_500], [10_501, 10_502]]
    assert time.process_time() - start < 5
