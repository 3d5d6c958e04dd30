"""The warm process that draws: keeps what it loaded, cancels within a step, answers faults with sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdlora.processes.protocol import PreviewJob, PreviewRequest
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


@pytest.mark.parametrize("lora", [None, Path("a.safetensors")])
def test_a_job_is_the_same_after_its_way_as_json(lora: Path | None) -> None:
    job = PreviewJob("7", PreviewRequest("emoji", lora, "円", "", 1, 3, 6.0, -0.5), Path("out.png"))
    assert PreviewJob.from_json(json.loads(json.dumps(job.to_json()))) == job
