"""One training job in a process of its own: `python -m sdlora.processes.worker FOLDER`.

The folder says everything; the exit code and `outcome.json` say how it ended. A worker that was killed leaves no outcome,
and its lock is freed by the kernel: the job then counts as interrupted and can be resumed.
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

from sdlora.core import events
from sdlora.core.environment import child_environment
from sdlora.core.errors import DeviceLost, DiskFull, OutOfMemory, SdloraError, disk_full, is_disk_full
from sdlora.core.fast_import import at_once
from sdlora.core.files import clear_temporaries
from sdlora.core.text import Text
from sdlora.data import open_dataset
from sdlora.data.captions import with_trigger
from sdlora.jobs import lock
from sdlora.jobs.launchers import commands
from sdlora.jobs.launchers.commands import Member
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.runner import ATTEMPTS, attempts_without_progress
from sdlora.jobs.spec import JobSpec, Outcome
from sdlora.jobs.store import versions
from sdlora.models.bases import resolve_base

LEAVE_SECONDS = 4.5  # after SIGTERM; `docker stop` kills after 10
SHARED = 60.0  # seconds after which half a latent in the cache of all jobs is nobody's any more
PATIENCE = 2.0  # of them for the step in progress
TERMINATED = 128 + signal.SIGTERM


def main(folder: Path) -> int:
    """Run the job to its end. Returns the exit code: 0 done or stopped, 64 refused, 74 disk full, 75 GPU lost, 76 diverged, 77 unmoved,
    71 out of memory, 143 SIGTERM, 1 anything else."""
    paths, member = JobPaths(folder.absolute()), commands.member()
    if member.rank > 0:
        return _help(paths, member)
    held = _own_lock(paths, member)
    if held is None:
        print(f"{paths.id} is running already.", file=sys.stderr)
        return 2
    leaving = Leaving()
    commands.leave_with_parent(member)
    os.environ |= child_environment()  # before torch loads OpenMP
    began = time.monotonic()
    try:
        outcome = _work(paths, leaving, began, member)
    except SdloraError as error:
        outcome = _ended(paths, error, began)
    except Exception as error:
        outcome = _ended(paths, _foreseen(error), began)
    if outcome is None:
        return TERMINATED if leaving.asked.is_set() else DeviceLost.exit_code
    try:
        outcome.write(paths)
    except OSError:  # no outcome = interrupted: the queue goes on when there is room
        return DiskFull.exit_code
    return outcome.exit_code


def _help(paths: JobPaths, member: Member) -> int:
    """Compute a share of the job that process 0 runs and tells of. Whatever ends it early ends the others too."""
    leaving = Leaving(LEAVE_SECONDS)  # process 0 says when to stop
    commands.leave_with_parent(member)
    os.environ |= child_environment()
    try:
        _work(paths, leaving, time.monotonic(), member)
    except SdloraError as error:
        print(f"Process {member.rank}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return TERMINATED if leaving.asked.is_set() else 0


def _own_lock(paths: JobPaths, member: Member) -> int | None:
    """The lock that the runner took for this process or its launcher, or one taken now."""
    inherited = os.environ.pop("SDLORA_LOCK_FD", None)
    if inherited is None:
        return lock.acquire(paths.lock)
    if member.size > 1:
        return int(inherited)  # open in the launcher, which outlives its processes
    os.set_inheritable(int(inherited), False)
    return int(inherited)


class Leaving:
    """Leaves within `LEAVE_SECONDS` of a SIGTERM. A thread waits for it, since a handler would not run inside one long kernel.

    The loop ends by itself after its step. If that step takes too long, the thread saves the last whole one and ends the process.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self.asked = threading.Event()
        self.save: Callable[[], None] = lambda: None  # set when there is something to save
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        signal.sigwait({signal.SIGTERM})
        self.asked.set()
        time.sleep(self.patience)
        threading.Timer(LEAVE_SECONDS - self.patience, os._exit, [TERMINATED]).start()
        try:
            self.save()
        finally:
            os._exit(TERMINATED)

    def on_ready(self, save: Callable[[], None]) -> None:
        self.save = save


