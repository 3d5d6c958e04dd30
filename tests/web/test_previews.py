"""The client of the previewer: pictures made once, newer requests first, a process that died is started anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sdlora.core.errors import SdloraError
from sdlora.processes.protocol import PreviewRequest
from sdlora.web.previews import Cancelled, Drawing, Drawn, Previews

pytestmark = pytest.mark.usefixtures("forked")


@pytest.fixture(scope="module")
def previews(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Previews]:
    made = Previews(tmp_path_factory.mktemp("previews"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def base_request(tiny_base: Path) -> PreviewRequest:
    return PreviewRequest(str(tiny_base), None, "a disc", "", seed=1, steps=3, guidance=2.0, strength=0.0)


def drawn(previews: Previews, base_request: PreviewRequest, owner: str = "me") -> list[Drawing | Drawn]:
    return list(previews.draw(owner, base_request))


def test_steps_then_the_picture_and_only_once(previews: Previews, base_request: PreviewRequest) -> None:
    first = drawn(previews, base_request)
    assert [news.step for news in first[1:-1] if isinstance(news, Drawing)] == [0, 1, 2, 3]
    assert isinstance(first[-1], Drawn)
    with Image.open(first[-1].file) as picture:
        assert picture.size == (32, 32)
    assert drawn(previews, base_request) == [first[-1]]  # nothing is drawn twice
    assert {p.name for p in first[-1].file.parent.iterdir()} == {first[-1].file.name}


def test_another_request_is_another_picture(base_request: PreviewRequest, tmp_path: Path) -> None:
    lora = tmp_path / "a.safetensors"
    lora.write_bytes(b"one")
    names = {
        base_request.name,
        replace(base_request, seed=2).name,
        replace(base_request, strength=0.5).name,
        replace(base_request, lora=lora).name,
    }
    lora.write_bytes(b"other")
    assert len(names | {replace(base_request, lora=lora).name}) == 5


def test_a_newer_request_ends_the_older_one(previews: Previews, base_request: PreviewRequest) -> None:
    ended: list[str] = []

    def wait_long() -> None:
        try:
            drawn(previews, replace(base_request, steps=150, seed=3))
        except Cancelled:
            ended.append("cancelled")

    older = threading.Thread(target=wait_long)
    older.start()
    while not previews._pending:
        time.sleep(0.01)
    previews.supersede("somebody else")
    assert older.is_alive()
    previews.supersede("me")
    older.join(60)
    assert ended == ["cancelled"]
    assert isinstance(drawn(previews, replace(base_request, seed=4))[-1], Drawn)


def test_a_refusal_is_a_sentence_and_a_dead_process_comes_back(
    previews: Previews, base_request: PreviewRequest
) -> None:
    with pytest.raises(SdloraError, match="no base model"):
        drawn(previews, replace(base_request, base="no such base"))
    process = previews._process
    assert process
    process.kill()
    process.wait()
    assert isinstance(drawn(previews, replace(base_request, seed=5))[-1], Drawn)


def test_an_idle_process_is_ended(previews: Previews, base_request: PreviewRequest) -> None:
    previews.warm_up()
    previews.end_if_idle()
    assert previews._process
    previews._idle_seconds = 0.0
    process = previews._process
    previews.end_if_idle()
    assert process.wait(60) is not None


@pytest.mark.parametrize("shared", [True, False])
def test_memory_is_handed_back_before_a_job_starts_on_the_same_gpu(
    base_request: PreviewRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr("sdlora.web.previews.previews_share_gpu", lambda processes: shared and processes == 1)
    previews, told = Previews(tmp_path), list[str]()

    def wait_long() -> None:
        try:
            drawn(previews, replace(base_request, steps=150, seed=5))
        except (SdloraError, Cancelled) as error:
            told.append(str(error))

    waiting = threading.Thread(target=wait_long)
    waiting.start()
    while not previews._pending:
        time.sleep(0.01)
    process = previews._process
    assert process
    previews.release(1)
    assert (process.poll() is not None) == shared
    previews.supersede("me")
    waiting.join(60)
    assert [text.startswith("A training starts on this GPU") for text in told] == [shared]
    previews.close()
