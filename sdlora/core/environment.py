"""Environment variables of processes that run torch; they must be set before torch loads OpenMP."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import psutil

DRIVER = Path("/proc/driver/nvidia/gpus")  # one folder a GPU
WSL_CUDA = Path("/usr/lib/wsl/lib/libcuda.so.1")  # Windows' driver, where there is an NVIDIA GPU
SPIN_COUNT = 3000  # iterations that a waiting OpenMP thread spins before it sleeps, on an idle machine
IDLE_CORES = 0.25  # below so much load from others, the machine counts as idle


def child_environment() -> dict[str, str]:
    """Additions to the parent's environment for worker and previewer; variables that are set already keep their value.

    `expandable_segments`: pictures of many shapes fragment CUDA's allocator otherwise. torch reads PYTORCH_ALLOC_CONF, and the
    older PYTORCH_CUDA_ALLOC_CONF where that is missing; whoever has set either keeps it.

    PYTHONPATH makes the package importable from any working folder. transformers' warnings about a missing torchvision are
    silenced: nothing here needs it.
    """
    package = str(Path(__file__).parents[2])
    defaults = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": _spin_count(), "TRANSFORMERS_VERBOSITY": "error"}
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        defaults["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
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


def gpu_count(driver: Path = DRIVER, wsl: Path = WSL_CUDA) -> int:
    """Number of NVIDIA GPUs that torch will see, without torch; 0 where there is no driver."""
    return len(visible_gpus(driver, wsl))


def visible_gpus(driver: Path = DRIVER, wsl: Path = WSL_CUDA) -> list[str]:
    """Their numbers as CUDA_VISIBLE_DEVICES names them, in torch's order. WSL does not list its GPUs: one is assumed there."""
    present = sum(1 for _ in driver.glob("*")) or int(wsl.exists())
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not present or chosen is None:
        return [str(k) for k in range(present)]
    names = [name.strip() for name in chosen.split(",")]
    return list(
        itertools.takewhile(lambda name: name not in ("", "-1"), names)
    )  # CUDA stops at the first that it does not know


def preview_gpu(driver: Path = DRIVER, wsl: Path = WSL_CUDA) -> dict[str, str]:
    """The environment that gives the previewer a GPU of its own: the last one, since trainings take the first ones."""
    gpus = visible_gpus(driver, wsl)
    return {"CUDA_VISIBLE_DEVICES": gpus[-1]} if len(gpus) > 1 else {}


def previews_share_gpu(processes: int, driver: Path = DRIVER, wsl: Path = WSL_CUDA) -> bool:
    """Whether a training of so many processes computes on the previewer's GPU. On a CPU nothing is shared that runs out."""
    count = gpu_count(driver, wsl)
    return 0 < count <= max(1, processes)
