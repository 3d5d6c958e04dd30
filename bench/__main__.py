"""`python -m bench`: our trainer beside the floor and, where they are given, diffusers' script and sd-scripts; interleaved, as medians and ratios.

    python -m bench --steps 100 --rounds 2 --peer-diffusers DIR --python-diffusers FILE --peer-kohya DIR --python-kohya FILE

Each round runs every trainer once. What is equal and what is not, and what is measured: `bench.peers`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from bench import peers
from bench.peers import Peer, Taken, Task
from bench.work import draw_pictures, make_base

# what of a run, beside whom, at most what ratio
Measure = Callable[[Taken], float | None]
TARGETS: list[tuple[str, Measure, str, float]] = [
    ("step", lambda t: t.step, "floor", 1.05),
    ("step", lambda t: t.step, "diffusers", 0.75),
    ("step", lambda t: t.step, "sd-scripts", 0.87),
    ("peak memory", lambda t: t.peak, "diffusers", 0.70),
    ("wait before the first step", lambda t: t.wait, "sd-scripts", 0.60),
    ("whole command", lambda t: t.whole, "quicker peer", 0.80),
]
Found = dict[str, list[Taken]]


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="sdlora-bench-") as folder:
        found = measure(options, options.folder or Path(folder))
    _report(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="of each run; the first is not counted. At least 3")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--stored", choices=["fp32", "fp16", "bf16"], default="fp32", help="numbers of the base's files"
    )
    parser.add_argument("--folder", type=Path, help="where base and runs are kept; else they are removed at the end")
    for name, what in (("diffusers", "diffusers"), ("kohya", "sd-scripts")):
        parser.add_argument(f"--peer-{name}", type=Path, help=f"a checkout of {what}")
        parser.add_argument(
            f"--python-{name}", type=Path, default=Path(sys.executable), help=f"that has what {what} needs"
        )
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> Found:
    folder = folder.absolute()
    base, pictures = make_base(folder / f"base-{options.stored}", options.stored), draw_pictures(folder / "set/1_set")
    commands: dict[str, Callable[[Task], list[str]]] = {"ours": peers.ours}
    if options.peer_diffusers:
        commands["diffusers"] = partial(peers.diffusers, peer=_peer(options.peer_diffusers, options.python_diffusers))
    if options.peer_kohya:
        commands["sd-scripts"] = partial(peers.sd_scripts, peer=_peer(options.peer_kohya, options.python_kohya))
    found: Found = {"floor": [], **{name: [] for name in commands}}
    for number in range(options.rounds):
        found["floor"].append(peers.floor(options.steps, options.threads))
        for name, command in commands.items():
            with tempfile.TemporaryDirectory(prefix=f"{number}-{name}-", dir=folder) as own:
                task = Task(base, pictures, options.steps, Path(own) / "run")
                found[name].append(peers.run(command(task), task, options.threads, with_shim=name != "ours"))
        print(f"round {number + 1}: " + ", ".join(f"{name} {_short(f[-1])}" for name, f in found.items()), flush=True)
    return found


def _peer(checkout: Path, python: Path) -> Peer:
    """Not resolved: a virtual environment's Python is a link to another one."""
    return Peer(checkout.absolute(), python.absolute())


def _short(t: Taken) -> str:
    whole = "" if t.whole is None else f" ({t.wait:.0f} s before, {t.whole:.0f} s in all)"
    return f"{t.step:.2f} s a step, {t.peak / 1e9:.2f} GB{whole}"


def _report(found: Found) -> None:
    print("\n| | seconds a step: median (least to most) | peak memory | wait before the first step | whole command |")
    print("|---|---|---|---|---|")
    for name, runs in found.items():
        seconds = [s for run in runs for s in run.seconds]
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        peak = f"{max(run.peak for run in runs) / 1e9:.2f} GB"
        print(f"| {name} | {spread} | {peak} | {_spread(r.wait for r in runs)} | {_spread(r.whole for r in runs)} |")
    print("\n| ours, of | | asked | median | round by round |\n|---|---|---|---|---|")
    for what, of, beside, most in TARGETS:
        ratios = [_ratio(found, of, beside, k) for k in range(len(found["ours"]))]
        measured = [r for r in ratios if r is not None]
        if measured:
            each = ", ".join(f"{r:.2f}" for r in measured)
            print(f"| {what} | {beside} | <= {most:.2f} | {statistics.median(measured):.2f} | {each} |")


def _spread(values: Iterable[float | None]) -> str:
    measured = [v for v in values if v is not None]
    return f"{statistics.median(measured):.0f} s ({min(measured):.0f} to {max(measured):.0f})" if measured else ""


def _ratio(found: Found, of: Measure, beside: str, k: int) -> float | None:
    """Ours to the other's in one round, so that what slows the machine slows both."""
    names = ("diffusers", "sd-scripts") if beside == "quicker peer" else (beside,)
    theirs = [value for name in names if name in found and (value := of(found[name][k])) is not None]
    mine = of(found["ours"][k])
    return None if mine is None or len(theirs) < len(names) else mine / min(theirs)


if __name__ == "__main__":
    main()
