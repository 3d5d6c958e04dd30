"""A warm parent that has loaded what a process needs, and forks one for each start: `python -m tests.fork_server MODULE …`.

Half of the time of tests with real processes was importing torch. A fork runs the same `__main__` with the same words, folder,
environment and descriptors as the process that was asked for; only imports are spared. Of each kind of process one is started
from nothing all the same: tests/README.md names the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from sdlora.core.environment import child_environment
from tests import stand_in

# What a server loads before it forks. The page never loads torch, so it has a server of its own.
COMPUTE = (
    "torch",
    "diffusers.pipelines.stable_diffusion",
    "diffusers.pipelines.stable_diffusion_xl",
    "sdlora.cli",
    "sdlora.train.run",
    "sdlora.render.renderer",
    "sdlora.processes.worker",
    "sdlora.processes.previewer",
    "accelerate.commands.launch",
    "torch.distributed.run",
)
PAGE = ("sdlora.cli", "sdlora.web.server", "sdlora.web.serve")
SERVED = {
    "-m sdlora app": PAGE,
    "-m tests.web.walk": PAGE,
    "-m tests.dummy_screen": PAGE,
    "-m sdlora": COMPUTE,
    "-m sdlora.processes.worker": COMPUTE,
    "-m sdlora.processes.previewer": COMPUTE,
    "-m accelerate.commands.launch": COMPUTE,
}
HIGH = 500  # descriptors from here on are free


@dataclass
class ForkServers:
    """The servers of one test run, each started when it is first needed. `python` stands in for `sys.executable`."""

    folder: Path
    running: dict[tuple[str, ...], subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def python(self) -> str:
        return str(self.folder / "python")

    def need(self, *sets: tuple[str, ...]) -> str:
        """Returns `python`. Whoever connects before a server is ready waits."""
        for modules in sets:
            if modules not in self.running:
                self.running[modules] = self._start(modules)
        source = Path(stand_in.__file__).read_text(encoding="utf-8")
        served = {words: self._socket(modules) for words, modules in SERVED.items() if modules in self.running}
        program = self.folder / "python.new"
        program.write_text(
            f"#!{os.path.realpath(sys.executable)} -ISE\n{source}\nmain({sys.executable!r}, {served!r})\n"
        )
        program.chmod(0o755)
        program.replace(self.python)
        return self.python

    def _start(self, modules: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self._socket(modules))
            listener.listen(64)
            return subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(listener.fileno()), *modules],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                env={**os.environ, **child_environment(), "HF_HUB_OFFLINE": "1"},
            )

    def _socket(self, modules: tuple[str, ...]) -> str:
        return str(self.folder / ("page" if modules is PAGE else "compute"))

    def end(self) -> None:
        for server in self.running.values():
            assert server.stdin
            server.stdin.close()
        for server in self.running.values():
            assert server.wait(60) == 0


@dataclass(eq=False)
class Fork:
    """One process that was asked for. Its end is told; when the one who asked is gone, it is killed."""

    pid: int
    end: int  # a descriptor that can be read when it has ended
    asked: socket.socket

    @property
    def descriptors(self) -> tuple[int, int]:
        return self.end, self.asked.fileno()

    def serve(self, descriptor: int) -> bool:
        """Pass signals on, tell the end; True when it has ended."""
        if descriptor != self.end:
            try:
                numbers = self.asked.recv(64)
            except OSError:
                numbers = b""
            for number in numbers or bytes([signal.SIGKILL]):
                os.kill(self.pid, number)
            if numbers:
                return False
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with contextlib.suppress(OSError):  # nobody waits any more
            self.asked.sendall(code.to_bytes(4, "little", signed=True))
        return True

    def close(self) -> None:
        os.close(self.end)
        self.asked.close()


def main(listener: socket.socket, modules: list[str]) -> None:
    for module in modules:
        import_module(module)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and these end their servers
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    assert len(os.listdir("/proc/self/task")) == 1, "a thread would not live on in a fork"
    forks: list[Fork] = []
    with selectors.DefaultSelector() as ready:
        ready.register(sys.stdin, selectors.EVENT_READ)
        ready.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    for fork in forks:
                        os.kill(fork.pid, signal.SIGKILL)
                    return
                if key.fileobj is listener:
                    fork = start(listener.accept()[0])
                    forks.append(fork)
                    for descriptor in fork.descriptors:
                        ready.register(descriptor, selectors.EVENT_READ, fork)
                elif key.data in forks and key.data.serve(key.fd):  # not one whose end was told a moment ago
                    forks.remove(key.data)
                    for descriptor in key.data.descriptors:
                        ready.unregister(descriptor)
                    key.data.close()


def start(asked: socket.socket) -> Fork:
    """A fork for one request."""
    head, descriptors, _, _ = socket.recv_fds(asked, 4, 250)
    text = b""
    while len(text) < int.from_bytes(head, "little"):
        text += asked.recv(1 << 20)
    request = json.loads(text)
    pid = os.fork()
    if pid == 0:
        become(request, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return Fork(pid, os.pidfd_open(pid), asked)


def become(request: dict[str, Any], received: list[int]) -> None:
    """The process that was asked for, from its first line to its end."""
    code = 1
    try:
        _settle(request, received)
        if fault := os.environ.pop("SDLORA_TEST_FAULT", ""):
            import_module("tests.faults.plan").apply(json.loads(fault))
        module = request["words"][1]
        sys.modules.pop(module, None)  # a module that is run is not there before
        sys.argv[:] = [module, *request["words"][2:]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
    except BaseException:
        with contextlib.suppress(OSError):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code & 0xFF)


def _settle(request: dict[str, Any], received: list[int]) -> None:
    """Descriptors, session, folder and environment of the process that was asked for."""
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, HIGH) for descriptor in received]
    os.closerange(0, HIGH)
    for number, descriptor in zip(request["descriptors"], moved, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 (for its life)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["own_session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.executable = request["executable"]
    sys.path[0] = request["folder"]


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
