"""The warm process that draws: keeps what it loaded, cancels within a step, answers faults with sentences."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sdlora.processes.previewer import Previewer
from sdlora.processes.protocol import PreviewJob, PreviewRequest
from sdlora.render import renderer
from sdlora.render.renderer import Renderer
from tests.test_lora import about, adapted, fill, load


class Client:
    """Speaks the previewer's JSON lines."""

    def __init__(self, base: Path, folder: Path):
        self.base, self.folder = base, folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sdlora.processes.previewer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, **message: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, id: str, **changes: Any) -> None:
        request = {"base": str(self.base), "lora": None, "prompt": "red disc", "negative": "", "seed": 1, "steps": 3}
        self.send(
            **{**request, "guidance": 6.0, "strength": 1.0, "id": id, "out": str(self.folder / f"{id}.png"), **changes}
        )

    def answer(self) -> tuple[dict[str, Any], int]:
        """The final answer and how many steps were told before it."""
        assert self.process.stdout
        steps = 0
        while True:
            message = json.loads(self.process.stdout.readline())
            if "step" not in message:
                return message, steps
            steps += message["step"] > 0

    def picture(self, id: str) -> bytes:
        return Image.open(self.folder / f"{id}.png").tobytes()


@pytest.fixture
def client(tiny_base: Path, tmp_path: Path) -> Iterator[Client]:
    made = Client(tiny_base, tmp_path)
    yield made
    assert made.process.stdin
    assert made.process.stdout
    made.process.stdin.close()
    assert made.process.wait(10) == 0
    made.process.stdout.close()


def test_draws_cancels_and_survives_faults(client: Client, tiny_base: Path, tmp_path: Path) -> None:
    from sdlora.lora_files import kohya

    adapters = adapted(load(tiny_base))
    fill(adapters)
    kohya.write(tmp_path / "disc.safetensors", adapters, "sd1", about(), "fp32")
    lora = str(tmp_path / "disc.safetensors")

    client.ask("base")
    answer, steps = client.answer()
    assert answer["file"].endswith("base.png")
    assert steps == 3
    for strength in (0.0, 0.5, 1.0):
        client.ask(f"s{strength}", lora=lora, strength=strength)
        assert "file" in client.answer()[0]
    client.ask("again", lora=lora, strength=1.0)
    client.answer()
    assert client.picture("s0.0") == client.picture("base")
    assert client.picture("again") == client.picture("s1.0") != client.picture("s0.5") != client.picture("base")

    client.ask("long", steps=150)
    client.send(cancel="long")
    answer, steps = client.answer()
    assert answer == {"id": "long", "cancelled": True}
    assert steps < 150

    client.ask("broken", base="no such base")
    assert set(client.answer()[0]["error"]) == {"en", "ja"}
    (tmp_path / "empty.safetensors").write_bytes(b"")
    client.ask("empty", lora=str(tmp_path / "empty.safetensors"))
    assert set(client.answer()[0]["error"]) == {"en", "ja"}
    client.ask("after")
    client.answer()
    assert client.picture("after") == client.picture("base")


OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
FAULTS = {
    "out of memory": (OOM, "not enough memory", False),
    "library": (RuntimeError("Input type (c10::Half) and bias type (float) should be the same"), "c10::Half", False),
    "GPU lost": (RuntimeError("CUDA error: unspecified launch failure"), "does not answer", True),
}


@pytest.mark.parametrize("name", FAULTS)
def test_any_error_of_a_library_is_answered_and_the_next_picture_is_drawn(
    name: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, words, lost = FAULTS[name]
    out, run = io.StringIO(), Renderer._run
    previewer = Previewer(out)
    job = PreviewJob("1", PreviewRequest(str(tiny_base), None, "disc", "", 1, 2, 6.0, 1.0), tmp_path / "1.png")

    def broken(*arguments: Any, **named: Any) -> Any:
        raise error

    monkeypatch.setattr(Renderer, "_run", broken)
    previewer.run(job)
    answer = json.loads(out.getvalue().splitlines()[-1])
    assert words in answer["error"]["en"]
    assert answer["error"]["ja"]
    assert previewer.device_lost == lost
    monkeypatch.setattr(Renderer, "_run", run)
    previewer.run(job)
    assert "file" in json.loads(out.getvalue().splitlines()[-1])


def test_a_preview_that_runs_out_of_memory_once_is_drawn_in_parts(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, errors, decode = io.StringIO(), [OOM], renderer.to_pixels

    def runs_out_once(vae: Any, latents: torch.Tensor) -> torch.Tensor:
        if errors:
            raise errors.pop()
        assert vae.use_tiling
        return decode(vae, latents)

    monkeypatch.setattr(renderer, "to_pixels", runs_out_once)
    request = PreviewRequest(str(tiny_base), None, "disc", "", 1, 2, 6.0, 1.0)
    Previewer(out).run(PreviewJob("1", request, tmp_path / "1.png"))
    assert "file" in json.loads(out.getvalue().splitlines()[-1])


@pytest.mark.parametrize("lora", [None, Path("a.safetensors")])
def test_a_job_is_the_same_after_its_way_as_json(lora: Path | None) -> None:
    job = PreviewJob("7", PreviewRequest("emoji", lora, "円", "", 1, 3, 6.0, -0.5), Path("out.png"))
    assert PreviewJob.from_json(json.loads(json.dumps(job.to_json()))) == job
