"""Python imports this first in every process that `bench.peers` starts, sdlora's and the peers' alike, without a line of theirs changed.

It notes when each optimizer step ends, and at exit the process' largest resident size: one clock for all. Only a process that imports
torch's optimizers writes anything. For peers it also finds the stand-in for torchvision.
"""

import atexit
import importlib.util
import json
import os
import resource
import sys
import time
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

OPTIMIZERS = "torch.optim.optimizer"


def note(**what: float) -> None:
    with open(os.environ["BENCH_CLOCK"], "a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


def watch(module: Any) -> None:
    module.register_optimizer_step_post_hook(lambda *_: note(step=time.monotonic()))
    atexit.register(lambda: note(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


class Watch:
    """Has torch's optimizers watched as soon as they are there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != OPTIMIZERS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            watch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class StandIn:
    """Finds our torchvision for whoever imports it, but not for whoever only asks whether there is one: transformers 5 would
    then take it for the whole library."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        asking = sys._getframe(2).f_globals.get("__name__") == "importlib.util"
        if name != "torchvision" or asking:
            return None
        return PathFinder.find_spec(name, [os.environ["BENCH_SHIM"]])


if "BENCH_CLOCK" in os.environ:
    sys.meta_path.insert(0, Watch())
if "BENCH_SHIM" in os.environ:
    sys.meta_path.insert(0, StandIn())
