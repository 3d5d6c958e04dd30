"""Settings that are of the wrong type, out of range, not finite or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.bad.case import Case


def cases() -> Iterator[Case]:
    for text in _refused():
        yield Case(f"set {text[:60]!r}", "refused", lambda folder, text=text: ["--set", text], "")  # type: ignore[misc]
    for text in _accepted():
        yield Case(f"set {text[:60]!r}", "accepted", lambda folder, text=text: ["--set", text], "")  # type: ignore[misc]
    others = {
        "preset by a path": ["--preset", "../style"],
        "preset of nothing": ["--preset", ""],
        "base of nothing": ["--base", ""],
        "base by an address": ["--base", "http://127.0.0.1:1/base"],
        "base by a file address": ["--base", "file:///etc/passwd"],
        "base is a file": ["--base", "/etc/passwd"],
        "base is a device": ["--base", "/dev/zero"],
        "base is the root folder": ["--base", "/"],
        "base of 500 letters": ["--base", "x" * 500],
        "base of 5,000 letters": ["--base", "x" * 5000],
        "base with half a letter": ["--base", os.fsdecode(b"\xff\xfe")],
        "hub id that leads out": ["--base", "../.."],
        "hub id with dots": ["--base", "a/.."],
        "both learning rates are 0": ["--set", "train.unet_lr=0", "--set", "train.text_encoder_lr=0"],
        "an option that does not exist": ["--resume-from", "x"],
        "set of nothing": ["--set"],
    }
    for name, words in others.items():
        yield Case(f"train: {name}", "refused", lambda folder, words=words: words, "", real="device" in name)  # type: ignore[misc]
    fine = {
        "name that is a path": ["--name", "../../../etc/cron.d/x"],
        "name with half a letter": ["--name", os.fsdecode(b"\xff\xfe")],
        "name of nothing but signs": ["--name", "<>:|?*"],
        "name of 5,000 letters": ["--name", "x" * 5000],
        "the same setting twice": ["--set", "lora.rank=8", "--set", "lora.rank=4"],
    }
    for name, words in fine.items():
        yield Case(f"train: {name}", "accepted", lambda folder, words=words: words, "")  # type: ignore[misc]


def _refused() -> list[str]:
    rank = [
        "nan",
        "inf",
        "-inf",
        "True",
        "3.7",
        "8.0",
        "1e2",
        "eight",
        "",
        " ",
        "0",
        "-1",
        "1025",
        "9" * 5000,
        "0x10",
        "1_6",
        "８",
        "8,",
        "[8]",
        "None",
        "8=9",
    ]
    rate = [
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "1e999",
        "True",
        "fast",
        "",
        "-1",
        "1.1",
        "1_0e-1",
        "0x1p-3",
        "１e-4",
        "1e-4e",
        "1,5",
    ]
    return [
        *(f"lora.rank={value}" for value in rank),
        *(f"train.unet_lr={value}" for value in rate),
        *("lora.alpha=0", "lora.alpha=-1", "lora.alpha=nan", "lora.dropout=1", "train.ema=1", "data.held_out=0.51"),
        *("train.seed=-1", f"train.seed={2**32}", "train.steps=0", "train.steps=1000001", "train.batch_size=0"),
        *("data.flip=yes", "data.flip=1", "data.flip=", "data.flip=None", "train.gradient_checkpointing=truee"),
        *("train.precision=fp8", "train.precision=FP16", "train.schedule=", "lora.targets=all", "export.dtype=int8"),
        *("lora", "lora=", "=8", "lora.=8", ".rank=8", "lora.rank.x=8", "lora.Rank=8", "lora rank=8", "rank=8"),
        *("model.base=", "__class__.__init__=1", "lora.__class__=1", "train.optimizer=x", "", "--help=1"),
        *("data.trigger=" + "x" * 201, "sample.prompts=" + "x" * 4001, "data.trigger=" + os.fsdecode(b"\xff\xfe")),
        *("data.trigger=a\x1b[31mb", "data.trigger=a\nb", "sample.prompts=" + os.fsdecode(b"\xff")),
    ]  # fmt: skip


def _accepted() -> list[str]:
    return [
        *("lora.rank=1", "lora.rank=1024", "lora.rank= 8 ", "train.unet_lr=1", "train.unet_lr=1e-4", "lora.alpha=1"),
        *("data.flip=true", "data.flip=OFF", "data.trigger=", "data.trigger=赤い{0}<b>$(id)", "data.trigger==8"),
        *("sample.prompts=red\nblue", "train.seed=4294967295", "export.captions=false"),
    ]  # fmt: skip
