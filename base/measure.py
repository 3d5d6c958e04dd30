"""`python -m base.measure`: every figure that the base is judged by, as the table of the model card."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from base.augment import EDGE
from base.captions import full_caption
from base.export import load_vae
from base.fetch import default_work
from base.holdout import evenly, fx_icons
from base.judge import Real, load_judge, real_pictures, style_share_of
from base.latents import as_input, encode, named_icons
from base.names import JUDGING_SETS, PLAINEST, TRAINING_SETS
from base.palettes import in_palettes, untaught
from base.render import draw, draw_exact, on_white
from base.sampling import pipeline, sample
from base.vae import psnr, reconstruct

BUNDLED = Path(__file__).parents[1] / "sdlora" / "bundled" / "emoji"
CAPTIONS, TOP = 200, 10
LORA_PICTURES, LORA_NAMES = 24, 50
STRENGTHS = (0.0, 0.5, 1.0)
NAMING_FILE = "naming.json"  # the base's own share, for comparison with a LoRA's


@dataclass(frozen=True)
class Figure:
    """One line of the table. `good` is None where nothing was asked."""

    what: str
    asked: str
    got: str
    good: bool | None = None


@dataclass(frozen=True)
class Bench:
    """What every measurement needs."""

    base: Path
    work: Path
    vae: AutoencoderKL
    judge: nn.Sequential


def name_accuracy(
    vae: AutoencoderKL, pictures: np.ndarray, names_asked: list[str], real: Tensor, names: list[str]
) -> float:
    """Share of the pictures whose TOP nearest real pictures (distance in latents) include the name asked for.

    `real` is (N, 4, 16, 16), one for each of `names`.
    """
    distance = torch.cdist(encode(vae, pictures).flatten(1), real.flatten(1))
    nearest = distance.topk(TOP, largest=False).indices.tolist()
    return float(np.mean([names.index(m) in row for m, row in zip(names_asked, nearest, strict=True)]))


def vae_figures(bench: Bench) -> list[Figure]:
    """PSNR on the training sets and on OpenMoji; style of FxEmoji's reconstructions."""
    lines = []
    for style in [*TRAINING_SETS, *JUDGING_SETS]:
        real: Real = real_pictures(style, bench.work)
        x = as_input(real.pictures[evenly(len(real.names), 300)])
        y = reconstruct(bench.vae, x)
        asked = {"openmoji": 24.0, "fxemoji": None}.get(style, 27.0)
        got = psnr(x, y).mean().item()
        good = None if asked is None else got >= asked
        lines.append(Figure(f"VAE: PSNR on {style}", f">= {asked} dB" if asked else "", f"{got:.1f} dB", good))
        if style in JUDGING_SETS:
            real_share, share = style_share_of(bench.judge, x, style), style_share_of(bench.judge, y, style)
            limit = 0.9 if style == "fxemoji" else None
            what = f"VAE: reconstructions of {style} called {style} (the real ones: {real_share:.0%})"
            lines.append(
                Figure(what, ">= 90 %" if limit else "", f"{share:.0%}", None if limit is None else share >= limit)
            )
    return lines


def naming_figures(bench: Bench) -> list[Figure]:
    """Right name among the TOP nearest, right style, for CAPTIONS captions."""
    names, icons = named_icons(bench.work)
    pairs = random.Random(0).sample([(n, s) for n in names for s in TRAINING_SETS], CAPTIONS)
    begun = time.monotonic()
    pictures = sample(pipeline(bench.base), [full_caption(n, s) for n, s in pairs], seed=1000)
    seconds = (time.monotonic() - begun) / CAPTIONS
    name_shares, style_counts = [], []
    for style in TRAINING_SETS:
        mine = [i for i, (_, s) in enumerate(pairs) if s == style]
        real = encode(bench.vae, draw_exact(icons[style], names, EDGE))
        name_shares.append(
            name_accuracy(bench.vae, pictures[mine], [pairs[i][0] for i in mine], real, names) * len(mine)
        )
        style_counts.append(style_share_of(bench.judge, as_input(pictures[mine]), style) * len(mine))
    name_share, style_share = (
        round(sum(right)) / CAPTIONS for right in (name_shares, style_counts)
    )  # they are whole pictures
    (bench.work / NAMING_FILE).write_text(json.dumps(name_share), encoding="utf-8")
    return [
        Figure(
            f"Naming: right name in the top {TOP} of {len(names)}", ">= 60 %", f"{name_share:.0%}", name_share >= 0.6
        ),
        Figure("Naming: right style by the classifier", ">= 90 %", f"{style_share:.1%}", style_share >= 0.9),
        Figure("A picture (25 steps, guidance), in batches of 24", "", f"{seconds:.2f} s"),
    ]


def colour_figures(bench: Bench) -> list[Figure]:
    """How far colours are off, as drawn and in palettes on names that these were never taught on."""
    names, icons = named_icons(bench.work)
    labels = untaught(names)
    plain = [(name, PLAINEST) for name, _ in labels]
    real_pictures_of = {
        "": draw_exact(icons[PLAINEST], [name for name, _ in labels], EDGE),
        " in a palette": in_palettes(icons[PLAINEST], labels),
    }
    lines = []
    for (what, real), asked in zip(real_pictures_of.items(), (plain, labels), strict=True):
        pictures = sample(pipeline(bench.base), [full_caption(*pair) for pair in asked], seed=3000)
        lines.append(
            Figure(
                f"Colours{what}: median distance from the real pixel, of 442",
                "",
                f"{median_colour_distance(pictures, real):.1f}",
            )
        )
    return lines


