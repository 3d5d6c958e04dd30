"""Files that call themselves LoRAs: safetensors headers that lie, other formats, tensors of impossible shapes."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bad.case import Case, one_file

DOWN, UP = (f"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_{k}.weight" for k in ("down", "up"))
ALPHA = DOWN.replace("lora_down.weight", "alpha")


def tensor(*shape: Any, dtype: Any = "F32", first: Any = 0, last: Any = None) -> dict[str, Any]:
    size = 4
    for side in shape:
        size *= side if isinstance(side, int) else 1
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, first + size if last is None else last]}


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def good(**more: Any) -> dict[str, Any]:
    """A LoRA of one layer, and what is strange about it."""
    return {DOWN: tensor(2, 8), UP: tensor(8, 2, first=64), **more}


def _peft(config: bytes | None, weights: bytes | None) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        for name, content in (("adapter_config.json", config), ("adapter_model.safetensors", weights)):
            if content is not None:
                (folder / name).write_bytes(content)
        return [str(folder)]

    return make


def _fifo(folder: Path) -> list[str]:
    os.mkfifo(folder / "pipe.safetensors")
    return [str(folder / "pipe.safetensors")]


def cases() -> Iterator[Case]:
    for name, content in _no_safetensors().items():
        yield Case(
            f"lora: {name}",
            "refused",
            one_file("x.safetensors", content),
            "x.safetensors",
            real=name.startswith("header of"),
        )
    for name, header in _lying().items():
        yield Case(
            f"lora: {name}", "refused", one_file("x.safetensors", safetensors(header, bytes(128))), "x.safetensors"
        )
    nan = safetensors(good(**{ALPHA: tensor(first=128)}), bytes(128) + struct.pack("<f", float("nan")))
    yield Case("lora: alpha is not a number", "refused", one_file("x.safetensors", nan), "alpha is not a number")
    for name, (header, data) in _strange().items():
        yield Case(
            f"lora: {name}", "accepted", one_file("x.safetensors", safetensors(header, data)), '"format": "kohya"'
        )
    loha = {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.hada_w1_b": tensor()}
    flat = one_file("x.safetensors", safetensors(loha, bytes(4)))
    yield Case("lora: LoHa of no dimension", "accepted", flat, '"format": "loha"')
    yield Case("lora: nothing there", "refused", lambda folder: [str(folder / "no.safetensors")], "does not exist")
    yield Case("lora: a folder", "refused", lambda folder: [str(folder)], "folder without a LoRA")
    yield Case("lora: a pipe", "refused", _fifo, "pipe.safetensors")
    yield Case("lora: a device", "refused", lambda folder: ["/dev/zero"], "zero")
    yield Case("lora: a path of 5,000 letters", "refused", lambda folder: ["x" * 5000], "")
    weights = safetensors({f"base_model.model.to_q.lora_{k}.weight": tensor(2, 2, last=16) for k in "AB"}, bytes(16))
    peft: dict[str, tuple[bytes | None, bytes | None]] = {
        "no weights": (b"{}", None),
        "no config": (None, weights),
        "config is a list": (b"[]", weights),
        "config is another kind": (b'{"peft_type": "IA3"}', weights),
        "config is not JSON": (b"{", weights),
        "config is not text": (b"\xff\xfe", weights),
        "config nests too deep": (b"[" * 100_000, weights),
        "weights are cut": (b'{"peft_type": "LORA", "lora_alpha": 4}', weights[:40]),
        "alpha is a list": (b'{"peft_type": "LORA", "lora_alpha": [4]}', weights),
        "alpha is text": (b'{"peft_type": "LORA", "lora_alpha": "four"}', weights),
        "alpha is not a number": (b'{"peft_type": "LORA", "lora_alpha": NaN}', weights),
    }
    for name, (config, content) in peft.items():
        yield Case(f"peft: {name}", "refused", _peft(config, content), "")


def _three_million() -> bytes:
    return safetensors(b"{" + b",".join(b'"%d":[[]]' % k for k in range(3_000_000)) + b"}")


def _no_safetensors() -> dict[str, bytes | Callable[[], bytes]]:
    return {
        "empty": b"",
        "seven bytes": b"1234567",
        "header longer than the file": struct.pack("<Q", 1000) + b"{}",
        "header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
        "header of all bits": b"\xff" * 8 + b"{}",
        "header of no bytes": struct.pack("<Q", 0) + b"{}",
        "header of three million entries": _three_million,
        "header nests too deep": safetensors(b"[" * 100_000),
        "header is not JSON": safetensors(b"{]"),
        "header is not UTF-8": safetensors(b'{"\xff": 1}'),
        "header is a list": safetensors([]),
        "header is null": safetensors(None),
        "header is a number": safetensors(5),
        "pickle": pickle.dumps({"a": 1}),
        "zip as torch.save writes": b"PK\x03\x04" + bytes(100),
        "gguf": b"GGUF\x03\0\0\0" + bytes(100),
        "html": b"<!doctype html><title>404</title>" * 10,
        "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }


def _lying() -> dict[str, Any]:
    return {
        "no tensors": {},
        "only metadata": {"__metadata__": {"ss_network_dim": "8"}},
        "metadata is a list": good(__metadata__=["a"]),
        "metadata holds numbers": good(__metadata__={"ss_network_dim": 8}),
        "entry is a number": good(x=5),
        "entry is null": good(x=None),
        "no shape": good(x={"dtype": "F32", "data_offsets": [0, 4]}),
        "no offsets": good(x={"dtype": "F32", "shape": [1]}),
        "one offset": good(x={"dtype": "F32", "shape": [1], "data_offsets": [0]}),
        "offsets are text": good(x={"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}),
        "offsets are fractions": good(x=tensor(1, first=0.5, last=4.5)),
        "offsets are true": good(x={"dtype": "U8", "shape": [1], "data_offsets": [False, True]}),
        "offsets turned round": good(x=tensor(1, first=4, last=0)),
        "offset below zero": good(x=tensor(1, first=-4, last=0)),
        "beyond the end": good(x=tensor(1, first=126)),
        "gigantic offset": good(x=tensor(1, first=10**30)),
        "shape does not fit its bytes": good(x=tensor(9, 9, last=4)),
        "gigantic shape": good(x=tensor(10**9, 10**9, last=4)),
        "shape below zero": good(x=tensor(-1, -1, last=4)),
        "shape of fractions": good(x=tensor(1.5, last=4)),
        "shape of truths": good(x=tensor(True, last=4)),
        "shape is text": good(x={"dtype": "F32", "shape": "11", "data_offsets": [0, 4]}),
        "shape nests": good(x=tensor([1], last=4)),
        "number format is a list": good(x=tensor(1, dtype=[])),
        "number format is unknown": good(x=tensor(1, dtype="F31")),
        "no LoRA's name": {"model.weight": tensor(2, 2)},
        "only alphas": {ALPHA: tensor(1)},
        "down of no dimension": {DOWN: tensor(), UP: tensor(first=4)},
        "down of one dimension": {DOWN: tensor(4), UP: tensor(4, first=16)},
        "half a letter in the metadata": good(__metadata__={"a\ud800": "b\udfff"}),
        "half a letter in a name": good(**{"\ud800": tensor(1)}),
        "adapter metadata is no object": good(__metadata__={"lora_adapter_metadata": "[]"}),
        "adapter metadata is a number": good(__metadata__={"lora_adapter_metadata": "5"}),
        "adapter metadata nests too deep": good(__metadata__={"lora_adapter_metadata": "[" * 100_000}),
        "adapter's alpha is text": good(__metadata__={"lora_adapter_metadata": '{"lora_alpha": "x"}'}),
        "alpha of true": good(__metadata__={"lora_adapter_metadata": '{"lora_alpha": true}'}),
        "down of rank 0": {DOWN: tensor(0, 8), UP: tensor(8, 0)},
    }


def _strange() -> dict[str, tuple[Any, bytes]]:
    """Nothing here is a reason to refuse, and nothing may end in a traceback."""
    numbers = bytes(128)
    nearly = bytes(128) + struct.pack("<f", 1e-38)
    with_alpha = good(**{ALPHA: tensor(first=128)})
    return {
        "terminal codes in the metadata": (good(__metadata__={"a": "\x1b]0;owned\x07"}), numbers),
        "five megabytes of metadata": (good(__metadata__={"ss_tag_frequency": "x" * 5_000_000}), numbers),
        "metadata that lies about its kind": (good(__metadata__={"ss_base_model_version": "../../x"}), numbers),
        "alpha of nearly nothing": (with_alpha, nearly),
        "a stray tensor": (good(x=tensor(1)), numbers),
    }
