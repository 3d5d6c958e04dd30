"""Jobs on a Ray cluster of real raylets: one a node, and a job whose node dies goes on elsewhere to the same bytes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from sdlora.data import import_pictures
from sdlora.jobs import runner
from sdlora.jobs.launchers.launcher import Launcher
from sdlora.jobs.paths import JobPaths, Workspace
from sdlora.jobs.queue import Queue
from sdlora.web.views import progress
from sdlora.web.views.queue_notes import Notes
from tests.jobs import told, wait, weights_of
from tests.test_jobs import job

pytest.importorskip("ray", reason="the optional extra `ray` is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning:ray"),
]

HERE = "127.0.0.2"  # on this machine only; Ray takes 127.0.0.1 for an outer address
ONE = {"num_cpus": 1, "object_store_memory": 80 << 20, "node_ip_address": HERE}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that runs no jobs and two nodes, all on the loopback address."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={**ONE, "num_cpus": 0, "include_dashboard": False})
    try:
        for name in ("left", "right"):
            made.add_node(**ONE, node_name=name, wait=True)
        monkeypatch.setenv("SDLORA_RUNNER", "ray")
        monkeypatch.setenv("RAY_ADDRESS", made.address)
        yield made
    finally:
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
                if "sdlora.jobs.launchers.ray" in process.cmdline():
                    process.kill()
        made.shutdown()


def kill(node: Any) -> None:
    """As a power cut would: the raylet with all that it started, workers included."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in [raylet, *raylet.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker leaves with its raylet
            process.kill()


def watch(queue: Queue, until: Callable[[], object]) -> None:
    """What the web process does once a second."""

    def seen() -> object:
        queue.tick()
        time.sleep(0.2)
        return until()

    wait(seen, 100)


def row(place: Workspace, paths: JobPaths) -> str:
    """The job's line on the page."""
    page: Any = SimpleNamespace(workspace=place, language="en", say=lambda text, **_: text.say("en"))
    shown = next(found for found in runner.jobs(place) if found.spec.id == paths.id)
    notes: Notes = {}
    return str(progress.jobs(page, [shown], 0, paths.id, notes))


def test_a_dead_nodes_job_goes_on_elsewhere_to_the_same_bytes(
    cluster: Any, workspace: Path, pictures: Path, tiny_base: Path
) -> None:
    place, queue = Workspace(workspace).make(), Queue(Workspace(workspace), Launcher.from_environment())
    dataset = import_pictures([pictures], place.datasets)
    whole = job(place, dataset, tiny_base, **{"train.steps": 150})
    # another job, the same training
    broken = job(place, dataset, tiny_base, **{"train.steps": 150, "train.sample_every": 299})

    watch(queue, lambda: runner.node(whole) and runner.node(broken))
    first = runner.node(broken)
    assert {runner.node(whole), first} == {f"left ({HERE})", f"right ({HERE})"}, "both at once"
    assert f"on {first}" in row(place, broken)

    watch(queue, lambda: told(broken).step >= 20)
    kill(next(node for node in cluster.worker_nodes if first.startswith(node._ray_params.node_name)))
    watch(queue, lambda: runner.status(broken) == "interrupted")
    assert 0 < broken.saved_step() < 150

    watch(queue, lambda: runner.status(whole) == "done" and runner.status(broken) == "done")
    assert runner.attempts(broken) == 2
    assert runner.node(broken) == runner.node(whole) != first
    assert f"on {runner.node(whole)}" in row(place, broken)
    assert weights_of(whole) == weights_of(broken)
