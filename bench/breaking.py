"""What breaks in a soak: one method a fault, each True if it really struck."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sdlora.core.errors import BadInput
from sdlora.jobs import runner
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.queue import Queue

PATIENCE = 15.0  # seconds to wait for a worker to break


@dataclass
class App:
    """The web app, started again whenever it was killed."""

    workspace: Path
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self) -> None:
        command = [sys.executable, "app.py", "--port", "0", "--workspace", str(self.workspace)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        for line in self.process.stdout:
            ready = re.search(r"ready on (http://\S+)", line)
            if ready:
                self.url = ready[1]
                return
        raise RuntimeError("the app did not start")

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        assert self.process
        self.process.terminate()
        self.process.wait(15)

    def answers(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/en/", timeout=10) as response:
            return bool(response.status == 200)


@dataclass
class Breaking:
    """The faults, and what they need. `jobs` are the unfinished ones."""

    app: App
    place: Workspace
    base: Path
    own_disk: bool
    jobs: list[JobPaths]
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    slowest_detection: float = 0.0  # seconds until a killed worker was seen

    def kinds(self) -> dict[str, Callable[[], bool]]:
        found = {
            "worker killed": self.kill_worker,
            "worker told to leave": self.terminate_worker,
            "worker frozen": self.freeze_worker,
            "web process killed": self.kill_app,
            "state damaged": self.damage_state,
            "stopped by hand": self.stop,
            "many start at once": self.start_many,
            "base changed": self.change_base,
        }
        return {**found, "disk filled": self.fill_disk} if self.own_disk else found

    def kill_worker(self) -> bool:
        return self._signal(signal.SIGKILL)

    def terminate_worker(self) -> bool:
        return self._signal(signal.SIGTERM)

    def freeze_worker(self) -> bool:
        if not self._signal(signal.SIGSTOP):
            return False
        time.sleep(self.chance.uniform(1, 5))
        return self._signal(signal.SIGCONT)

    def kill_app(self) -> bool:
        self.app.kill()
        self.app.start()
        return True

    def damage_state(self) -> bool:
        """Flip a bit in the newest of two states; the worker that reads it next must take the older one."""
        for paths in self.jobs:
            states = sorted(paths.state.glob("step-*/tensors.safetensors"))
            if len(states) == 2:
                with contextlib.suppress(OSError):
                    data = bytearray(states[-1].read_bytes())
                    data[-1] ^= 1
                    states[-1].write_bytes(data)
                    self._signal(signal.SIGKILL)
                    return True
        return False

    def stop(self) -> bool:
        for paths in self.jobs:
            if runner.status(paths) == "running":
                with contextlib.suppress(BadInput):
                    runner.stop(paths)
                    return True
        return False

    def start_many(self) -> bool:
        """Sixteen who all want to start what waits."""
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: Queue(self.place).tick(), range(16)))
        return True

    def change_base(self) -> bool:
        """Another base for the next worker that starts; then the old one again."""
        file = self.base / "unet" / "diffusion_pytorch_model.safetensors"
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        self._signal(signal.SIGKILL)
        time.sleep(12)
        file.write_bytes(data)
        return True

    def fill_disk(self) -> bool:
        """No byte is free for some seconds."""
        filler = self.place.root.parent / "filler"
        with open(filler, "wb") as file:
            room = os.statvfs(filler)
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize))
        time.sleep(self.chance.uniform(3, 10))
        filler.unlink()
        return True

    def _signal(self, number: int) -> bool:
        """To the worker that runs, once there is one."""
        end = time.monotonic() + PATIENCE
        while not (pids := workers(self.place)) and time.monotonic() < end:
            time.sleep(0.2)
        running = [paths for paths in self.jobs if runner.status(paths) in ("running", "stopping")]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        began = time.monotonic()
        while number == signal.SIGKILL and pids and any(runner.status(p) in ("running", "stopping") for p in running):
            time.sleep(0.01)
            if time.monotonic() - began > 60:
                raise RuntimeError("a killed worker is not seen")
        self.slowest_detection = max(self.slowest_detection, time.monotonic() - began)
        return bool(pids)


def workers(place: Workspace) -> list[int]:
    """Pids of the workers of this workspace."""
    return [
        pid for pid, words in _processes("cmdline") if "sdlora.processes.worker" in words and str(place.jobs) in words
    ]


def relatives(place: Workspace) -> list[int]:
    """Pids of all that the app started, or that was started for it: they know where its uploads go."""
    return [pid for pid, words in _processes("environ") if f"GRADIO_TEMP_DIR={place.root}" in words]


def _processes(what: str) -> list[tuple[int, str]]:
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit():
                found.append((int(folder.name), (folder / what).read_bytes().decode(errors="replace")))
    return found
