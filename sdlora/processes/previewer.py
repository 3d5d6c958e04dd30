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
import traceback
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sdlora.core.device_errors import device_error
from sdlora.core.environment import child_environment
from sdlora.core.errors import DeviceLost, OutOfMemory, SdloraError
from sdlora.core.fast_import import gc_paused
from sdlora.core.files import write_bytes
from sdlora.core.oom_retry import once, retry_on_oom
from sdlora.core.text import Text
from sdlora.processes.protocol import PreviewJob
from sdlora.render.fit import refuse_unfit

if TYPE_CHECKING:
    from sdlora.render.renderer import Renderer

NO_MEMORY = Text(
    "There is not enough memory to draw this picture, not even in small parts. Close what else uses the GPU, or wait until the training is done.",
    "この画像を描くメモリが足りません(小さく分けても不足)。GPU を使う他のプログラムを閉じるか、学習の終了を待ってください。",
)
COULD_NOT_DRAW = Text("The picture could not be drawn: {reason}", "画像を生成できませんでした: {reason}")


@dataclass
class Previewer:
    """Draws one job after another and keeps the base and the LoRA of the last one loaded."""

    out: Any  # a text stream
    cancelled: set[str] = field(default_factory=set)
    base: str = ""
    renderer: Renderer | None = None
    device_lost: bool = False  # no GPU answers in this process any more

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
        except (SdloraError, RuntimeError, OSError) as error:
            self.send(id=job.id, error=asdict(self._explain(error)))
        finally:
            self.cancelled.discard(job.id)

    def _explain(self, error: SdloraError | RuntimeError | OSError) -> Text:
        """What to tell. After an error of a library nobody knows what is half done: base and LoRA are loaded anew next time."""
        if isinstance(error, SdloraError) and not isinstance(error, OutOfMemory):
            return error.text
        traceback.print_exc()
        self.renderer, self.base = None, ""
        refusal = device_error(error)
        if isinstance(error, OutOfMemory) or isinstance(refusal, OutOfMemory):
            return NO_MEMORY
        self.device_lost = isinstance(refusal, DeviceLost)
        first = (str(error).strip().splitlines() or [""])[0][:300]
        return refusal.text if refusal else COULD_NOT_DRAW.fill(reason=f"{type(error).__name__}: {first}")

    def _draw(self, job: PreviewJob) -> None:
        from sdlora.render.renderer import Cancelled, DrawRequest, open_renderer

        request, began = job.request, time.monotonic()

        def on_step(done: int, total: int) -> None:
            if job.id in self.cancelled:
                raise Cancelled
            self.send(id=job.id, step=done, steps=total)

        if request.lora is not None:
            refuse_unfit(request.lora, request.base)
        on_step(0, request.steps)
        if self.renderer is None or self.base != request.base:
            self.renderer, self.base = None, ""  # frees the old base's memory before the new one is loaded
            load = partial(open_renderer, request.base)
            self.renderer = retry_on_oom(load, once(NO_MEMORY), lambda text: None)
            self.base = request.base
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
        if previewer.device_lost:
            return  # a fresh process is started for the next request


if __name__ == "__main__":
    main()
