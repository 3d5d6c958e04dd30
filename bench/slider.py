"""`python -m bench.slider`: what a move of the strength slider costs beside diffusers' own pipeline drawing the same picture.

Two warm processes with the same threads draw in turn on the bundled base: the app's previewer through its client, as the page
asks it, and diffusers with the same LoRA file, strength, prompt, seed and steps. Both leave a PNG file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sdlora.core.environment import child_environment
from sdlora.models.bases import EXAMPLE, resolve_base
from sdlora.processes.protocol import PreviewRequest
from sdlora.web.previews import Drawn, Previews

PROMPT, SEED, STEPS, GUIDANCE = "red apple, blueprint", 7, 25, 6.0
BARE = """
import json, sys, torch
from diffusers import StableDiffusionPipeline
base, file, prompt, seed, steps, guidance = json.loads(sys.argv[1])
pipe = StableDiffusionPipeline.from_pretrained(base, local_files_only=True)
pipe.set_progress_bar_config(disable=True)
pipe.load_lora_weights(file, adapter_name="bare")
for line in sys.stdin:
    strength, out = json.loads(line)
    pipe.set_adapters("bare", strength)
    dice = torch.Generator().manual_seed(seed)
    pipe(prompt, num_inference_steps=steps, guidance_scale=guidance, generator=dice).images[0].save(out)
    print(flush=True)
"""


def trained(folder: Path) -> Path:
    """Any LoRA: a few steps of the bundled set."""
    out = folder / "few.safetensors"
    command = [sys.executable, "-m", "sdlora", "train", str(EXAMPLE), "--out", str(out), "--set", "train.steps=20"]
    subprocess.run([*command, "--workspace", str(folder)], check=True, capture_output=True)
    return out


class Bare:
    def __init__(self, file: Path):
        told = json.dumps([str(resolve_base("emoji").path), str(file), PROMPT, SEED, STEPS, GUIDANCE])
        self.process = subprocess.Popen(
            [sys.executable, "-c", BARE, told],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def draw(self, strength: float, out: Path) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([strength, str(out)]) + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()


def ours(previews: Previews, file: Path, strength: float) -> Path:
    request = PreviewRequest("emoji", file, PROMPT, "", SEED, STEPS, GUIDANCE, strength)
    return next(told.file for told in previews.draw("bench", request) if isinstance(told, Drawn))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=20)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"ours": [], "diffusers": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = trained(folder)
        os.environ |= child_environment()  # looked at once, for both
        bare, previews = Bare(file), Previews(folder / "previews")
        for move in range(options.moves + 1):
            strength = round(1.5 * move / options.moves, 4)
            began = time.monotonic()
            ours(previews, file, strength)
            between = time.monotonic()
            bare.draw(strength, folder / "bare.png")
            if move:  # the first loads
                times["ours"].append(between - began)
                times["diffusers"].append(time.monotonic() - between)
        previews.close()
        bare.process.terminate()
    ratios = sorted(a / b for a, b in zip(times["ours"], times["diffusers"], strict=True))
    for what, seconds in times.items():
        print(f"{what}: {statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")
    print(f"ratio: {statistics.median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
