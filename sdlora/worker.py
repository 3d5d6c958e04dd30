"""One training job in a process of its own: `python -m sdlora.worker FOLDER`.

The folder says everything; the exit code and `outcome.json` say how it ended. A worker that was killed leaves no outcome,
and its lock is freed by the kernel: the job then counts as interrupted and can be resumed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from sdlora import events
from sdlora.data import open_dataset
from sdlora.data.captions import with_trigger
from sdlora.errors import OutOfMemory, SdloraError
from sdlora.jobs import lock
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.runner import thread_environment
from sdlora.jobs.spec import JobSpec, Outcome
from sdlora.models.bases import resolve_base
from sdlora.text import Text

LEAVE_SECONDS = 4.0  # after SIGTERM; `docker stop` kills after 10
TERMINATED = 128 + signal.SIGTERM


def main(folder: Path) -> int:
    """Run the job to its end. Returns the exit code."""
    paths = JobPaths(folder.absolute())
    held = _own_lock(paths)
    if held is None:
        print(f"{paths.id} is running already.", file=sys.stderr)
        return 2
    terminated = _watch_for_sigterm()
    os.environ |= thread_environment()  # before torch loads OpenMP
    began = time.monotonic()
    try:
        outcome = _work(paths, terminated, began)
    except SdloraError as error:
        traceback.print_exc()
        outcome = _failed(paths, error.text, error.exit_code, began)
    except Exception as error:
        traceback.print_exc()
        outcome = _failed(paths, *_unexpected(error), began)
    if outcome is None:
        return TERMINATED
    outcome.write(paths)
    return outcome.exit_code


def _own_lock(paths: JobPaths) -> int | None:
    """The lock that the runner took for this process, or one taken now."""
    inherited = os.environ.pop("SDLORA_LOCK_FD", None)
    if inherited is None:
        return lock.acquire(paths.lock)
    os.set_inheritable(int(inherited), False)
    return int(inherited)


def _watch_for_sigterm() -> threading.Event:
    """Set when SIGTERM comes. A thread waits for it, since a handler would not run inside one long kernel."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    terminated = threading.Event()

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        terminated.set()
        time.sleep(LEAVE_SECONDS)
        os._exit(TERMINATED)

    threading.Thread(target=wait, daemon=True).start()
    return terminated


def _work(paths: JobPaths, terminated: threading.Event, began: float) -> Outcome | None:
    """The job from folder to outcome; None where SIGTERM ended it: no outcome, so that it can be resumed."""
    spec = JobSpec.read(paths)
    from sdlora.train.latents import Picture
    from sdlora.train.prepare import Folders, Request
    from sdlora.train.run import run

    dataset = open_dataset(paths.dataset)
    trigger = spec.settings.data.trigger
    request = Request(
        name=spec.name,
        created=spec.created,
        base=resolve_base(spec.base),
        base_fingerprint=spec.base_fingerprint,
        settings=spec.settings,
        pictures=[Picture(dataset.path(i), i.sha256, with_trigger(i.caption, trigger)) for i in dataset.items],
    )
    folders = Folders(paths.folder, paths.state, paths.checkpoints, paths.samples, paths.workspace.cache)
    result = run(
        request,
        folders,
        emit=lambda event: _emit(paths, event),
        should_stop=lambda: terminated.is_set() or paths.stop.exists(),
        keep=lambda: not terminated.is_set(),
    )
    if not result.finished and terminated.is_set():
        return None
    return Outcome(
        status="done" if result.finished else "stopped",
        step=result.step,
        seconds=time.monotonic() - began,
        file=str(result.file.relative_to(paths.folder)) if result.file else "",
        sha256=result.sha256,
        best_step=result.best_step,
        recommended_strength=result.recommended_strength,
    )


def _emit(paths: JobPaths, event: events.Event) -> None:
    """Events are for watching: a full disk must not end the training that they tell about."""
    try:
        events.append(paths.events, event)
    except OSError as error:
        print(f"event lost: {error}", file=sys.stderr)


def _unexpected(error: Exception) -> tuple[Text, int]:
    """What to say of an exception nobody foresaw, and its exit code."""
    first = (str(error).strip().splitlines() or [""])[0][:300]
    if type(error).__name__ == "OutOfMemoryError" or "not enough memory" in first:
        advice = Text(
            "There is not enough memory for these settings. Lower the batch size or the resolution, or turn gradient checkpointing on.",
            "この設定ではメモリが足りません。バッチサイズか解像度を下げるか、勾配チェックポイントをオンにしてください。",
        )
        return advice, OutOfMemory.exit_code
    text = f"{type(error).__name__}: {first}"
    return Text(f"An unexpected error ended the training: {text}", f"予期しないエラーで学習が終了しました: {text}"), 1


def _failed(paths: JobPaths, reason: Text, exit_code: int, began: float) -> Outcome:
    follower = events.Follower(paths.events)
    follower.poll()
    return Outcome(
        status="failed",
        step=follower.step,
        seconds=time.monotonic() - began,
        reason_en=reason.en,
        reason_ja=reason.ja,
        exit_code=exit_code,
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m sdlora.worker FOLDER")
    sys.exit(main(Path(sys.argv[1])))
