"""A job on a node of a Ray cluster: `python -m sdlora.jobs.launchers.ray FOLDER [ADDRESS]`.

This process stands in for the worker: it holds the job's lock as long as Ray says that the worker lives, and ends with its
exit code. A dead node fails the task, which ends this process without an outcome: to the queue, any killed worker.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from sdlora.core.files import write_json
from sdlora.jobs import lock
from sdlora.jobs.launchers import local
from sdlora.jobs.paths import JobPaths
from sdlora.jobs.spec import Outcome

CONNECT_TIMEOUT = 10.0  # seconds that the cluster's head has to answer
SAVE_TIMEOUT = 10.0  # seconds that a worker cut off from its cluster has to save and end before its successor gives up
PR_SET_PDEATHSIG = 1


def command(paths: JobPaths, address: str) -> list[str]:
    """Start this module for a job. `address` "" = the cluster that this machine is part of."""
    return [sys.executable, "-m", "sdlora.jobs.launchers.ray", str(paths.folder), *([address] if address else [])]


def main(folder: Path, address: str = "auto") -> int:
    """Let the cluster run the job and wait for its end. Returns the worker's exit code, 1 where it was lost."""
    import ray

    paths = JobPaths(folder.absolute())
    os.set_inheritable(int(os.environ.pop("SDLORA_LOCK_FD")), False)
    check_reachable(address)
    ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
    request = resources(ray.nodes())
    print(f"Asked the cluster for {request}.", flush=True)
    task = ray.remote(run_worker).options(max_retries=0, **request).remote(str(paths.folder))
    while not ray.wait([task], timeout=1.0)[0]:
        if paths.stop.exists() and not paths.node.exists():  # once it is placed, the worker sees the file itself
            ray.cancel(task)
    try:
        return int(ray.get(task))
    except ray.exceptions.TaskCancelledError:
        if Outcome.read(paths) is None:
            Outcome("stopped", step=paths.saved_step(), seconds=0.0).write(paths)
        return 0
    except ray.exceptions.RayError as error:
        print(f"The worker was lost: {error}", file=sys.stderr)
        return 1


def check_reachable(address: str) -> None:
    """Connect once: Ray itself retries for ever where nothing listens.

    Raises:
        OSError: nothing listens there.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.rpartition("/")[2], int(port)), CONNECT_TIMEOUT).close()


def resources(nodes: list[dict[str, Any]]) -> dict[str, int]:
    """One GPU where the cluster has any, else as many cores as its smallest node: they become the thread count, and equal thread
    counts give equal bytes on every node."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if any(has.get("GPU") for has in alive):
        return {"num_gpus": 1}
    return {"num_cpus": min((int(has["CPU"]) for has in alive if has.get("CPU", 0) >= 1), default=1)}


def run_worker(folder: str) -> int:
    """On the node: run the worker to its end."""
    paths = JobPaths(Path(folder))
    lock_fd = lock.acquire(paths.node_lock, SAVE_TIMEOUT)
    if lock_fd is None:
        return 2
    try:
        write_json(paths.node, _this_node())
        libc = ctypes.CDLL(None)

        def end_with_parent() -> None:  # by SIGTERM: the worker saves its last step and ends
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        with local.spawn(paths, lock_fd, local.command(paths), end_with_parent) as process:
            return process.wait()
    finally:
        os.close(lock_fd)


def _this_node() -> dict[str, str]:
    import ray

    own = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == own)
    address = node["NodeManagerAddress"]
    name = node["NodeName"]  # the address where nobody gave one
    return {"name": node["NodeManagerHostname"] if name == address else name, "address": address}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:3]))
