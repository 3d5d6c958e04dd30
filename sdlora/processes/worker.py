"""One training job in a process of its own: `python -m sdlora.processes.worker FOLDER`.

Everything it needs is in the folder; the exit code and `outcome.json` say how it ended. A killed worker leaves no outcome, and the
kernel frees its lock: the job then counts as interrupted and can be resumed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdlora.core import events
from sdlora.core.device_errors import device_error
from sdlora.core.environment import child_environment
from sdlora.core.errors import DeviceLost, DiskFull, SdloraError, disk_full, is_disk_full
from sdlora.core.fast_import import gc_paused
from sdlora.core.files import clear_temporaries
from sdlora.core.text import Text
from sdlora.data import open_dataset
from sdlora.jobs import lock
from sdlora.jobs.launchers.accelerate import RankInfo, exit_with_launcher
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.runner import MAX_ATTEMPTS, attempts_without_progress
from sdlora.jobs.spec import NOTHING, JobSpec, Outcome
from sdlora.jobs.store import versions
from sdlora.models.bases import resolve_base

if TYPE_CHECKING:
    from sdlora.train.setup import Request

EXIT_SECONDS = 4.5  # after SIGTERM; `docker stop` kills after 10
STEP_SECONDS = 2.0  # of them for the step in progress
TEMPORARY_AGE = 60.0  # seconds; a younger temporary file in the shared cache may belong to a worker on another machine
TERMINATED = 128 + signal.SIGTERM


def main(folder: Path) -> int:
    """Run the job to its end. Returns the exit code: 0 done or stopped, 2 running already, 64 refused, 143 SIGTERM, 1 anything
    unexpected, else that of the error (see `sdlora.core.errors`)."""
    paths, info = JobPaths(folder.absolute()), RankInfo.of_this_process()
    if info.rank > 0:
        return run_rank(paths, info)
    if _take_lock(paths, info) is None:
        print(f"{paths.id} is running already.", file=sys.stderr)
        return 2
    shutdown = GracefulShutdown()
    exit_with_launcher(info)
    os.environ |= child_environment()  # before torch loads OpenMP
    began = time.monotonic()
    try:
        outcome = _train(paths, shutdown, began, info)
    except SdloraError as error:
        outcome = _outcome_of(paths, error, began)
    except Exception as error:
        outcome = _outcome_of(paths, classify(error), began)
    if outcome is None:
        return TERMINATED if shutdown.requested.is_set() else DeviceLost.exit_code
    try:
        outcome.write(paths)
    except OSError:  # without an outcome the job is interrupted: the queue resumes it when there is room
        return DiskFull.exit_code
    return outcome.exit_code


def run_rank(paths: JobPaths, info: RankInfo) -> int:
    """Any rank but 0: compute a share of the steps, write nothing. An error here ends all ranks."""
    shutdown = GracefulShutdown(step_seconds=EXIT_SECONDS)  # rank 0 decides when to stop
    exit_with_launcher(info)
    os.environ |= child_environment()
    try:
        _train(paths, shutdown, time.monotonic(), info)
    except SdloraError as error:
        print(f"Process {info.rank}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return TERMINATED if shutdown.requested.is_set() else 0


def _take_lock(paths: JobPaths, info: RankInfo) -> int | None:
    """The descriptor of the job's lock: inherited from whatever started this process, else acquired; None = held elsewhere."""
    inherited = os.environ.pop("SDLORA_LOCK_FD", None)
    if inherited is None:
        return lock.acquire(paths.lock)
    if info.world_size > 1:
        return int(inherited)  # open in the launcher, which outlives its processes
    os.set_inheritable(int(inherited), False)
    return int(inherited)


class GracefulShutdown:
    """Ends the process within `EXIT_SECONDS` of a SIGTERM, with the last whole step saved.

    A thread waits for the signal, since a Python handler would not run inside one long kernel. The loop sees `requested` and
    ends by itself after its step; if that step takes longer than `step_seconds`, the thread saves and exits.
    """

    def __init__(self, step_seconds: float = STEP_SECONDS) -> None:
        self.requested = threading.Event()
        self._step_seconds = step_seconds
        self._save: Callable[[], None] = lambda: None
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=self._wait, daemon=True).start()

    def on_ready(self, save: Callable[[], None]) -> None:
        """Register what saves the state; before this there is nothing to save."""
        self._save = save

    def _wait(self) -> None:
        signal.sigwait({signal.SIGTERM})
        self.requested.set()
        time.sleep(self._step_seconds)
        threading.Timer(EXIT_SECONDS - self._step_seconds, os._exit, [TERMINATED]).start()
        try:
            self._save()
        finally:
            os._exit(TERMINATED)


