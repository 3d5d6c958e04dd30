"""Seeds derived from names and numbers, and torch's permutations without torch: the page foretells what the trainer will do."""

from __future__ import annotations

import hashlib
import random
from typing import Literal

# init: adapters' first values · perm: order of an epoch · sample: one training sample · levels: noise level of the first
# one · dropout: adapter dropout of a forward pass · judge: held-out noise · tags: orders of a caption · colours: what a
# sample is recoloured to
Stream = Literal["init", "perm", "sample", "levels", "dropout", "judge", "tags", "colours"]

_MASK = 0xFFFFFFFF


def key(seed: int, stream: Stream, *numbers: int) -> int:
    """A 63-bit seed from BLAKE2b over the names and numbers."""
    text = ":".join((str(seed), stream, *map(str, numbers)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def permutation(count: int, seed: int) -> list[int]:
    """`torch.randperm(count)` of a CPU generator with this seed: Fisher-Yates over 32-bit draws of MT19937 (below 2^32 / 20 entries)."""
    state = [seed & _MASK]
    for index in range(1, 624):  # init_genrand of Matsumoto and Nishimura's mt19937ar.c, which torch uses too
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + index) & _MASK)
    twister = random.Random()
    twister.setstate((3, (*state, 624), None))
    order = list(range(count))
    for index in range(count - 1):
        other = index + twister.getrandbits(32) % (count - index)
        order[index], order[other] = order[other], order[index]
    return order
