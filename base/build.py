"""`python -m base.build`: train the bundled base, resumable at any kill."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from base.captions import full_caption
from base.dataset import vae_batches
from base.export import export, load_exported, load_trained, load_vae, newest
from base.fetch import default_work, icons_of
from base.kinds import batch, kinds_of
from base.latents import normalise, training_latents
from base.muon import MuonAdam
from base.names import TRAINING_SETS
from base.state import load_state, save_state
from base.tokenizer import VOCABULARY, learn_tokenizer
from base.training import Plan, Run, run_plan
from base.unet import Denoiser, denoising_loss, noise_schedule
from base.vae import new_vae, vae_loss

VAE_BATCH = 16
BUNDLED = Path(__file__).parents[1] / "sdlora" / "bundled" / "emoji"


def say(line: str) -> None:
    print(line, flush=True)


def train_vae(work: Path, plan: Plan, seed: int) -> None:
    """Stage 1. Leaves `work/vae/final.safetensors`."""
    batches = vae_batches(work, seed)
    vae = new_vae(seed)
    run = Run(vae, MuonAdam(vae, 0.15, ("conv_in", "conv_out", "quant")), work / "vae", plan.average)
    say(f"vae: from step {run.step}" if run.load("stable") else "vae: from the start")

    def loss_at(step: int) -> torch.Tensor:
        torch.manual_seed(seed * 1_000_000 + step)
        return vae_loss(vae, batches.batch(step, VAE_BATCH))

    run_plan(run, plan, loss_at, say)


def load_normalised_vae(work: Path) -> tuple[AutoencoderKL, torch.Tensor, list[tuple[str, str]]]:
    """(the VAE with normalised latents, latents of the taught pictures, their (name, style)); kept in the work folder."""
    vae, latents_file = new_vae(), work / "unet" / "latents.safetensors"
    if latents_file.exists():
        tensors, facts = load_state(latents_file)
        latents = tensors.pop("latents")
        vae.register_to_config(scaling_factor=1.0)
        vae.load_state_dict(tensors)
        return vae.eval(), latents, [tuple(pair) for pair in facts["labels"]]
    load_trained(vae, newest(work / "vae"))
    vae.eval()
    latents, labels = training_latents(vae, work)
    normalise(vae, latents)
    latents, labels = training_latents(vae, work)
    save_state(latents_file, {"latents": latents} | vae.state_dict(), {"labels": labels})
    return vae, latents, labels


def adopt(work: Path, folder: Path) -> None:
    """Take over an exported base's VAE and tokenizer, as if this work folder had made them."""
    vae = load_vae(folder)  # its latents are normalised already
    latents, labels = training_latents(vae, work)
    save_state(work / "unet" / "latents.safetensors", {"latents": latents} | vae.state_dict(), {"labels": labels})
    shutil.copytree(folder / "tokenizer", work / "tokenizer", dirs_exist_ok=True)


def tokenizer_for(work: Path) -> CLIPTokenizer:
    """The tokenizer, learnt once from every name in the training sets."""
    folder = work / "tokenizer"
    if not (folder / "merges.txt").exists():
        names = {w: [n for n in icons_of(p, work) if "skin-tone" not in n] for w, p in TRAINING_SETS.items()}
        learn_tokenizer([full_caption(n, w) for w, listed in names.items() for n in listed], folder)
    return CLIPTokenizer.from_pretrained(folder)


def tokens_of(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """(B, 24) ids, padded with the end token."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def train_unet(work: Path, plan: Plan, seed: int, start: Path | None = None) -> None:
    """Stage 2: text encoder and UNet together. Leaves `work/unet/final.safetensors`.

    `start` is an exported base whose weights, VAE and tokenizer the
    run begins with, where it has no state of its own.
    """
    if start is not None and not (work / "unet" / "latents.safetensors").exists():
        adopt(work, start)
    kinds = kinds_of(*load_normalised_vae(work), work)
    tokenizer, schedule = tokenizer_for(work), noise_schedule()
    denoiser = Denoiser(VOCABULARY, seed)
    if start is not None:
        load_exported(denoiser, start)
    apart = ("conv_in", "conv_out", "embedding.weight")
    run = Run(denoiser, MuonAdam(denoiser, 0.15, apart), work / "unet", plan.average)
    say(f"unet: from step {run.step}" if run.load("stable") else f"unet: from {start}")
    say(", ".join(f"{len(kind.labels)} {word}" for word, kind in kinds.items()))

    def loss_at(step: int) -> torch.Tensor:
        latents, captions, part = batch(kinds, step, seed)
        noise = torch.Generator().manual_seed(seed * 1_000_000 + step)
        return denoising_loss(denoiser, latents, part, tokens_of(tokenizer, captions), schedule, noise)

    run_plan(run, plan, loss_at, say)


def export_base(work: Path, folder: Path, seed: int) -> None:
    """Stage 3: the averaged weights, where they are now, as a diffusers folder."""
    vae, _, _ = load_normalised_vae(work)
    denoiser = Denoiser(VOCABULARY, seed)
    tokenizer_for(work)
    if newest(work / "unet").exists():
        say(f"unet: {load_trained(denoiser, newest(work / 'unet'))}")
    export(vae, denoiser, work / "tokenizer", folder)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="base.build", description=__doc__)
    parser.add_argument("--stage", choices=["vae", "unet", "export", "all"], default="all")
    parser.add_argument("--minutes", type=float, default=240.0, help="wall-clock time; `all` gives the VAE a quarter")
    parser.add_argument("--decay", type=float, default=0.3, help="share of the time in which the rate falls to 0")
    parser.add_argument("--work", type=Path, default=default_work())
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--start", type=Path, help="an exported base to begin with, instead of random weights")
    parser.add_argument("--lr", type=float, default=0.01, help="Muon's rate of the unet stage")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(argv)
    torch.set_num_threads(chosen.threads)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    whole, minutes = chosen.stage == "all", chosen.minutes
    if chosen.stage in ("vae", "all"):
        train_vae(chosen.work, Plan(minutes * (0.25 if whole else 1), 0.01, chosen.decay), chosen.seed)
    if chosen.stage in ("unet", "all"):
        plan = Plan(minutes * (0.75 if whole else 1), chosen.lr, chosen.decay)
        train_unet(chosen.work, plan, chosen.seed, start=chosen.start)
    if chosen.stage in ("export", "all"):
        export_base(chosen.work, chosen.out, chosen.seed)


if __name__ == "__main__":
    main()
