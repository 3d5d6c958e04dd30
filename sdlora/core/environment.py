"""What processes that compute need in their environment, before torch loads OpenMP."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

TURNS = 3000  # that a thread spins before it sleeps, where it may
IDLE = 0.25  # of one core


def child_environment() -> dict[str, str]:
    """What worker and previewer need beside their parent's environment; what is set already stays.

    The package is found from whatever folder the parent was started in. transformers says nothing about torchvision,
    which nothing here needs.
    """
    package = str(Path(__file__).parents[2])
    wanted = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": _turns(), "TRANSFORMERS_VERBOSITY": "error"}
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **wanted,
        **{k: os.environ[k] for k in wanted if k in os.environ},
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
    }


def _turns() -> str:
    """OpenMP's threads wait for each other thousands of times a step. Spinning a little is quicker than sleeping on an
    idle machine (0.31 s a step against 0.44), and slower beside other work (0.99 against 0.55): see bench/README.md."""
    return str(TURNS if "GOMP_SPINCOUNT" not in os.environ and _idle() else 0)


def _idle() -> bool:
    """Whether others leave the machine alone, for a tenth of a second at least: a click makes a browser busy for a moment."""
    return any(psutil.cpu_percent(0.1) / 100 * (os.cpu_count() or 1) < IDLE for _ in range(4))


def gpus(listed: Path = Path("/proc/driver/nvidia/gpus")) -> int:
    """How many NVIDIA GPUs there are, for who must not load torch; 0 where the driver does not say."""
    return sum(1 for _ in listed.glob("*"))
