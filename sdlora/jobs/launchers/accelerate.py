"""Several processes for one job through `accelerate launch`, and what each of them knows of its rank."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

POLL_SECONDS = 0.2  # between checks whether the launcher is alive


def command(worker: list[str], count: int) -> list[str]:
    """`accelerate launch` of `count` processes of `worker`, the interpreter's arguments."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    options = {
        "--num_processes": str(count),
        "--num_machines": "1",
        "--gpu_ids": "all",
        "--mixed_precision": "no",  # `train.precision` decides
        "--dynamo_backend": "no",
        "--num_cpu_threads_per_process": threads,
        "--main_process_port": "0",  # any free one
        "--log_dir": os.devnull,  # all write into the job's log; otherwise a temporary folder stays
    }
    # --multi_gpu selects torch's launcher; without a GPU it starts CPU processes
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    return [*launcher, *(word for pair in options.items() for word in pair), *worker]


@dataclass(frozen=True)
class RankInfo:
    """Process `rank` of the `world_size` that train one job together."""

    rank: int = 0
    world_size: int = 1

    @staticmethod
    def of_this_process() -> RankInfo:
        """From the environment that torch's launcher set; rank 0 of 1 without it."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return RankInfo()
        return RankInfo(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def exit_with_launcher(info: RankInfo) -> None:
    """Kill this process when its launcher is gone, however that ended: otherwise the job's lock would stay held."""
    if info.world_size == 1:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
