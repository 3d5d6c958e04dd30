"""The style classifier: a small convolutional network that tells the five emoji sets apart, trained on real pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from base.augment import EDGE
from base.fetch import icons_of
from base.latents import as_input
from base.muon import MuonAdam
from base.names import JUDGING_SETS, TRAINING_SETS
from base.precision import autocast
from base.render import draw_set, on_white
from base.state import load_state, save_state

STYLES = [*TRAINING_SETS, *JUDGING_SETS]
STEPS, BATCH = 1200, 96


@dataclass(frozen=True)
class Real:
    """Real pictures of one set: uint8 RGB (N, 64, 64, 3) under their names."""

    names: list[str]
    pictures: np.ndarray


def real_pictures(style: str, work: Path) -> Real:
    """All of a set but skin tones and flags, which say more of their subject than of the style."""
    icons = icons_of((TRAINING_SETS | JUDGING_SETS)[style], work)
    names = sorted(n for n in icons if "skin-tone" not in n and "flag" not in n)
    return Real(names, on_white(draw_set(icons, names, EDGE, work / "drawn" / f"{style}-judge-{EDGE}.npy")))


def network() -> nn.Sequential:
    """(B, 3, 64, 64) in -1..1 -> (B, 5) scores."""

    def block(inside: int, outside: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inside, outside, 3, stride, 1), nn.GroupNorm(8, outside), nn.ReLU()]

    first = [nn.Conv2d(3, 48, 4, 2, 1), nn.ReLU()]
    layers = [*block(48, 48, 1), *block(48, 96, 2), *block(96, 96, 1), *block(96, 160, 2), *block(160, 160, 1)]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(160, len(STYLES))]
    return nn.Sequential(*first, *layers, *last)


def held_out(count: int) -> np.ndarray:
    """Mask of the fifth of a set that the classifier is tested on, never trained on."""
    return np.arange(count) % 5 == 4


def load_judge(work: Path) -> tuple[nn.Sequential, float]:
    """(classifier, its accuracy on held-out pictures, mean over the five sets); trained once, kept in the work folder."""
    weights_file, judge = work / "judge.safetensors", network()
    if weights_file.exists():
        weights, facts = load_state(weights_file)
        judge.load_state_dict(weights)
        return judge.eval(), facts["accuracy"]
    real = [real_pictures(style, work).pictures for style in STYLES]
    _train(judge, [as_input(p[~held_out(len(p))]) for p in real])
    shares = [(_predict(judge, as_input(p[held_out(len(p))])) == i).mean() for i, p in enumerate(real)]
    accuracy = float(np.mean(shares))
    save_state(weights_file, judge.state_dict(), {"accuracy": accuracy, "shares": [float(s) for s in shares]})
    return judge, accuracy


def _train(judge: nn.Sequential, real: list[Tensor]) -> None:
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    optimizer = MuonAdam(judge, 0.15, ("0.weight", str(len(judge) - 1)), decay=0.1)
    judge.train()
    for step in range(STEPS):
        label = torch.randint(0, len(real), (BATCH,), generator=rng)
        x = torch.stack([real[k][torch.randint(0, len(real[k]), (1,), generator=rng).item()] for k in label.tolist()])
        with autocast():
            scores = judge(_soften(_shift(x, rng), rng)).float()
        F.cross_entropy(scores, label, label_smoothing=0.05).backward()
        optimizer.step(0.02 * (1 - step / STEPS))
        if step % 100 == 0:
            print(f"classifier: step {step} of {STEPS}", flush=True)
    judge.eval()


def _shift(x: Tensor, rng: torch.Generator) -> Tensor:
    """Mirrored or not, zoomed by up to a tenth, shifted by up to 2 px: position must not give a set away."""
    size = len(x)
    zoom = 1 + (torch.rand(size, generator=rng) - 0.5) * 0.2
    side = torch.where(torch.rand(size, generator=rng) < 0.5, -1.0, 1.0)
    theta = torch.zeros(size, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = zoom * side, zoom
    theta[:, :, 2] = (torch.rand(size, 2, generator=rng) - 0.5) * 0.15
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x - 1, grid, align_corners=False) + 1  # outside is white


def _soften(x: Tensor, rng: torch.Generator) -> Tensor:
    """Half of the pictures as they are, half softer by up to a 3 x 3 mean and a little noisy: a style is told by lines, colours and
    build, and crispness alone, which every VAE takes a little of, must not give a set away."""
    size = len(x)
    share = torch.rand(size, 1, 1, 1, generator=rng) * (torch.rand(size, 1, 1, 1, generator=rng) < 0.5)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    noise = torch.randn(x.shape, generator=rng)
    return torch.lerp(x, blurred, share) + 0.06 * share * noise


@torch.no_grad()
def _predict(judge: nn.Sequential, x: Tensor) -> np.ndarray:
    return torch.cat([judge(part).argmax(1) for part in x.split(64)]).numpy()


def style_share_of(judge: nn.Sequential, x: Tensor, style: str) -> float:
    """Share of pictures x (B, 3, 64, 64) in -1..1 that the classifier calls `style`."""
    return float((_predict(judge, x) == STYLES.index(style)).mean())
