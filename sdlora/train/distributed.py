"""One job over several processes: each computes its shard of every update's samples, gradients are summed, process 0 writes.

Order, noise, captions and dropout are functions of (step, sample), so which process computes a sample changes rounding only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sdlora.core.device_errors import is_out_of_memory
from sdlora.core.errors import BadInput, DeviceLost
from sdlora.core.oom_retry import free_unused_memory, nothing_left
from sdlora.core.text import Text

BUCKET_VALUES = 16_000_000  # gradients that are summed in one message: 64 MB beside them
SMALL_BUCKETS = Text(
    "Memory ran out while gradients were summed over the processes: they are summed in smaller messages. The result is the same.",
    "プロセス間の勾配の集約中にメモリが不足したため、小さく分けて集約しました。結果は同じです。",
)
TIMEOUT = timedelta(days=30)  # others wait while process 0 draws, evaluates and saves; one that died is noticed at once


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`. All processes must call the collective methods in the same order; a single one pays nothing."""

    rank: int = 0
    size: int = 1

    @property
    def is_main_process(self) -> bool:
        """The one that writes: events, states, samples, checkpoints, outcome."""
        return self.rank == 0

    def shard(self, count: int, position: int) -> list[int]:
        """Which of `count` samples this process computes: every `size`-th of the update, which they enter at `position`."""
        return [k for k in range(count) if (position + k) % self.size == self.rank]

    def device(self) -> torch.device | None:
        """The GPU of this process; None = whatever a single process would take."""
        return torch.device("cuda", self.rank) if self.size > 1 and torch.cuda.is_available() else None

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Process 0 runs the block before the others, which then find what it has downloaded, cached or cleared."""
        if not self.is_main_process:
            self.all_reduce(0)
        yield
        if self.is_main_process and self.size > 1:
            self.all_reduce(0)

    def broadcast(self, flag: bool) -> bool:
        """The flag of process 0, in all of them."""
        return self.all_reduce(flag and self.is_main_process)[0] > 0 if self.size > 1 else flag

    def all_reduce(self, *numbers: float) -> list[float]:
        """Sums over all processes, in float64."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        _all_reduce(sums)
        return sums.tolist()

    def all_reduce_grads(self, parameters: Iterable[nn.Parameter], warn: Callable[[Text], None]) -> None:
        """Replace gradients by their sums over all processes; one that no process has stays None.

        In flat buckets. Where one does not fit into memory, in any process, all go on with buckets of half the size.

        Raises:
            OutOfMemory: not even the gradient of one matrix fits a second time.
        """
        if self.size == 1:
            return
        trained = list(parameters)
        owners = self.all_reduce(*(float(p.grad is not None) for p in trained))
        left = [p for p, count in zip(trained, owners, strict=True) if count]
        limit, told = BUCKET_VALUES, False
        while left:
            bucket = _bucket(left, limit)
            flat, reason = _flatten(bucket)
            if self.all_reduce(float(flat is None))[0]:
                flat = None
                free_unused_memory()
                if len(bucket) == 1:
                    raise nothing_left(reason)
                if not told:
                    warn(SMALL_BUCKETS)
                limit, told = sum(p.numel() for p in bucket) // 2, True
                continue
            assert flat is not None
            _all_reduce(flat)
            for p, grad in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                p.grad = grad.view_as(p)
            left = left[len(bucket) :]


SINGLE_PROCESS = World()


def _bucket(parameters: Sequence[nn.Parameter], limit: int) -> list[nn.Parameter]:
    """The first parameters that have at most `limit` values together, at least one."""
    ends = list(accumulate(p.numel() for p in parameters))
    return list(parameters[: max(1, bisect_right(ends, limit))])


def _flatten(parameters: Sequence[nn.Parameter]) -> tuple[Tensor | None, str]:
    """Their gradients in one row, zeros for one that this process does not have; None and the reason where memory runs out."""
    try:
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        return torch.cat([grad.flatten() for grad in grads]), ""
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None, str(error)


def init_distributed(rank: int, size: int) -> World:
    """Join the other processes at the address in the environment, as `accelerate launch` sets it.

    Raises:
        BadInput: there are fewer GPUs than processes.
    """
    if size == 1:
        return SINGLE_PROCESS
    world = World(rank, size)
    cuda = torch.cuda.is_available()
    if world.is_main_process:  # the others wait for it, so that its reason is the one that is reported
        _refuse_too_many(size, torch.cuda.device_count() if cuda else 0)
    if cuda:
        torch.cuda.set_device(rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", rank=rank, world_size=size, timeout=TIMEOUT)
    return world


def _refuse_too_many(size: int, gpus: int) -> None:
    if torch.backends.mps.is_available() or 0 < gpus < size:
        raise BadInput(
            Text(
                f"train.processes is {size}, but this machine has {max(1, gpus)} GPU(s) and each process needs one of its own. Set it to {max(1, gpus)} or fewer.",
                f"train.processes は {size} ですが、このマシンの GPU は {max(1, gpus)} 基です。プロセスごとに 1 基必要なので、{max(1, gpus)} 以下にしてください。",
            )
        )


def _all_reduce(tensor: Tensor) -> None:
    """Sum in place over all processes.

    Raises:
        DeviceLost: one of them has ended.
    """
    try:
        dist.all_reduce(tensor)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise DeviceLost(
            Text(
                f"Another process of this training has ended: {str(error).splitlines()[0][:200]}",
                f"この学習の別のプロセスが終了しました: {str(error).splitlines()[0][:200]}",
            )
        ) from error