def _train(paths: JobPaths, shutdown: GracefulShutdown, began: float, info: RankInfo) -> Outcome | None:
    """The job from folder to outcome; None where SIGTERM ended it: without an outcome it can be resumed."""
    if info.rank == 0:
        for folder in (paths.folder, paths.checkpoints, paths.samples):
            clear_temporaries(folder)
        clear_temporaries(paths.workspace.cache / "latents", TEMPORARY_AGE)
    spec = JobSpec.read(paths)
    with gc_paused():
        from sdlora.train.distributed import init_distributed
        from sdlora.train.run import Control, run
        from sdlora.train.setup import Folders

    result = run(
        _request(paths, spec),
        Folders(paths.folder, paths.state, paths.checkpoints, paths.samples, paths.workspace.cache),
        emit=EventWriter(paths.events).write if info.rank == 0 else lambda event: None,
        control=Control(
            should_stop=lambda: shutdown.requested.is_set() or paths.stop.exists(),
            keep=lambda: not shutdown.requested.is_set(),
            on_ready=shutdown.on_ready,
            began=began,
        ),
        world=init_distributed(info.rank, info.world_size),
    )
    if not result.finished and shutdown.requested.is_set():
        return None
    return Outcome(
        status="done" if result.finished else "stopped",
        step=result.step,
        seconds=time.monotonic() - began,
        file=str(result.file.relative_to(paths.folder)) if result.file else "",
        sha256=result.sha256,
        best_step=result.best_step,
        recommended_strength=result.recommended_strength,
        certificate=result.certificate or NOTHING,
    )


def _request(paths: JobPaths, spec: JobSpec) -> Request:
    from sdlora.train.latents import CaptionedImage
    from sdlora.train.setup import Request

    dataset = open_dataset(paths.dataset)
    return Request(
        name=spec.name,
        created=spec.created,
        base=resolve_base(spec.base),
        base_fingerprint=spec.base_fingerprint,
        settings=spec.settings,
        pictures=[
            CaptionedImage(
                path=dataset.path(item),
                sha256=item.sha256,
                width=item.width,
                height=item.height,
                caption=spec.caption(item),
                mask=dataset.mask_path(item),
            )
            for item in dataset.items
        ],
        versions=versions(),
        start=paths.start if paths.start.exists() else None,
    )


@dataclass
class EventWriter:
    """Appends events to a job's log. A full disk loses events, which are only for watching, but must not end the training."""

    path: Path
    lost: int = 0  # since the last one that was written

    def write(self, event: events.Event) -> None:
        try:
            if self.lost:
                events.append(self.path, _lost_events(self.lost))
                self.lost = 0
            events.append(self.path, event)
        except OSError as error:
            if not self.lost:
                with contextlib.suppress(OSError):  # the log may be on the same disk
                    print(f"Events cannot be written: {error}", file=sys.stderr, flush=True)
            self.lost += 1


def _lost_events(count: int) -> events.Warned:
    return events.Warned(
        "events",
        f"The disk was full: {count:,} entries of the progress are missing here. The training itself lost nothing.",
        f"ディスクの空きがなく、進み具合の記録 {count:,} 件が抜けています。学習そのものは何も失っていません。",
    )


def classify(error: Exception) -> SdloraError:
    """A library's exception as the error of ours that it means; as a plain `SdloraError` where it is not recognised."""
    if is_disk_full(error):
        return disk_full()
    if recognised := device_error(error):
        return recognised
    first = (str(error).strip().splitlines() or [""])[0][:300]
    text = f"{type(error).__name__}: {first}"
    return SdloraError(
        Text(f"An unexpected error ended the training: {text}", f"予期しないエラーで学習が終了しました: {text}")
    )


def _outcome_of(paths: JobPaths, error: SdloraError, began: float) -> Outcome | None:
    """The outcome of a run that raised; None = interrupted, to be tried again by a fresh process (a lost GPU may come back)."""
    with contextlib.suppress(OSError):  # a full disk has no room for the log either
        traceback.print_exc()
    if isinstance(error, DeviceLost) and attempts_without_progress(paths) < MAX_ATTEMPTS:
        return None
    follower = events.Follower(paths.events)
    follower.poll()
    return Outcome(
        status="paused" if isinstance(error, DiskFull | DeviceLost) else "failed",
        step=follower.step,
        seconds=time.monotonic() - began,
        reason=error.text,
        exit_code=64 if error.exit_code == 2 else error.exit_code,
        needed_bytes=error.needed if isinstance(error, DiskFull) else 0,
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m sdlora.processes.worker FOLDER")
    sys.exit(main(Path(sys.argv[1])))
