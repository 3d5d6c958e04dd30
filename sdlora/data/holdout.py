"""Which pictures are held out of the training to judge it by."""

from __future__ import annotations

from sdlora.core.seeding import key, permutation

MIN_PICTURES = 8  # in a set from which on some are held out
MAX_HELD_OUT = 64  # pictures: 512 samples an evaluation, however large the set is


def split(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indexes to train on and to hold out. Nothing is held out of a set that is too small to spare any."""
    if count < MIN_PICTURES or share == 0:
        return list(range(count)), []
    order = permutation(count, key(seed, "judge"))
    held_out = min(MAX_HELD_OUT, max(1, round(count * share)))
    return sorted(order[held_out:]), sorted(order[:held_out])
