"""Which pictures each batch shows: a pure function of (seed, epoch, shapes), so that any step can be reached at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from sdlora.train.rng import generator


@dataclass
class BatchSampler:
    """Batches of pictures of one shape each. Every epoch shows every picture once; a bucket's last batch may be smaller."""

    shapes: Sequence[tuple[int, ...]]  # by picture
    batch_size: int
    seed: int
    batches_per_epoch: int = 0
    _epoch: int = -1
    _batches: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batches_per_epoch = sum(-(-len(pictures) // self.batch_size) for pictures in self._buckets().values())

    def batch(self, number: int) -> list[int]:
        """Indexes of the pictures in the global batch `number` (from 0)."""
        epoch, position = divmod(number, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[position]

    def _buckets(self) -> dict[tuple[int, ...], list[int]]:
        found: dict[tuple[int, ...], list[int]] = {}
        for index, shape in enumerate(self.shapes):
            found.setdefault(shape, []).append(index)
        return dict(sorted(found.items()))

    def _shuffled(self, epoch: int) -> list[list[int]]:
        g = generator(self.seed, "perm", epoch)
        cut: list[list[int]] = []
        for pictures in self._buckets().values():
            order = [pictures[k] for k in torch.randperm(len(pictures), generator=g).tolist()]
            cut += [order[k : k + self.batch_size] for k in range(0, len(order), self.batch_size)]
        return [cut[k] for k in torch.randperm(len(cut), generator=g).tolist()]
