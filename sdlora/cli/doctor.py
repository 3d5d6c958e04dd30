"""`doctor`: what this machine can do."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from typing import Any

from sdlora import __version__
from sdlora.cli.options import JsonOption, WorkspaceOption, open_workspace, print_json


def doctor(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Say what this machine can do: device, precision, memory, versions, room on the disk."""
    place = open_workspace(workspace)
    report = {**_machine(), "disk_free_gb": round(shutil.disk_usage(place.root).free / 1e9, 1), "versions": _versions()}
    if as_json:
        print_json(report)
        return
    for name, value in report.items():
        print(f"{name:14} {value}")


def _machine() -> dict[str, Any]:
    import torch

    from sdlora.models.precision import SMALL, default_device, resolve_dtype

    device = default_device()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "precision": str(resolve_dtype("auto", device, SMALL + 1)).removeprefix("torch."),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
    }
    if device.type == "cuda":
        machine["device_memory_gb"] = round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1)
    return machine


def _versions() -> dict[str, str]:
    versions = {"sdlora": __version__, "python": sys.version.split()[0]}
    for package in ("torch", "diffusers", "transformers", "peft", "accelerate", "gradio", "bitsandbytes", "prodigyopt"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    return versions
