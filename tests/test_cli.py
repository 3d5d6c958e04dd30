"""The commands as scripts use them: exit codes, JSON on the last line, one sentence for a refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures("forked")


def sdlora(*words: object, code: int = 0, python: str = "") -> subprocess.CompletedProcess[str]:
    command = [python or sys.executable, "-m", "sdlora", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return done


def last_json(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout.splitlines()[-1])


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


FAST = [
    *("--set", "train.steps=20", "--set", "lora.rank=2", "--set", "sample.steps=1", "--set", "train.precision=fp32"),
    *("--set", "train.unet_lr=0.01", "--set", "lora.targets=attention"),
]


def test_from_pictures_to_preview(
    workspace: Path, pictures: Path, tiny_base: Path, tmp_path: Path, forked: str
) -> None:
    """The first and the last command start from nothing."""
    added = last_json(sdlora("dataset", "add", pictures, "--json", python=forked))
    assert [i["caption"] for i in added["items"]][:2] == ["red disc 0", "green disc 1"]
    assert "findings" in last_json(sdlora("dataset", "check", added["id"], "--json"))

    out = tmp_path / "mine" / "disc.safetensors"
    trained = last_json(
        sdlora("train", added["id"], "--base", tiny_base, *FAST, "--name", "円 disc", "--out", out, "--json")
    )
    assert (trained["status"], trained["steps"], trained["file"]) == ("done", 20, str(out))
    assert 1 <= trained["best_step"] <= 20
    assert 0.4 <= trained["recommended_strength"] <= 1.4
    (listed,) = last_json(sdlora("jobs", "--json"))["jobs"]
    assert (listed["id"], listed["status"], listed["name"]) == (trained["job"], "done", "円-disc")
    assert trained["job"] in sdlora("jobs").stdout

    found = last_json(sdlora("inspect", out, "--json"))
    assert (found["format"], found["rank"], found["sha256"]) == ("kohya", 2, trained["sha256"])
    assert json.loads(found["metadata"]["sdlora.settings"])["train.steps"] == 20
    assert "kohya" in sdlora("inspect", out).stdout

    strengths = ["--strength", 0, "--strength", 0.5, "--strength", 1]
    sdlora(
        "preview",
        "--prompt",
        "red disc",
        "--base",
        tiny_base,
        "--lora",
        out,
        *strengths,
        "--steps",
        2,
        "--out",
        tmp_path / "s.png",
    )
    sdlora("preview", "--prompt", "red disc", "--base", tiny_base, "--steps", 2, "--out", tmp_path / "base.png")
    pictures_by_name = {path.stem: opened(path) for path in tmp_path.glob("*.png")}
    assert pictures_by_name["s"].width > 3 * 128
    without = pictures_by_name["base"].tobytes()
    assert pictures_by_name["s-0.00"].tobytes() == without
    assert pictures_by_name["s-1.00"].tobytes() != without

    sdlora("resume", trained["job"], code=2)
    sdlora("stop", trained["job"], code=2, python=forked)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "nowhere"], "neither"),
        (["train", ".", "--set", "lora.rank=eight"], "whole number"),
        (["train", ".", "--set", "lora.rnk=8"], "section.name=value"),
        (["train", ".", "--preset", "best"], "There are: style"),
        (["train", "{pictures}", "--base", "no-such-base"], "no base model"),
        (["train", "{pictures}", "--base", "owner/never-downloaded"], "not on this machine"),
        (["train", "{pictures}", "--base", "{pictures}"], "not a base model in diffusers layout"),
        (["dataset", "add", "nothing.zip"], "does not exist"),
        (["inspect", "{pictures}/disc0.png"], "not a whole safetensors file"),
        (["preview", "--prompt", "x", "--lora", "nothing.safetensors"], "does not exist"),
        (["resume", "20260101-000000-abcdef"], "no job"),
        (["stop", "../../etc"], "not an id"),
        (["train"], "Missing argument"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(
    workspace: Path, pictures: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = sdlora(*(w.format(pictures=pictures) for w in words), code=2)
    assert says in done.stderr


def test_settings_and_help(workspace: Path) -> None:
    found = last_json(sdlora("settings", "--json"))["settings"]
    rank = next(s for s in found if s["path"] == "lora.rank")
    assert rank["label"] == {"en": "Rank", "ja": "ランク"}
    assert len(found) <= 50  # "near 40": one more has to earn its place
    assert "lora.rank" in sdlora("settings").stdout
    for command in ("train", "preview", "demo", "inspect", "jobs", "stop", "resume", "settings", "doctor", "dataset"):
        assert "Usage" in sdlora(command, "--help").stdout


def test_doctor(workspace: Path) -> None:
    found = last_json(sdlora("doctor", "--json"))
    assert found["device"]
    assert found["versions"]["torch"] != "missing"


def test_the_readme_has_the_settings_as_they_are() -> None:
    table = sdlora("settings", "--markdown").stdout
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert table in readme, "python -m sdlora settings --markdown says otherwise"
