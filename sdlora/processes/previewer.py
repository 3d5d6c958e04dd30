"""One warm process that keeps a base and a LoRA loaded: JSON lines in, pictures out. `python -m sdlora.processes.previewer`

In: `{"id", "base", "lora", "prompt", "negative", "seed", "steps", "guidance", "strength", "out"}` or `{"cancel": id}`.
Out: `{"id", "step", "steps"}` after each denoising step, then one of `{"id", "file", "seconds"}`, `{"id", "cancelled": true}`,
`{"id", "error": {"en", "ja"}}`. The process ends when its input does.
"""

from __future__ import annotations

import io
import json
import os
import queue
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdlora.core.environment import child_environment
from sdlora.core.errors import SdloraError
from sdlora.core.fast_import import at_once
from sdlora.core.files import write_bytes

if TYPE_CHECKING:
    from sdlora.render.renderer import Renderer


@dataclass
class Previewer:
    """Draws one request after another; keeps what the last one loaded."""

    out: Any  # a text stream
    cancelled: set[str] = field(default_factory=set)
    base: str = ""
    renderer: Renderer | None = None

    def say(self, **message: Any) -> None:
        self.out.write(json.dumps(message, ensure_ascii=False) + "\n")
        self.out.flush()

    def answer(self, request: dict[str, Any]) -> None:
        with at_once():
            from sdlora.render.renderer import Cancelled

        id = request["id"]
        try:
            self._draw(request)
        except Cancelled:
            self.say(id=id, cancelled=True)
        except SdloraError as error:
            self.say(id=id, error={"en": error.text.en, "ja": error.text.ja})
        finally:
            self.cancelled.discard(id)

    def _draw(self, request: dict[str, Any]) -> None:
        from sdlora.render.renderer import Cancelled, Picture, open_renderer

        id, began = request["id"], time.monotonic()

        def on_step(done: int, total: int) -> None:
            if id in self.cancelled:
                raise Cancelled
            self.say(id=id, step=done, steps=total)

        on_step(0, request["steps"])
        if self.renderer is None or self.base != request["base"]:
            self.renderer, self.base = None, ""  # the old one makes room first
            self.renderer, self.base = open_renderer(request["base"]), request["base"]
        self.renderer.load(Path(request["lora"]) if request["lora"] else None)
        self.renderer.set_strength(request["strength"])
        picture = Picture(
            request["prompt"], request["negative"], request["seed"], request["steps"], request["guidance"]
        )
        write_bytes(Path(request["out"]), png(self.renderer.draw(picture, on_step)))
        self.say(id=id, file=request["out"], seconds=time.monotonic() - began)


def png(picture: Any) -> bytes:
    """A Pillow picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    os.environ |= child_environment()  # before torch loads OpenMP
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    previewer, waiting = Previewer(out), queue.Queue[dict[str, Any] | None]()

    def read() -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if "cancel" in message:
                previewer.cancelled.add(message["cancel"])
            else:
                waiting.put(message)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (request := waiting.get()) is not None:
        previewer.answer(request)


if __name__ == "__main__":
    main()
