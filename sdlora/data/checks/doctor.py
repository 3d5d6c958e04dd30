"""The check-up of a data set: findings that will hurt the training, each with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sdlora.core.text import Text
from sdlora.data.checks.image_stats import ImageStats, measure_image
from sdlora.data.checks.near_duplicates import groups_alike
from sdlora.data.dataset import Dataset, Item

MIN_PICTURES = 5  # fewer are said
SMALL = 0.75  # of the training size, along a side: down to it the loss is not seen
MAX_WORDS = 75  # CLIP reads 75 tokens and drops the rest; a word is a token or more
JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")  # a letter is a word here: there are no spaces to count
BLUR_SIZE = 512  # sharpness is judged at this longer edge where no resolution is given
MAX_GROUPS = 10  # of duplicates with a finding each
MIXED_RATIO = 3  # how many times wider the widest picture is than the narrowest

Severity = Literal["note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """`items` are names of pictures, for the reader; `code` is for programs and stays put."""

    code: str
    severity: Severity
    items: tuple[str, ...]
    text: Text
    fix: Text


StatsCache = dict[tuple[str, int], ImageStats]  # by a picture's file and the longer edge it was measured at


def check(
    dataset: Dataset, resolution: int | None = None, cache: StatsCache | None = None, buckets: bool = True
) -> list[Finding]:
    """All findings, the worst first. `resolution`: the training size in pixels; without it no picture is too small.

    `buckets`: as in `data.buckets`, each picture is trained in its own shape. Each picture is measured once: statistics in `cache` are not measured again, and new ones are added.
    """
    cache, size = {} if cache is None else cache, resolution or BLUR_SIZE
    stats: dict[str, ImageStats | None] = {}
    for item in dataset.items:
        if item.file not in stats:
            image = cache.get((item.file, size)) or measure_image(dataset.path(item), size)
            if image:
                cache[item.file, size] = image
            stats[item.file] = image
    findings = [
        *_damaged(dataset.items, stats),
        *_few(dataset.items),
        *_same_pixels(dataset.items),
        *_alike(dataset.items, stats),
        *_small(dataset.items, resolution, buckets),
        *_blurry(dataset.items, stats),
        *([] if buckets else _shapes(dataset.items)),
        *_captions(dataset.items),
    ]
    return sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.severity))


def _where(items: Sequence[Item], test: Callable[[Item], bool]) -> tuple[str, ...]:
    return tuple(item.name for item in items if test(item))


def _damaged(items: Sequence[Item], stats: dict[str, ImageStats | None]) -> list[Finding]:
    names = _where(items, lambda item: stats[item.file] is None)
    if not names:
        return []
    text = Text(f"{_count(names)} cannot be read any more.", f"{len(names)} 枚の画像が読めなくなっています。")
    fix = Text("Import the pictures again.", "画像をもう一度読み込んでください。")
    return [Finding("damaged", "error", names, text, fix)]


def _few(items: Sequence[Item]) -> list[Finding]:
    if len(items) >= MIN_PICTURES:
        return []
    text = Text(
        f"There {'is' if len(items) == 1 else 'are'} only {_count(items)}: the result will repeat them.",
        f"画像が {len(items)} 枚しかないため、同じような絵ばかり出るおそれがあります。",
    )
    fix = Text(
        "10 to 30 different pictures are a good start; fewer work with fewer steps.",
        "まずは 10〜30 枚の異なる画像が目安です。少ない場合はステップ数を減らしてください。",
    )
    return [Finding("few-pictures", "warning", (), text, fix)]


def _same_pixels(items: Sequence[Item]) -> list[Finding]:
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(item.sha256, []).append(item.name)
    fix = Text(
        "Keep one of them; copies count double in the training.",
        "1 枚だけ残してください。重複した画像はその分だけ強く学習されます。",
    )
    same = Text("exactly the same", "まったく同じ画像")
    return _of_groups("duplicates", [names for names in groups.values() if len(names) > 1], same, fix)


def _alike(items: Sequence[Item], stats: dict[str, ImageStats | None]) -> list[Finding]:
    """Each stored file once: exact copies are told apart from these."""
    names: dict[str, str] = {}
    for item in items:
        names.setdefault(item.file, item.name)
    readable = [(file, image) for file, image in stats.items() if image]
    fix = Text(
        "Keep the best of them, unless the small difference is what you want to teach.",
        "わずかな違いを学習させたいのでなければ、いちばん良い 1 枚を残してください。",
    )
    groups = [
        [names[readable[index][0]] for index in group] for group in groups_alike([image for _, image in readable])
    ]
    return _of_groups("near-duplicates", groups, Text("almost the same", "ほぼ同じ画像"), fix)


def _of_groups(code: str, groups: Sequence[Sequence[str]], how: Text, fix: Text) -> list[Finding]:
    """One finding a group; where there are very many, the rest in one: nobody reads a hundred lines."""
    findings = []
    for names in groups[:MAX_GROUPS]:
        text = Text(f"{_count(names)} are {how.en}.", f"{len(names)} 枚が{how.ja}です。")
        findings.append(Finding(code, "warning", tuple(names), text, fix))
    rest = groups[MAX_GROUPS:]
    if rest:
        names = [name for group in rest for name in group]
        text = Text(
            f"{len(rest):,} more group(s), {_count(names)} in all, are {how.en} within the group.",
            f"ほかにも{how.ja}の組が {len(rest):,} 組 (合計 {len(names):,} 枚) あります。",
        )
        findings.append(Finding(code, "warning", tuple(names), text, fix))
    return findings


def _small(items: Sequence[Item], resolution: int | None, buckets: bool) -> list[Finding]:
    """Buckets never enlarge, so that only the area counts; without them, the middle square of every picture gets one size."""
    if resolution is None:
        return []
    fix = Text(
        "Use larger originals, or train at a smaller resolution.",
        "もっと大きい元画像を使うか、学習の解像度を下げてください。",
    )
    if not buckets:
        names = _where(items, lambda item: min(item.width, item.height) < resolution)
        text = Text(
            f"The middle square of {_count(names)} must be enlarged to {resolution} pixels and will look soft.",
            f"{len(names)} 枚は中央の正方形が {resolution} ピクセルに拡大されるため、ぼやけた印象になります。",
        )
        return [Finding("too-small", "warning", names, text, fix)] if names else []
    small = [item for item in items if item.width * item.height < (SMALL * resolution) ** 2]
    if not small:
        return []
    least = min(small, key=lambda item: item.width * item.height)
    size = f"{least.width} × {least.height}"
    text = Text(
        f"{_count(small)} smaller than {resolution} × {resolution}: trained at their own size (the smallest, {least.name}: {size}), nothing is enlarged, and details that they lack are not learned.",
        f"{len(small)} 枚は {resolution} × {resolution} より小さく、元の大きさのまま学習します (最小は {least.name} の {size})。拡大はせず、ない細部は学習できません。",
    )
    return [Finding("too-small", "warning", tuple(item.name for item in small), text, fix)]


def _blurry(items: Sequence[Item], stats: dict[str, ImageStats | None]) -> list[Finding]:
    names = _where(items, lambda item: (image := stats[item.file]) is not None and image.blurry)
    if not names:
        return []
    text = Text(
        f"{_count(names)} may be blurred: no sharp edges were found.",
        f"{len(names)} 枚はぼけている可能性があります (はっきりした輪郭が見つかりません)。",
    )
    fix = Text(
        "Leave blurred pictures out: blur is learned like any style. Ignore this for pictures that are soft on purpose.",
        "ぼけも絵柄として学習されるため、除外してください。意図的に柔らかい絵であれば問題ありません。",
    )
    return [Finding("blurry", "note", names, text, fix)]


def _shapes(items: Sequence[Item]) -> list[Finding]:
    shapes = [item.width / item.height for item in items]
    if max(shapes) < MIXED_RATIO * min(shapes):
        return []
    wide, tall = items[shapes.index(max(shapes))], items[shapes.index(min(shapes))]
    text = Text(
        "Very wide and very tall pictures are mixed: much is cut off, since all are trained as squares.",
        "極端に横長の画像と縦長の画像が混ざっています。すべて正方形で学習するため、大きく切り取られます。",
    )
    fix = Text(
        "Crop these to the part that matters, or turn aspect-ratio buckets on.",
        "必要な部分だけに切り抜くか、アスペクト比バケットをオンにしてください。",
    )
    return [Finding("mixed-shapes", "note", (wide.name, tall.name), text, fix)]


def _captions(items: Sequence[Item]) -> list[Finding]:
    findings = []
    empty = _where(items, lambda item: not item.caption)
    if empty:
        text = Text(f"{_count(empty)} without a caption.", f"{len(empty)} 枚にキャプションがありません。")
        fix = Text(
            "Say in a few words what each shows, or set a trigger word for all.",
            "それぞれに何が写っているかを短く書くか、全体にトリガーワードを設定してください。",
        )
        findings.append(Finding("empty-captions", "warning", empty, text, fix))
    captions = {item.caption for item in items}
    if len(items) > 1 and len(captions) == 1 and not empty:
        text = Text("All captions are the same.", "すべてのキャプションが同じです。")
        fix = Text(
            "That can work for one character or object; for a style, say what each picture shows.",
            "1 つのキャラクターや物なら問題ない場合もありますが、画風の学習では画像ごとに内容を書いてください。",
        )
        findings.append(Finding("same-captions", "note", (), text, fix))
    long = _where(items, lambda item: _words(item.caption) > MAX_WORDS)
    if long:
        text = Text(
            f"{_count(long)} with a caption of more than {MAX_WORDS} words: the end is not read.",
            f"{len(long)} 枚のキャプションが {MAX_WORDS} 語を超えています。後ろの部分は読まれません。",
        )
        fix = Text("Put what matters first, or shorten it.", "大事な内容を先に書くか、短くしてください。")
        findings.append(Finding("long-captions", "note", long, text, fix))
    return findings


def _words(caption: str) -> int:
    return len(JAPANESE.sub(" x ", caption).split())


def _count(things: Sequence[object]) -> str:
    return "1 picture" if len(things) == 1 else f"{len(things):,} pictures"