def median_colour_distance(pictures: np.ndarray, real: np.ndarray) -> float:
    """Mean over pictures of the median RGB distance between the same pixels, where the real one is not white ground."""
    distance = np.linalg.norm(pictures.astype(float) - real, axis=-1)
    inside = np.asarray((real < 250).any(-1))
    return float(np.mean([np.median(d[i]) for d, i in zip(distance, inside, strict=True)]))


def lora_figures(bench: Bench) -> list[Figure]:
    """Train a LoRA on FxEmoji through the command line, then draw other names at rising strength."""
    icons = fx_icons(bench.work)
    names = random.Random(0).sample(sorted(icons), len(icons))
    taught, others = names[:LORA_PICTURES], names[LORA_PICTURES : LORA_PICTURES + LORA_NAMES]
    lora, seconds = train_lora(bench, icons, taught)
    print(f"LoRA trained in {seconds:.0f} s", flush=True)
    everything = sorted(icons)
    real = encode(bench.vae, draw_exact(icons, everything, EDGE))
    prompts = [f"{name.replace('-', ' ')}, fxemoji style" for name in others]
    style_shares, name_shares = {}, {}
    for strength in STRENGTHS:
        pictures = sample(pipeline(bench.base, lora, strength), prompts, seed=2000)
        style_shares[strength] = style_share_of(bench.judge, as_input(pictures), "fxemoji")
        name_shares[strength] = name_accuracy(bench.vae, pictures, others, real, everything)
    naming_file = bench.work / NAMING_FILE
    base_named = json.loads(naming_file.read_text(encoding="utf-8")) if naming_file.exists() else 1.0
    rising = all(style_shares[a] < style_shares[b] for a, b in itertools.pairwise(STRENGTHS))
    shares = ", ".join(f"{style_shares[s]:.0%} at {s:g}" for s in STRENGTHS)
    return [
        Figure(
            "LoRA: 24 FxEmoji pictures, `style` preset, whole command", "< 180 s", f"{seconds:.0f} s", seconds < 180
        ),
        Figure("LoRA: called FxEmoji at strength 0", "< 10 %", f"{style_shares[0.0]:.0%}", style_shares[0.0] < 0.1),
        Figure("LoRA: called FxEmoji at strength 1", ">= 80 %", f"{style_shares[1.0]:.0%}", style_shares[1.0] >= 0.8),
        Figure("LoRA: the share grows with strength", "yes", shares, rising),
        Figure(
            f"LoRA: right name in the top {TOP} of {len(everything)} FxEmoji pictures at strength 1",
            f">= {base_named / 2:.0%}, half of the base's",
            f"{name_shares[1.0]:.0%}",
            name_shares[1.0] >= base_named / 2,
        ),
    ]


def train_lora(bench: Bench, icons: dict[str, dict], names: list[str]) -> tuple[Path, float]:
    """(LoRA file, seconds of the whole command) for `style` on these pictures, saved at 256 px as a user has them."""
    folder = bench.work / "lora" / "fx-pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(on_white(draw(icons[name], 256))).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"{name.replace('-', ' ')}, fxemoji style\n", encoding="utf-8")
    out = bench.work / "lora" / "fx.safetensors"
    base = "emoji" if bench.base == BUNDLED else str(bench.base)  # by its name: presets have settings for it
    command = [sys.executable, "-m", "sdlora", "train", str(folder), "--preset", "style", "--base", base]
    command += ["--out", str(out), "--workspace", str(bench.work / "lora" / "workspace"), "--json"]
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"sdlora train failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return out, time.monotonic() - begun


def table(figures: list[Figure]) -> str:
    """Markdown."""
    marks = {True: "yes", False: "**no**", None: ""}
    lines = ["| figure | asked | measured | met |", "|---|---|---|---|"]
    lines += [f"| {f.what} | {f.asked} | {f.got} | {marks[f.good]} |" for f in figures]
    return "\n".join(lines)


def save_figures(work: Path, part: str, figures: list[Figure]) -> None:
    """Write one part's figures to the work folder, so that parts can be measured one by one."""
    path = work / f"figures-{part}.json"
    path.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n", encoding="utf-8")


def load_figures(work: Path) -> list[Figure]:
    """All parts measured so far, in order."""
    paths = [work / f"figures-{part}.json" for part in PARTS]
    return [Figure(**f) for p in paths if p.exists() for f in json.loads(p.read_text(encoding="utf-8"))]


PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "vae": vae_figures,
    "naming": naming_figures,
    "colours": colour_figures,
    "lora": lora_figures,
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="base.measure", description=__doc__)
    parser.add_argument("--base", type=Path, default=BUNDLED)
    parser.add_argument("--work", type=Path, default=default_work())
    parser.add_argument("--only", choices=list(PARTS), nargs="+", default=list(PARTS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    chosen = parser.parse_args(argv)
    torch.set_num_threads(chosen.threads)
    judge, accuracy = load_judge(chosen.work)
    bench = Bench(chosen.base, chosen.work, load_vae(chosen.base), judge)
    for part in chosen.only:
        save_figures(chosen.work, part, PARTS[part](bench))
    figures = [Figure("Classifier: right on real pictures held out, mean of five sets", "", f"{accuracy:.0%}")]
    print(table(figures + load_figures(chosen.work)))


if __name__ == "__main__":
    main()
