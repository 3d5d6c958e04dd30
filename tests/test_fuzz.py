"""Zips, captions and safetensors headers that nobody thought of: refused in words or read, and nothing else is raised.

Short and the same each time by default; `SDLORA_FUZZ=20000 pytest tests/test_fuzz.py` looks for new ones.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdlora.core.errors import BadInput
from sdlora.core.safetensors_io.header import read_header
from sdlora.data.caption_tables import read_csv, read_json
from sdlora.data.captions import clean_caption
from sdlora.data.limits import Refusal
from sdlora.data.names import clean_name
from sdlora.data.text_decoding import decode_text
from sdlora.data.zips import open_zip, safe_members
from sdlora.lora_files.inspect import inspect_file

EXAMPLES = int(os.environ.get("SDLORA_FUZZ", "150"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="SDLORA_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def save(content: bytes) -> Path:
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        return path

    return save


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """These bytes with a few changed, cut out or put in."""
    change = st.tuples(st.integers(0, len(whole)), st.integers(0, 8), st.binary(max_size=8))

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        data = whole
        for at, drop, put in changes:
            data = data[:at] + put + data[at + drop :]
        return data

    return st.lists(change, min_size=1, max_size=6).map(apply)


def packed() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/画像.png", b"x" * 200)
        archive.writestr("b.txt", b"a caption")
        archive.comment = b"comment"
    return stream.getvalue()


@fuzzed
@given(content=st.one_of(st.binary(max_size=300), damaged(packed())))
def test_zips(content: bytes, write: Write) -> None:
    with ExitStack() as stack, suppress(BadInput):
        archive = open_zip(write(content), stack)
        for member in safe_members(archive, "x.zip"):
            assert all(part not in ("", ".", "..") for part in member.parts)
            clean_name(member.parts[-1]).encode()
            # What `sources.chunks` turns into a refusal by name:
            with suppress(
                OSError, EOFError, ValueError, NotImplementedError, struct.error, zipfile.BadZipFile, zipfile.zlib.error
            ):
                if not member.refused:
                    member.opener(archive)().read(1000)


@fuzzed
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")),
        st.text().map(lambda t: t.encode("utf-16")),
    )
)
def test_captions(content: bytes) -> None:
    with suppress(Refusal):
        caption = clean_caption(decode_text(content).text)
        assert caption.encode() is not None
        assert not any(ord(letter) < 32 for letter in caption)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["file_name", "text", "caption", "x"]), VALUES), max_size=4)


@fuzzed
@given(text=st.one_of(st.text(max_size=300), ROWS.map(lambda rows: "\n".join(map(json.dumps, rows)))))
def test_tables(text: str) -> None:
    table = read_json(text)
    assert table.misread_count >= len(table.misread)
    for row in table.rows:
        assert isinstance(row.file_name, str)
        assert isinstance(row.caption, str)
    with suppress(Refusal):
        read_csv(text)
    with suppress(Refusal):
        read_csv("file_name,text\n" + text)


LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
NAMES = st.one_of(
    st.sampled_from(
        [
            f"{LAYER}.lora_down.weight",
            f"{LAYER}.lora_up.weight",
            f"{LAYER}.alpha",
            f"{LAYER}.hada_w1_b",
            f"{LAYER}.lokr_w1",
        ]
    ),
    st.sampled_from(["unet.x.lora_A.weight", "base_model.model.x.lora_A.weight", f"{LAYER}.diff", "__metadata__"]),
    st.text(max_size=20),
)
ENTRIES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "U8", "F99"]),
            "shape": st.lists(st.integers(-1, 9), max_size=4),
            "data_offsets": st.tuples(st.integers(-1, 64), st.integers(-1, 64)),
        }
    ),
)
HEADERS = st.one_of(VALUES, st.dictionaries(NAMES, ENTRIES, max_size=6))


def filed(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(64)


GOOD = filed(
    {
        f"{LAYER}.lora_down.weight": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]},
        "__metadata__": {"ss_v2": "False"},
    }
)


@fuzzed
@given(content=st.one_of(st.binary(max_size=200), HEADERS.map(filed), damaged(GOOD)))
def test_headers(content: bytes, write: Write) -> None:
    path = write(content)
    with suppress(BadInput):
        header, metadata, start = read_header(path)
        assert start <= len(content)
        json.dumps([header, metadata], ensure_ascii=False).encode()
    with suppress(BadInput):
        json.dumps(inspect_file(path).as_json(), ensure_ascii=False, allow_nan=False).encode()
