"""One warm process that keeps a base and a LoRA loaded: JSON lines in, pictures out. `python -m sdlora.processes.previewer`

In: a `protocol.PreviewJob` or `{"cancel": id}`.
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
from typing import TYPE_CHECKING, Any

from sdlora.core.environment import child_environment
from sdlora.core.errors import SdloraError
from sdlora.core.fast_import import gc_paused
from sdlora.core.files import write_bytes
from sdlora.processes.protocol import PreviewJob

if TYPE_CHECKING:
    from sdlora.render.renderer import Renderer


@dataclass
class Previewer:
    """Draws one job after another and keeps the base and the LoRA of the last one loaded."""

    out: Any  # a text stream
    cancelled: set[str] = field(default_factory=set)
    base: str = ""
    renderer: Renderer | None = None

    def send(self, **message: Any) -> None:
        self.out.write(json.dumps(message, ensure_ascii=False) + "\n")
        self.out.flush()

    def run(self, job: PreviewJob) -> None:
        """Draw one job and send its progress and its one final answer."""
        with gc_paused():
            from sdlora.render.renderer import Cancelled

        try:
            self._draw(job)
        except Cancelled:
            self.send(id=job.id, cancelled=True)
        except SdloraError as error:
            self.send(id=job.id, error={"en": error.text.en, "ja": error.text.ja})
        finally:
            self.cancelled.discard(job.id)

    def _draw(self, job: PreviewJob) -> None:
        from sdlora.render.renderer import Cancelled, DrawRequest, open_renderer

        request, began = job.request, time.monotonic()

        def on_step(done: int, total: int) -> None:
            if job.id in self.cancelled:
                raise Cancelled
            self.send(id=job.id, step=done, steps=total)

        on_step(0, request.steps)
        if self.renderer is None or self.base != request.base:
            self.renderer, self.base = None, ""  # frees the old base's memory before the new one is loaded
            self.renderer, self.base = open_renderer(request.base), request.base
        self.renderer.load(request.lora)
        self.renderer.set_strength(request.strength)
        picture = DrawRequest(request.prompt, request.negative, request.seed, request.steps, request.guidance)
        write_bytes(job.out, png(self.renderer.draw(picture, on_step)))
        self.send(id=job.id, file=str(job.out), seconds=time.monotonic() - began)


def png(picture: Any) -> bytes:
    """A Pillow picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def main() -> None:
    os.environ |= child_environment()  # before torch loads OpenMP
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    previewer, jobs = Previewer(out), queue.Queue[PreviewJob | None]()

    def read() -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if "cancel" in message:
                previewer.cancelled.add(message["cancel"])
            else:
                jobs.put(PreviewJob.from_json(message))
        jobs.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (job := jobs.get()) is not None:
        previewer.run(job)


if __name__ == "__main__":
    main()
