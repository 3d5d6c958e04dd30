"""Muon for matrices and kernels, Adam for the rest, in one optimizer whose state is a flat dict of tensors.

Muon: Jordan et al. 2024, "Muon: an optimizer for hidden layers": the momentum of a weight, seen as a matrix
(out, in * k * k), is replaced by its nearest semi-orthogonal matrix (five Newton-Schulz steps).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def orthogonal(m: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices of m (B, rows, columns), by five Newton-Schulz steps.

    A step is x <- (a + b G + c G G) x with G = x x'. The factors are gathered on the small side and meet x once: a third of the time
    for kernels, which are nine times as wide as high.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = m.shape[1] > m.shape[2]
    x = m.mT if tall else m
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram = x @ x.mT
    whole = torch.eye(len(gram[0])).expand_as(gram)
    for _ in range(5):
        factor = torch.baddbmm(b * gram, gram, gram, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole, gram = factor @ whole, factor @ gram @ factor
    x = whole @ x
    return x.mT if tall else x


def _gradient(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad


class MuonAdam:
    """`step(lr)` with the rate for Muon; Adam's rate is `adam_share` of it."""

    def __init__(self, model: nn.Module, adam_share: float, not_muon: tuple[str, ...] = (), decay: float = 0.0):
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.muon = {n: p for n, p in named if p.ndim >= 2 and not any(k in n for k in not_muon)}
        self.adam = {n: p for n, p in named if n not in self.muon}
        self.adam_share, self.decay, self.count = adam_share, decay, 0
        self.momentum = {n: torch.zeros_like(p) for n, p in self.muon.items()}
        self.first = {n: torch.zeros_like(p) for n, p in self.adam.items()}
        self.second = {n: torch.zeros_like(p) for n, p in self.adam.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update from the gradients, which are cleared."""
        self.count += 1
        self._muon_step(lr)
        self._adam_step(lr * self.adam_share)
        for p in [*self.muon.values(), *self.adam.values()]:
            p.grad = None

    def _muon_step(self, lr: float) -> None:
        shapes: dict[tuple[int, int], list[str]] = {}
        for name, p in self.muon.items():
            self.momentum[name].lerp_(_gradient(p), 0.05)
            shapes.setdefault((p.shape[0], p[0].numel()), []).append(name)
        for (rows, columns), names in shapes.items():
            stacked = torch.stack(
                [_gradient(self.muon[n]).lerp(self.momentum[n], 0.95).reshape(rows, columns) for n in names]
            )
            updates = orthogonal(stacked) * max(1.0, rows / columns) ** 0.5
            for name, update in zip(names, updates, strict=True):
                p = self.muon[name]
                p.mul_(1 - lr * self.decay).add_(update.view_as(p), alpha=-lr)

    def _adam_step(self, lr: float) -> None:
        b1, b2 = 0.9, 0.99
        for name, p in self.adam.items():
            m, v = self.first[name], self.second[name]
            m.lerp_(_gradient(p), 1 - b1)
            v.lerp_(_gradient(p).square(), 1 - b2)
            m_hat, v_hat = m / (1 - b1**self.count), v / (1 - b2**self.count)
            p.addcdiv_(m_hat, v_hat.sqrt() + 1e-8, value=-lr)

    def state(self) -> dict[str, Tensor]:
        kinds = {"momentum": self.momentum, "first": self.first, "second": self.second}
        return {f"{kind}.{n}": t for kind, held in kinds.items() for n, t in held.items()}

    def load(self, state: dict[str, Tensor], count: int) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self.count = count
