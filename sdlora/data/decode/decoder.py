"""The parent's side of decoding: one warm child for a whole import, started again after a crash or a picture that hangs."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sdlora.core.text import Text
from sdlora.data import limits
from sdlora.data.limits import Refusal

ROOT = Path(__file__).resolve().parents[3]
COMMAND = (sys.executable, "-m", "sdlora.data.decode.child")
CRASHED = Text(
    "Decoding it crashed. Open it in a picture program, save it again as PNG or JPEG and retry.",
    "読み込み中に異常が起きました。画像ソフトで開き、PNG か JPEG で保存し直してください。",
)
TOO_SLOW = Text(
    "Decoding it took too long. Save it again as PNG or JPEG, perhaps smaller.",
    "読み込みに時間がかかりすぎました。PNG か JPEG で、必要なら縮小して保存し直してください。",
)


@dataclass(frozen=True)
class DecodedImage:
    width: int
    height: int
    notes: tuple[str, ...]


class _Hung(Exception):
    """The child has not answered in time."""


class Decoder:
    """A context manager; the child starts with the first picture."""

    def __init__(self, seconds: float = limits.DECODE_SECONDS, command: tuple[str, ...] = COMMAND):
        self.seconds = seconds
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def decode(self, source: Path, target: Path, mask: Path | None = None) -> DecodedImage:
        """Re-encode `source` to the PNG `target`; where it is transparent anywhere, how opaque it is to `mask`.

        Raises `Refusal` for a picture that cannot be used and OSError where the disk is at fault. A child that dies is
        given the same picture once more: it may have been killed for a reason that has nothing to do with it.
        """
        mask = mask or target.with_name(target.name + "-mask")
        files = {"source": source, "target": target, "mask": mask}
        request = {name: str(path.absolute()) for name, path in files.items()}  # the child has its own folder
        for _ in range(2):
            try:
                answer = self._ask(json.dumps(request).encode() + b"\n")
            except _Hung:
                self._end()
                raise Refusal(TOO_SLOW) from None
            if answer.endswith(b"\n"):
                return _read(json.loads(answer))
            self._end()
        raise Refusal(CRASHED)

    def _ask(self, request: bytes) -> bytes:
        """The child's answer, whole with its newline; anything else means that it died."""
        process = self.process = self.process or self._start()
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(request)
        except BrokenPipeError:
            return b""
        deadline = time.monotonic() + self.seconds
        answer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _Hung
                chunk = process.stdout.read(65536)
                if not chunk:
                    break
                answer += chunk
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=ROOT,  # `-m` finds the package here, installed or not
        )

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        process.wait()


def _read(answer: dict) -> DecodedImage:
    if "reason" in answer:
        raise Refusal(Text(**answer["reason"]))
    if "errno" in answer:
        raise OSError(answer["errno"], "the decoded picture could not be written")
    return DecodedImage(answer["width"], answer["height"], tuple(answer["notes"]))