def _work(paths: JobPaths, leaving: Leaving, began: float, member: Member) -> Outcome | None:
    """The job from folder to outcome; None where SIGTERM ended it: no outcome, so that it can be resumed."""
    if member.rank == 0:
        for folder in (paths.folder, paths.checkpoints, paths.samples):
            clear_temporaries(folder)
        clear_temporaries(paths.workspace.cache / "latents", SHARED)
    spec = JobSpec.read(paths)
    with at_once():
        from sdlora.train.distributed import init_distributed
        from sdlora.train.latents import CaptionedImage
        from sdlora.train.run import Control, run
        from sdlora.train.setup import Folders, Request

    dataset = open_dataset(paths.dataset)
    trigger = spec.settings.data.trigger
    request = Request(
        name=spec.name,
        created=spec.created,
        base=resolve_base(spec.base),
        base_fingerprint=spec.base_fingerprint,
        settings=spec.settings,
        pictures=[
            CaptionedImage(
                dataset.path(i), i.sha256, i.width, i.height, with_trigger(i.caption, trigger), dataset.mask_path(i)
            )
            for i in dataset.items
        ],
        versions=versions(),
        start=paths.start if paths.start.exists() else None,
    )
    folders = Folders(paths.folder, paths.state, paths.checkpoints, paths.samples, paths.workspace.cache)
    result = run(
        request,
        folders,
        emit=Telling(paths.events).tell if member.rank == 0 else lambda event: None,
        control=Control(
            should_stop=lambda: leaving.asked.is_set() or paths.stop.exists(),
            keep=lambda: not leaving.asked.is_set(),
            on_ready=leaving.on_ready,
            began=began,
        ),
        world=init_distributed(member.rank, member.size),
    )
    if not result.finished and leaving.asked.is_set():
        return None
    return Outcome(
        status="done" if result.finished else "stopped",
        step=result.step,
        seconds=time.monotonic() - began,
        file=str(result.file.relative_to(paths.folder)) if result.file else "",
        sha256=result.sha256,
        best_step=result.best_step,
        recommended_strength=result.recommended_strength,
        certificate_en=result.certificate.en if result.certificate else "",
        certificate_ja=result.certificate.ja if result.certificate else "",
    )


@dataclass
class Telling:
    """Events are for watching: a full disk must not end the training that they tell about."""

    path: Path
    lost: int = 0  # since the last one that was written

    def tell(self, event: events.Event) -> None:
        try:
            if self.lost:
                events.append(self.path, _events_lost(self.lost))
                self.lost = 0
            events.append(self.path, event)
        except OSError as error:
            if not self.lost:
                with contextlib.suppress(OSError):  # the log may be on the same disk
                    print(f"Events cannot be written: {error}", file=sys.stderr, flush=True)
            self.lost += 1


def _events_lost(count: int) -> events.Warned:
    return events.Warned(
        "events",
        f"The disk was full: {count:,} entries of the progress are missing here. The training itself lost nothing.",
        f"ディスクの空きがなく、進み具合の記録 {count:,} 件が抜けています。学習そのものは何も失っていません。",
    )


def _foreseen(error: Exception) -> SdloraError:
    """An exception of a library as one of ours, where we know it; else as an unexpected one."""
    if is_disk_full(error):
        return disk_full()
    first = (str(error).strip().splitlines() or [""])[0][:300]
    if type(error).__name__ == "OutOfMemoryError" or "not enough memory" in first:
        return OutOfMemory(
            Text(
                "There is not enough memory for these settings. Lower the batch size or the resolution, or turn gradient checkpointing on.",
                "この設定ではメモリが足りません。バッチサイズか解像度を下げるか、勾配チェックポイントをオンにしてください。",
            )
        )
    if type(error).__name__ == "AcceleratorError" or "CUDA error" in first:
        return DeviceLost(Text(f"The GPU does not answer any more: {first}", f"GPU が応答しません: {first}"))
    text = f"{type(error).__name__}: {first}"
    return SdloraError(
        Text(f"An unexpected error ended the training: {text}", f"予期しないエラーで学習が終了しました: {text}")
    )


def _ended(paths: JobPaths, error: SdloraError, began: float) -> Outcome | None:
    """How a run that raised has ended. None = interrupted: a fresh process may have more luck with the GPU."""
    with contextlib.suppress(OSError):  # a full disk has no room for the log either
        traceback.print_exc()
    if isinstance(error, DeviceLost) and attempts_without_progress(paths) < ATTEMPTS:
        return None
    follower = events.Follower(paths.events)
    follower.poll()
    return Outcome(
        status="paused" if isinstance(error, DiskFull | DeviceLost) else "failed",
        step=follower.step,
        seconds=time.monotonic() - began,
        reason_en=error.text.en,
        reason_ja=error.text.ja,
        exit_code=64 if error.exit_code == 2 else error.exit_code,
        needed_bytes=error.needed if isinstance(error, DiskFull) else 0,
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m sdlora.processes.worker FOLDER")
    sys.exit(main(Path(sys.argv[1])))
