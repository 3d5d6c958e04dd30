"""`python -m bench`: seconds a step and peak memory beside the floor, interleaved, as medians and ratios."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any


def measure(what: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.step", what, "--steps", str(steps)]
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="each round measures every candidate once")
    parser.add_argument("--steps", type=int, default=6, help="the first of them is not counted")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"floor": [], "ours": []}
    for _ in range(options.rounds):
        for what, results in found.items():
            results.append(measure(what, options.steps))
    print("| what | seconds a step: median (least to most) | peak memory |\n|---|---|---|")
    for what, results in found.items():
        seconds = [s for r in results for s in r["seconds"]]
        peak = statistics.median(r["peak_bytes"] for r in results) / 1e9
        print(
            f"| {what} | {statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) | {peak:.1f} GB |"
        )
    ratios = [
        statistics.median(o["seconds"]) / statistics.median(f["seconds"])
        for o, f in zip(found["ours"], found["floor"], strict=True)
    ]
    print(f"\nours / floor, round by round: {', '.join(f'{r:.2f}' for r in ratios)}")


if __name__ == "__main__":
    main()
