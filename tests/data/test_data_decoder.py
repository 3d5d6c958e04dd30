"""The decoding child: it may die or hang, the import goes on; it is light; nobody outlives the import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from sdlora.data import fit, import_pictures
from sdlora.data.decode.decoder import ROOT, Decoder
from sdlora.data.limits import Refusal

# Answers as the real child does, but dies of a picture named so once or always, and hangs on a third.
ODD_CHILD = """
import os, sys, json, time
from pathlib import Path
from sdlora.data.decode.child import decode
for line in sys.stdin.buffer:
    request = {name: Path(value) for name, value in json.loads(line).items()}
    head = request["source"].read_bytes()[:4]
    once = Path(sys.argv[1])
    if head == b"dies" or head == b"once" and not once.exists():
        once.touch()
        os.kill(os.getpid(), 11)
    if head == b"hang":
        time.sleep(60)
    if head == b"once":
        request["source"].write_bytes(request["source"].read_bytes()[4:])
    print(json.dumps(decode(**request)), flush=True)
"""


@pytest.fixture
def odd(tmp_path):
    return (sys.executable, "-c", ODD_CHILD, str(tmp_path / "once"))


def test_one_child_for_all(draw, tmp_path):
    with Decoder() as decoder:
        decoder.decode(draw("a.png", 1), tmp_path / "x")
        first = decoder.process.pid
        with pytest.raises(Refusal):
            decoder.decode(tmp_path / "missing", tmp_path / "x")
        decoder.decode(draw("b.png", 2), tmp_path / "x")
        assert decoder.process.pid == first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_killed_child_is_started_again(draw, tmp_path):
    with Decoder() as decoder:
        decoder.decode(draw("a.png", 1), tmp_path / "x")
        first = decoder.process.pid
        os.kill(first, signal.SIGKILL)
        result = decoder.decode(draw("b.png", 2, (128, 64)), tmp_path / "x")
        assert (result.width, result.height) == (128, 64)
        assert decoder.process.pid != first


def test_a_picture_that_kills_the_child_stays_out(draw, tmp_path, odd):
    good = draw("good.png", 1)
    (tmp_path / "dies").write_bytes(b"dies")
    (tmp_path / "again").write_bytes(b"once" + good.read_bytes())
    with Decoder(command=odd) as decoder:
        with pytest.raises(Refusal, match="crashed"):
            decoder.decode(tmp_path / "dies", tmp_path / "x")
        (tmp_path / "once").unlink()
        assert decoder.decode(tmp_path / "again", tmp_path / "x").width == 96, "killed by chance: tried once more"
        assert decoder.decode(good, tmp_path / "x").width == 96


def test_a_picture_that_hangs_stays_out(draw, tmp_path, odd):
    (tmp_path / "hang").write_bytes(b"hang")
    with Decoder(seconds=1, command=odd) as decoder:
        start = time.monotonic()
        with pytest.raises(Refusal, match="too long"):
            decoder.decode(tmp_path / "hang", tmp_path / "x")
        assert time.monotonic() - start < 30  # it would sleep for 60
    with Decoder(command=odd) as decoder:
        assert decoder.decode(draw("good.png", 1), tmp_path / "x").width == 96


def test_the_import_goes_on_after_a_crash(draw, datasets, tmp_path, odd, monkeypatch):
    draw("a.png", 1)
    bad = draw("b.png", 2)
    bad.write_bytes(b"dies")
    source = draw("c.png", 3).parent
    monkeypatch.setattr("sdlora.data.importing.Decoder", lambda: Decoder(command=odd))
    dataset = import_pictures([source], datasets)
    assert [item.name for item in dataset.items] == ["a.png", "c.png"]
    assert [one.name for one in dataset.skipped] == ["b.png"]


def test_memory_is_limited(tmp_path):
    code = "import sdlora.data.decode.child as d; d.limit_resources(); bytearray(3 << 30)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "MemoryError" in result.stderr


def test_a_result_that_cannot_be_written_is_no_fault_of_the_picture(draw, tmp_path):
    with Decoder() as decoder, pytest.raises(OSError, match="could not be written"):
        decoder.decode(draw("a.png", 1), tmp_path / "missing" / "x")


def test_the_package_imports_little():
    code = "import json, sys, sdlora.data; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"torch", "numpy", "gradio", "pydantic", "diffusers"}


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (64, 64), (33, 250)])
def test_fit_covers_and_cuts_evenly(size):
    picture = Image.new("L", size, 0)
    picture.paste(255, (size[0] // 2 - 5, size[1] // 2 - 5, size[0] // 2 + 5, size[1] // 2 + 5))
    result = fit(picture, 96, 80)
    assert (result.size, result.mode) == ((96, 80), "RGB")
    assert result.getpixel((48, 40))[0] > 200, "the middle stays in the middle"
