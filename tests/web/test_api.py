"""Scripts over HTTP, and several users of one machine: a really started app with a file of users."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from sdlora.core.files import read_lines
from tests.browser import ROOT, App, started_app
from tests.web.asking import Answer, ask

PASSWORD = "correct horse"
FAST = {
    "train.steps": 3,
    "lora.rank": 2,
    "sample.steps": 1,
    "train.precision": "fp32",
    "train.unet_lr": 0.01,
    "lora.targets": "attention",
}


@dataclass(frozen=True)
class Box:
    """An app that three people share, and their tokens."""

    app: App
    tokens: dict[str, str]

    def call(self, name: str, method: str, path: str, payload: Any = None) -> tuple[int, Any]:
        body = payload if isinstance(payload, bytes) or payload is None else json.dumps(payload).encode()
        headers = {"authorization": f"Bearer {self.tokens.get(name, name)}", "content-type": "application/json"}
        answer = ask(self.app, method, f"/api/{path}", headers, body)
        return answer.status, json.loads(answer.body) if answer.headers[
            "content-type"
        ] == "application/json" else answer.body

    def enter(self, name: str, password: str = PASSWORD) -> Answer:
        form = urlencode({"name": name, "password": password}).encode()
        return ask(self.app, "POST", "/login", {"content-type": "application/x-www-form-urlencoded"}, form)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, forking_python: str) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("box")
    users, tokens = folder / "users", {}
    for name, options in (("alice", []), ("bob", []), ("root", ["--admin"])):
        command = [forking_python, "-m", "sdlora", "user", "add", name, "--file", str(users), *options]
        done = subprocess.run(command, input=f"{PASSWORD}\n", capture_output=True, text=True, check=True, cwd=ROOT)
        tokens[name] = done.stdout.split()[-1]
    assert users.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in users.read_text()
    assert not [token for token in tokens.values() if token in users.read_text()]
    options = ("--users-file", str(users))
    bases = str(tiny_base.parent)
    with started_app(folder / "workspace", *options, python=forking_python, SDLORA_BASES=bases) as app:
        yield Box(app, tokens)


@pytest.fixture(scope="module")
def dataset(box: Box, zip_file: Path) -> str:
    """Of alice."""
    status, found = box.call("alice", "POST", "datasets?name=discs", zip_file.read_bytes())
    assert status == 201
    assert (len(found["items"]), [s["name"] for s in found["skipped"]]) == (10, ["broken.png"])
    return str(found["id"])


@pytest.fixture(scope="module")
def job(box: Box, dataset: str) -> str:
    """Of alice, done."""
    payload = {"dataset": dataset, "name": "secret-plan", "settings": {**FAST, "model.base": "tiny"}}
    status, found = box.call("alice", "POST", "jobs", payload)
    assert status == 201, found
    assert (found["owner"], found["settings"]["lora.rank"]) == ("alice", 2)
    return str(found["id"])


def followed(box: Box, job: str, after: int = 0) -> list[str]:
    """All server-sent events, until the stream ends by itself."""
    connection = http.client.HTTPConnection(urlsplit(box.app.url).netloc, timeout=300)
    headers = {"authorization": f"Bearer {box.tokens['alice']}", "last-event-id": str(after)}
    connection.request("GET", f"/api/jobs/{job}/events", headers=headers)
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.read().decode().split("\n\n")
    connection.close()
    return events


def test_from_a_zip_to_a_file(box: Box, job: str) -> None:
    events = followed(box, job)
    assert events[-2] == 'event: outcome\ndata: {"status": "done"}'
    told = [
        line.removeprefix("data: ") for event in events[:-2] for line in event.splitlines() if line.startswith("data")
    ]
    lines, end = read_lines(box.app.workspace / "jobs" / job / "events.jsonl")
    assert told == [line.decode() for line in lines]
    assert len(followed(box, job, after=end)) == 2  # nothing is told twice
    status, found = box.call("alice", "GET", f"jobs/{job}")
    assert (status, found["status"], found["step"], found["steps"]) == (200, "done", 3, 3)
    _, file = box.call("alice", "GET", f"jobs/{job}/file")
    assert hashlib.sha256(file).hexdigest() == found["sha256"]


def test_without_a_token_nothing_is_told(box: Box, job: str) -> None:
    cookie = box.enter("alice").headers["set-cookie"].partition(";")[0]
    for path in (
        "openapi.json",
        "settings",
        "datasets",
        "jobs",
        f"jobs/{job}",
        f"jobs/{job}/file",
        f"jobs/{job}/events",
    ):
        assert box.call("guess", "GET", path)[0] == 401
        assert ask(box.app, "GET", f"/api/{path}").status == 401
        assert ask(box.app, "GET", f"/api/{path}", {"cookie": cookie, "authorization": "Basic YTpi"}).status == 401
    assert box.call("guess", "POST", "datasets", b"PK")[0] == 401
    forged = {"authorization": f"Bearer {box.tokens['bob']}", "x-sdlora-user": "root:admin"}
    assert ask(box.app, "GET", f"/api/jobs/{job}", forged).status == 404


def test_users_see_their_own_and_an_admin_all(box: Box, dataset: str, job: str) -> None:
    for name, jobs in (("alice", [job]), ("bob", []), ("root", [job])):
        assert [j["id"] for j in box.call(name, "GET", "jobs")[1]["jobs"]] == jobs
        assert [d["id"] for d in box.call(name, "GET", "datasets")[1]["datasets"]] == [dataset][: len(jobs)]
    for method, path in (("GET", ""), ("GET", "/file"), ("GET", "/events"), ("POST", "/stop"), ("POST", "/resume")):
        assert box.call("bob", method, f"jobs/{job}{path}")[0] == 404
    assert box.call("bob", "GET", f"datasets/{dataset}")[0] == 400
    assert box.call("bob", "POST", "jobs", {"dataset": dataset})[0] == 400
    assert box.call("root", "GET", f"jobs/{job}/file")[0] == 200


def test_the_page_shows_each_user_their_own(box: Box, dataset: str, job: str) -> None:
    """Every event of the page, asked with each one's cookie for alice's job and data set."""
    seen = {}
    for name in ("alice", "bob"):
        cookie = box.enter(name).headers["set-cookie"].partition(";")[0]
        headers = {"cookie": cookie, "content-type": "application/json", "x-sdlora-user": "root:admin"}
        parts = json.loads(ask(box.app, "GET", "/en/config", headers).body)["dependencies"]
        answers = b""
        for number, part in enumerate(parts):
            inputs: list[Any] = [job] * len(part["inputs"])
            payload = {"fn_index": number, "data": inputs, "session_hash": name, "event_data": {"id": dataset}}
            answers += ask(box.app, "POST", "/en/gradio_api/run/predict", headers, json.dumps(payload).encode()).body
        seen[name] = answers
    assert b"secret-plan" in seen["alice"]
    assert b"secret-plan" not in seen["bob"]
    assert dataset.encode() in seen["alice"]
    assert dataset.encode() not in seen["bob"]


@pytest.mark.parametrize(
    "payload",
    [
        {"settings": {"lora.rank": 3.7}},
        {"settings": {"lora.rank": True}},
        {"settings": {"lora.rank": "8"}},
        {"settings": {"lora.alpha": float("nan")}},
        {"settings": {"lora.alpha": float("inf")}},
        {"settings": {"lora.rnk": 8}},
        {"settings": {"model.base": "/etc"}},
        {"settings": {"model.base": "../../x"}},
        {"settings": {"data.trigger": "\x1b[31m"}},
        {"preset": "../style"},
        {"dataset": "../jobs"},
        {"dataset": "no-such-set"},
    ],
)
def test_the_checks_are_the_pages(box: Box, dataset: str, payload: dict[str, Any]) -> None:
    status, said = box.call("alice", "POST", "jobs", {"dataset": dataset, **payload})
    assert status in (400, 422)
    assert said["error"]["ja"] if status == 400 else said["detail"]


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{", b"null", b'{"dataset": 5}', b'{"dataset": "x", "more": 1}', b"\xff", b"[" * 100_000]
)
def test_a_malformed_request_is_refused(box: Box, payload: bytes) -> None:
    assert box.call("alice", "POST", "jobs", payload)[0] in (400, 422)


def test_what_is_no_zip_leaves_nothing(box: Box) -> None:
    for body in (b"", b"PK\x03\x04", b"x" * 1000):
        status, said = box.call("alice", "POST", "datasets", body)
        assert (status, bool(said["error"]["en"])) == (400, True)
    assert not list((box.app.workspace / "uploads").iterdir())


def test_one_user_cannot_fill_the_queue(box: Box, dataset: str, job: str) -> None:
    payloads = [
        {"dataset": dataset, "settings": {**FAST, "train.steps": 900_000, "model.base": "tiny", "train.seed": k}}
        for k in range(9)
    ]
    before = len([j for j in box.call("alice", "GET", "jobs")[1]["jobs"] if j["status"] in ("queued", "running")])
    answers = [box.call("alice", "POST", "jobs", payload) for payload in payloads]
    try:
        statuses = [status for status, _ in answers]
        assert statuses == [201] * (8 - before) + [400] * (1 + before)
        assert "8" in answers[-1][1]["error"]["en"]
    finally:
        for status, found in answers[::-1]:
            if status == 201:
                assert box.call("alice", "POST", f"jobs/{found['id']}/stop")[0] == 200


def test_everything_is_documented(box: Box) -> None:
    _, found = box.call("bob", "GET", "openapi.json")
    assert {"/api/datasets", "/api/jobs", "/api/jobs/{id}/events", "/api/jobs/{id}/file"} <= set(found["paths"])
    assert found["security"] == [{"token": []}]


def test_a_wrong_name_is_as_wrong_as_a_wrong_password(box: Box) -> None:
    assert box.enter("alice", "wrong horse").status == 403
    assert box.enter("nobody").status == 403
    assert box.enter("alice").status == 303
