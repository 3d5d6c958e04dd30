"""The choice of launcher: a value made once from options or environment and handed down to whatever starts jobs."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

from sdlora.core.errors import BadInput
from sdlora.core.text import Text
from sdlora.jobs.launchers import local, ray
from sdlora.jobs.paths import JobPaths

KINDS = ("local", "ray")


@dataclass(frozen=True)
class Launcher:
    """Where workers run: `local`, one job at a time on this machine, or `ray`, each on a node of a cluster."""

    kind: str = "local"
    ray_address: str = ""  # HOST:PORT of the cluster; "" = the one that this machine is part of

    @staticmethod
    def from_environment() -> Launcher:
        """`$SDLORA_RUNNER` and `$RAY_ADDRESS`; for entry points only.

        Raises:
            BadInput: see `check`.
        """
        launcher = Launcher(os.environ.get("SDLORA_RUNNER") or "local", os.environ.get("RAY_ADDRESS", ""))
        launcher.check()
        return launcher

    def check(self) -> None:
        """Raises BadInput for an unknown kind, or where its package is not installed."""
        if self.kind not in KINDS:
            raise BadInput(Text(f"There is no runner {self.kind!r}.", f"ランナー {self.kind!r} はありません。"))
        if self.kind == "ray" and importlib.util.find_spec("ray") is None:
            raise BadInput(
                Text(
                    "Ray is not installed: pip install 'sdlora[ray]'.",
                    "Ray がインストールされていません: pip install 'sdlora[ray]'",
                )
            )

    def command(self, paths: JobPaths) -> list[str]:
        """The process to start for a job. It inherits the job's lock and lives as long as the worker."""
        return ray.command(paths, self.ray_address) if self.kind == "ray" else local.command(paths)
