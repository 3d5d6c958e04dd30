"""How a job's worker is started: as one process, as several by `accelerate launch`, or on a node of a cluster."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

from sdlora.core.errors import SdloraError
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import JobSpec

LOOK_SECONDS = 0.2  # between looks whether the launcher is still there


@dataclass(frozen=True)
class Member:
    """Process `rank` of the `size` that work on one job."""

    rank: int = 0
    size: int = 1


def command(paths: JobPaths) -> list[str]:
    """What runs the job in `train.processes` processes."""
    worker, count = ["-m", "sdlora.processes.worker", str(paths.folder)], _processes(paths)
    if count == 1:
        return [sys.executable, *worker]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    options = {
        "--num_processes": str(count),
        "--num_machines": "1",
        "--gpu_ids": "all",
        "--mixed_precision": "no",  # precision is a setting of ours
        "--dynamo_backend": "no",
        "--num_cpu_threads_per_process": threads,
        "--main_process_port": "0",  # any free one
        "--log_dir": os.devnull,  # all write into the job's log; otherwise a temporary folder stays
    }
    # multi_gpu is accelerate's word for torch's launcher; without a GPU it starts processes that use none
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    return [*launcher, *(word for pair in options.items() for word in pair), *worker]


def on_ray(paths: JobPaths) -> list[str]:
    """What lets a node of a cluster run it."""
    return [sys.executable, "-m", "sdlora.jobs.launchers.ray_node", str(paths.folder)]


def _processes(paths: JobPaths) -> int:
    """1 where the job cannot be read: its worker will say why."""
    try:
        return JobSpec.read(paths).settings.train.processes
    except (OSError, ValueError, KeyError, TypeError, SdloraError):
        return 1


def member() -> Member:
    """This process, by what torch's launcher wrote into its environment."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Member()
    return Member(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def leave_with_parent(member: Member) -> None:
    """End one of several processes when their launcher is gone, however that ended: the job's lock is freed with it."""
    if member.size == 1:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
