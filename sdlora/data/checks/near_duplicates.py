"""Near duplicates among many pictures without comparing each with each: by bands of their hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sdlora.data.checks.image_stats import ImageStats

DISTANCE = 4  # bits of 64 that may differ; any two such hashes agree in one of five bands
BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # first bit, bits
# Differences of the small copies, of 255, where emoji on white share a hash. Measured on photos and emoji: saved as JPEG of
# quality 40, at 60 % of the size, 6 % brighter or 1 % cropped: mean up to 6.8, largest 30; nearly all other faces: from 37.
COLOURS_MEAN, COLOURS_LARGEST = 8, 32
NEIGHBOURS = 64  # compared within one band: bounds the work where very many pictures look alike


def groups_alike(stats: Sequence[ImageStats]) -> list[list[int]]:
    """Groups of two or more indexes, in order. At most 5 x 64 comparisons a picture."""
    leader = list(range(len(stats)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for left, right in _candidates(stats):
        if _alike(stats[left], stats[right]):
            first, second = sorted((find(left), find(right)))
            leader[second] = first
    groups: dict[int, list[int]] = {}
    for index in range(len(stats)):
        groups.setdefault(find(index), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _candidates(stats: Sequence[ImageStats]) -> Iterator[tuple[int, int]]:
    brightness = [sum(image.colours) for image in stats]
    for first, width in BANDS:
        buckets: dict[int, list[int]] = {}
        for index, image in enumerate(stats):
            buckets.setdefault(image.shapes >> first & (1 << width) - 1, []).append(index)
        for bucket in buckets.values():
            bucket.sort(key=brightness.__getitem__)  # copies are about as bright: they stand side by side
            for position, left in enumerate(bucket):
                for right in bucket[position + 1 : position + 1 + NEIGHBOURS]:
                    yield left, right


def _alike(left: ImageStats, right: ImageStats) -> bool:
    if (left.shapes ^ right.shapes).bit_count() > DISTANCE:
        return False
    differences = [abs(a - b) for a, b in zip(left.colours, right.colours, strict=True)]
    return max(differences) <= COLOURS_LARGEST and sum(differences) <= COLOURS_MEAN * len(differences)
