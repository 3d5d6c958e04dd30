"""Environment variables of processes that run torch; they must be set before torch loads OpenMP."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

SPIN_COUNT = 3000  # iterations that a waiting OpenMP thread spins before it sleeps, on an idle machine
IDLE_CORES = 0.25  # below so much load from others, the machine counts as idle


def child_environment() -> dict[str, str]:
    """Additions to the parent's environment for worker and previewer; variables that are set already keep their value.

    PYTHONPATH makes the package importable from any working folder. transformers' warnings about a missing torchvision are
    silenced: nothing here needs it.
    """
    package = str(Path(__file__).parents[2])
    defaults = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": _spin_count(), "TRANSFORMERS_VERBOSITY": "error"}
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **defaults,
        **{k: os.environ[k] for k in defaults if k in os.environ},
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
    }


def _spin_count() -> str:
    """OpenMP's threads wait for each other thousands of times a step. Spinning is faster than sleeping on an idle machine
    (0.31 s a step against 0.44) and slower beside other work (0.99 against 0.55): see bench/README.md."""
    return str(SPIN_COUNT if "GOMP_SPINCOUNT" not in os.environ and _is_idle() else 0)


def _is_idle() -> bool:
    """Whether load is low in one of four samples of 0.1 s: a browser is busy for a moment after each click."""
    return any(psutil.cpu_percent(0.1) / 100 * (os.cpu_count() or 1) < IDLE_CORES for _ in range(4))


def gpu_count(driver: Path = Path("/proc/driver/nvidia/gpus")) -> int:
    """Number of NVIDIA GPUs, without torch; 0 where the driver lists none."""
    return sum(1 for _ in driver.glob("*"))
