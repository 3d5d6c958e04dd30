"""The web process as an enemy sees it: the really started app, asked by somebody who is not its page. Status codes and memory."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tests.browser import ROOT, App, started_app
from tests.web.asking import ask, forget_peak, peak_memory

PASSWORD = "open sesame"
UPLOAD = "/en/gradio_api/upload"
EVIL = "http://evil.example"
FORM = {"content-type": "application/x-www-form-urlencoded"}
MEGA = 1_000_000


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app that asks for a password, started from nothing."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "password").write_text(PASSWORD)
    with started_app(folder / "workspace", "--password-file", str(folder / "password")) as made:
        yield made


def multipart(name: str, content: bytes, filename: str | None = None) -> tuple[dict[str, str], bytes]:
    """Headers and body of a form with one part."""
    attributes = f'name="{name}"' + (f'; filename="{filename}"' if filename else "")
    head = f"--x\r\nContent-Disposition: form-data; {attributes}\r\n\r\n".encode()
    return {"content-type": "multipart/form-data; boundary=x"}, head + content + b"\r\n--x--\r\n"


def test_no_other_site_may_read(app: App) -> None:
    for path in ("/en/", "/en/config", "/en/theme.css", "/en/gradio_api/app_id"):
        answer = ask(app, "GET", path, {"origin": EVIL})
        assert not [name for name in answer.headers if name.startswith("access-control")], path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    preflight = ask(
        app, "OPTIONS", "/en/gradio_api/queue/join", {"origin": EVIL, "access-control-request-method": "POST"}
    )
    assert preflight.status == 403


@pytest.mark.parametrize("headers", [{"origin": EVIL}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}])
def test_a_form_on_another_site_uploads_nothing(app: App, headers: dict[str, str]) -> None:
    kind, body = multipart("files", b"x" * 1000, "a.png")
    before = uploaded(app)
    assert ask(app, "POST", UPLOAD, {**kind, **headers}, body).status == 403
    assert uploaded(app) == before


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:7860", "localhost.evil.example", "0", "192.168.7.7"]
)
def test_a_foreign_name_for_this_server_is_refused(app: App, host: str) -> None:
    for path in ("/", "/en/", "/en/config", "/media/0"):
        assert ask(app, "GET", path, {"host": host}).status == 421


def test_a_field_without_a_file_name_takes_no_memory(app: App) -> None:
    """200 MB in the place where a framework gathers text: 750 MB of memory in plain Gradio."""
    kind, whole = multipart("files", b"")
    head = whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    block = b"x" * MEGA

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(200):
            yield block

    ask(app, "GET", "/en/")
    forget_peak(app)
    before = peak_memory(app)
    assert ask(app, "POST", UPLOAD, kind, body()).status == 413
    sized = {**kind, "content-length": str(200 * MEGA)}
    assert ask(app, "POST", UPLOAD, sized, head + block * 4).status == 413
    assert peak_memory(app) - before < 40 * MEGA


def test_a_large_file_streams_to_the_disk_and_a_torn_one_is_swept(app: App) -> None:
    kind, whole = multipart("files", b"", "big.zip")
    head, tail = whole[: whole.index(b"\r\n\r\n") + 4], b"\r\n--x--\r\n"

    def body(end: bytes) -> Iterator[bytes]:
        yield head
        for _ in range(100):
            yield b"x" * MEGA
        yield end

    ask(app, "GET", "/en/")
    forget_peak(app)
    before = peak_memory(app)
    answer = ask(app, "POST", UPLOAD, kind, body(tail))
    assert answer.status == 200
    assert peak_memory(app) - before < 60 * MEGA
    (path,) = json.loads(answer.body)
    assert Path(path).stat().st_size == 100 * MEGA
    assert Path(path).is_relative_to(app.workspace / "uploads")

    with socket.create_connection(address(app)) as connection:  # the browser is closed half-way
        connection.sendall(f"POST {UPLOAD} HTTP/1.1\r\nhost: {urlsplit(app.url).netloc}\r\n".encode())
        connection.sendall(b"content-type: multipart/form-data; boundary=x\r\ncontent-length: 50000000\r\n\r\n" + head)
        connection.sendall(b"x" * MEGA)
        torn = wait_for(lambda: [f for f in (app.workspace / "uploads").iterdir() if f.is_file()])
    for file in torn:
        os.utime(file, (0, 0))
    wait_for(lambda: not any(file.exists() for file in torn))


@pytest.mark.parametrize("length", ["-5", "5e3", "99999999999999999999", "４", "1, 2"])
def test_a_body_of_odd_length_is_refused(app: App, length: str) -> None:
    with socket.create_connection(address(app)) as connection:
        request = f"POST /en/gradio_api/queue/join HTTP/1.1\r\nhost: {urlsplit(app.url).netloc}\r\ncontent-length: {length}\r\n\r\n"
        connection.sendall(request.encode())
        connection.settimeout(10)
        assert connection.recv(100).split()[1] in (b"400", b"413")


def test_a_body_that_never_ends_is_cut(app: App) -> None:
    forget_peak(app)
    before = peak_memory(app)
    body = (b'{"data": ["' + b"x" * MEGA for _ in range(50))
    assert ask(app, "POST", "/en/gradio_api/run/predict", {"content-type": "application/json"}, body).status == 413
    assert peak_memory(app) - before < 60 * MEGA


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", "text/plain", ""])
def test_what_is_no_form_is_no_upload(app: App, kind: str) -> None:
    assert ask(app, "POST", UPLOAD, {"content-type": kind}, b"--x\r\n").status == 400


def test_no_file_comes_out_by_its_path(app: App) -> None:
    """Neither what a handler was made to name, nor what was uploaded: an SVG in a page of ours would be a script of theirs."""
    kind, body = multipart("files", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "evil.svg")
    (path,) = json.loads(ask(app, "POST", UPLOAD, kind, body).body)
    secret = app.workspace / "secret.txt"
    secret.write_text("secret")
    for file in (path, str(secret), "/etc/passwd", "app.py", "../../app.py", EVIL):
        for route in ("file=", "file/", "proxy=", "stream/"):
            assert ask(app, "GET", f"/en/gradio_api/{route}{file}").status == 404
        assert ask(app, "GET", f"/media/{file.strip('/')}").status == 404
    assert secret.read_text() == "secret"


def test_handlers_called_by_number_give_nothing_away(app: App) -> None:
    """Every event of the page with what no page sends, among it files of the server in the place of an upload."""
    secret = app.workspace / "datasets" / "secret.png"
    secret.write_bytes(b"secret")
    file = {"path": str(secret), "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    count = len(json.loads(ask(app, "GET", "/en/config").body)["dependencies"])
    assert count > 15
    for number in range(count):
        for data in ([], ["../../../etc/passwd"] * 60, [[file]] * 60, [1e999] * 60):
            payload = {
                "fn_index": number,
                "data": data,
                "session_hash": "enemy",
                "event_data": {"id": "../..", "index": -1},
            }
            answer = ask(
                app,
                "POST",
                "/en/gradio_api/run/predict",
                {"content-type": "application/json"},
                json.dumps(payload).encode(),
            )
            assert b"root:" not in answer.body
            assert b"Traceback" not in answer.body
    assert secret.read_bytes() == b"secret"
    assert not list((app.workspace / "jobs").iterdir())
    assert ask(app, "GET", "/en/").status == 200


def test_without_the_password_every_route_is_closed(locked: App) -> None:
    assert b"config" not in ask(locked, "GET", "/en/").body
    for method, path in [
        ("GET", "/media/0"), ("GET", "/en/config"), ("GET", "/ja/config"), ("GET", "/en/theme.css"),
        ("GET", "/en/assets/index.js"), ("GET", "/en/static/img/logo.svg"), ("GET", "/en/gradio_api/startup-events"),
        ("GET", "/en/gradio_api/app_id"), ("POST", "/en/gradio_api/queue/join"), ("GET", "/en/gradio_api/queue/data"),
        ("POST", "/en/gradio_api/run/predict"), ("POST", "/en/gradio_api/cancel"), ("POST", "/en/gradio_api/reset"),
        ("GET", "/en/gradio_api/heartbeat/0"), ("POST", UPLOAD), ("GET", "/en/gradio_api/upload_progress"),
    ]:  # fmt: skip
        assert ask(locked, method, path, {"cookie": "sdlora-login=guess"}).status == 401, path


def test_the_password_opens(locked: App) -> None:
    answer = ask(locked, "POST", "/login", FORM, urlencode({"password": PASSWORD}).encode())
    assert answer.status == 303
    cookie = answer.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert ask(locked, "GET", "/en/config", {"cookie": cookie.partition(";")[0]}).status == 200


def test_guesses_sent_at_once_are_counted_one_by_one(locked: App) -> None:
    """Forty guesses whose last byte arrives together, each pretending to come from elsewhere: five are looked at."""
    body = urlencode({"password": "guess"}).encode()
    head = f"POST /login HTTP/1.1\r\nhost: {urlsplit(locked.url).netloc}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    connections = []
    for k in range(40):
        connection = socket.create_connection(address(locked))
        connection.sendall(f"{head}x-forwarded-for: 10.0.0.{k}\r\n\r\n".encode() + body[:-1])
        connections.append(connection)
    for connection in connections:
        connection.sendall(body[-1:])
    answers = []
    for connection in connections:
        connection.settimeout(20)
        answers.append(int(connection.recv(4096).split()[1]))
        connection.close()
    assert sorted(answers) == [403] * 5 + [429] * 35
    right = ask(locked, "POST", "/login", FORM, urlencode({"password": PASSWORD}).encode())
    assert right.status == 429  # whoever guesses learns nothing, not even by the right one
    assert 1 <= int(right.headers["retry-after"]) <= 3
    assert ask(locked, "GET", "/en/config").status == 401


def test_on_another_address_a_password_is_made_and_printed_once(tmp_path: Path, forking_python: str) -> None:
    command = [
        forking_python,
        "-m",
        "sdlora",
        "app",
        "--host",
        "0.0.0.0",
        "--port",
        "0",
        "--workspace",
        str(tmp_path / "w"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    lines = [process.stdout.readline(), process.stdout.readline()]
    try:
        (password,) = re.findall(r"password: (\S+)", "".join(lines))
        assert len(password) >= 16
        (port,) = re.findall(r"ready on http://0\.0\.0\.0:(\d+)", lines[1])
        app = App(f"http://127.0.0.1:{port}", tmp_path / "w", process)
        assert ask(app, "GET", "/en/config").status == 401
        assert ask(app, "POST", "/login", FORM, urlencode({"password": password}).encode()).status == 303
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=15)
    assert password not in rest


def test_a_tab_left_open_does_not_keep_the_server(tmp_path: Path, forking_python: str) -> None:
    """A heartbeat and a half-sent upload hang on it: SIGTERM ends it all the same, and leaves no process behind."""
    with started_app(tmp_path / "w", python=forking_python) as app:
        streams = [socket.create_connection(address(app)) for _ in range(2)]
        host = urlsplit(app.url).netloc
        streams[0].sendall(f"GET /en/gradio_api/heartbeat/tab HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        kind = "content-type: multipart/form-data; boundary=x\r\ncontent-length: 5000"
        streams[1].sendall(f"POST {UPLOAD} HTTP/1.1\r\nhost: {host}\r\n{kind}\r\n\r\n--x".encode())
        assert b"200" in streams[0].recv(1000)
        app.process.send_signal(signal.SIGTERM)
        app.process.wait(60)  # with the tab it would wait for good
        for stream in streams:
            stream.close()


def test_many_connections_do_not_end_it(app: App) -> None:
    idle = [socket.create_connection(address(app)) for _ in range(300)]
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(ask(app, "GET", "/en/config").status))
    asking.start()
    asking.join(120)
    assert answers == [200]
    for connection in idle:
        connection.close()


def address(app: App) -> tuple[str, int]:
    host, _, port = urlsplit(app.url).netloc.partition(":")
    return host, int(port)


def uploaded(app: App) -> list[Path]:
    return sorted((app.workspace / "uploads").rglob("*"))


def wait_for(look: object, seconds: float = 120) -> list[Path]:
    """What `look` gives once it is true."""
    assert callable(look)
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return list(found) if isinstance(found, list) else []
