"""Which picture a row of a table means, however its author wrote the name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from sdlora.data.caption_tables import PICTURE_NAME
from sdlora.data.names import exact_key, folded_key, stem
from sdlora.data.sources import SourceFile


class PictureIndex:
    """Pictures by name, for rows with folders of any kind before the name, other case, no suffix or another one."""

    def __init__(self, pictures: Sequence[SourceFile]):
        makers: tuple[Callable[[str], str], ...] = (
            exact_key,
            folded_key,
            lambda name: exact_key(stem(name)),
            lambda name: folded_key(stem(name)),
        )
        self._by_key: list[dict[str, list[SourceFile]]] = []
        for make_key in makers:
            index: dict[str, list[SourceFile]] = defaultdict(list)
            for picture in pictures:
                index[make_key(picture.name)].append(picture)
            self._by_key.append(index)

    def find(self, written: str, folders: tuple[str, ...]) -> list[SourceFile]:
        """The pictures that a row means in a table that lies in `folders`: none, one, or several where it does not say which.

        `train/a.png` beside `train`, `C:\\me\\a.png` and `a` all find `a.png`; the nearest name counts.
        """
        parts = written.strip().replace("\\", "/").split("/")
        absolute = parts[0] == "" or parts[0].endswith(":")
        parts = [part for part in parts if part not in ("", ".")]
        if not parts:
            return []
        name, whole, by_stem = parts[-1], self._by_key[:2], self._by_key[2:]
        found = [index.get(key, []) for index, key in zip(whole, (exact_key(name), folded_key(name)), strict=True)]
        found += [index.get(key, []) for index, key in zip(by_stem, (exact_key(name), folded_key(name)), strict=True)]
        if PICTURE_NAME.search(name):  # the picture was converted since
            found.append(by_stem[1].get(folded_key(stem(name)), []))
        for candidates in found:
            own = [picture for picture in candidates if picture.folders[0] == folders[0]]
            if nearest := _nearest(own, parts[:-1], folders, absolute):
                return nearest
        return []


def _nearest(
    candidates: list[SourceFile], written: list[str], folders: tuple[str, ...], absolute: bool
) -> list[SourceFile]:
    """Those that lie where the row says, counted from the table's folder; else whose folders end as written; else beside the table."""
    home, said = _keys(folders), _keys(written)
    exact = [picture for picture in candidates if _keys(picture.folders) == home + said]
    if exact:
        return exact
    ends = {picture: _common_ending(_keys(picture.folders), said) for picture in candidates}
    ending = [p for p, length in ends.items() if said and length == max(ends.values()) and length == len(said)]
    if ending:
        return ending
    beside = [picture for picture in candidates if _keys(picture.folders) == home]
    below = [picture for picture in candidates if _keys(picture.folders)[: len(home)] == home]
    if beside or (said and not absolute):
        return beside
    longest = [p for p in below if ends[p] == max(ends[q] for q in below)]
    return longest


def _keys(folders: Sequence[str]) -> tuple[str, ...]:
    return tuple(folded_key(folder) for folder in folders)


def _common_ending(folders: tuple[str, ...], written: tuple[str, ...]) -> int:
    count = 0
    for own, said in zip(reversed(folders), reversed(written), strict=False):
        if own != said:
            break
        count += 1
    return count
