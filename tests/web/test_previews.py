"""The client of the previewer: pictures made once, newer wishes first, a process that died is started anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sdlora.core.errors import SdloraError
from sdlora.web.previews import Cancelled, Drawing, Drawn, Previews, Wish


@pytest.fixture(scope="module")
def previews(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Previews]:
    made = Previews(tmp_path_factory.mktemp("previews"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def wish(tiny_base: Path) -> Wish:
    return Wish(str(tiny_base), None, "a disc", "", seed=1, steps=3, guidance=2.0, strength=0.0)


def drawn(previews: Previews, wish: Wish, owner: str = "me") -> list[Drawing | Drawn]:
    return list(previews.draw(owner, wish))


def test_steps_then_the_picture_and_only_once(previews: Previews, wish: Wish) -> None:
    first = drawn(previews, wish)
    assert [news.step for news in first[1:-1] if isinstance(news, Drawing)] == [0, 1, 2, 3]
    assert isinstance(first[-1], Drawn)
    with Image.open(first[-1].file) as picture:
        assert picture.size == (32, 32)
    assert drawn(previews, wish) == [first[-1]]  # nothing is drawn twice
    assert {p.name for p in first[-1].file.parent.iterdir()} == {first[-1].file.name}


def test_another_wish_is_another_picture(wish: Wish, tmp_path: Path) -> None:
    lora = tmp_path / "a.safetensors"
    lora.write_bytes(b"one")
    names = {wish.name, replace(wish, seed=2).name, replace(wish, strength=0.5).name, replace(wish, lora=lora).name}
    lora.write_bytes(b"other")
    assert len(names | {replace(wish, lora=lora).name}) == 5


def test_a_newer_wish_ends_the_older_one(previews: Previews, wish: Wish) -> None:
    ended: list[str] = []

    def wait_long() -> None:
        try:
            drawn(previews, replace(wish, steps=150, seed=3))
        except Cancelled:
            ended.append("cancelled")

    older = threading.Thread(target=wait_long)
    older.start()
    while not previews._waiting:
        time.sleep(0.01)
    previews.supersede("somebody else")
    assert older.is_alive()
    previews.supersede("me")
    older.join(60)
    assert ended == ["cancelled"]
    assert isinstance(drawn(previews, replace(wish, seed=4))[-1], Drawn)


def test_a_refusal_is_a_sentence_and_a_dead_process_comes_back(previews: Previews, wish: Wish) -> None:
    with pytest.raises(SdloraError, match="no base model"):
        drawn(previews, replace(wish, base="no such base"))
    process = previews._process
    assert process
    process.kill()
    process.wait()
    assert isinstance(drawn(previews, replace(wish, seed=5))[-1], Drawn)


def test_an_idle_process_is_ended(previews: Previews, wish: Wish) -> None:
    previews.warm_up()
    previews.end_if_idle()
    assert previews._process
    previews._idle_seconds = 0.0
    process = previews._process
    previews.end_if_idle()
    assert process.wait(60) is not None
