"""The guard: foreign names, foreign sites, unreviewed routes and oversized bodies end before anything of ours runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from sdlora.web.security.guard import Guard, allowed_hosts, is_loopback
from sdlora.web.security.login import Login

JOIN = "/en/gradio_api/queue/join"
UPLOADS = Path(__file__).parent


async def _echo(request: Request) -> Response:
    return PlainTextResponse(
        str(len(await request.body())), headers={"access-control-allow-origin": "http://evil.example"}
    )


def client(login: Login | None = None, anywhere: bool = False) -> TestClient:
    inner = Starlette(routes=[Route("/{path:path}", _echo, methods=["GET", "POST", "DELETE"])])
    guard = Guard(inner, allowed_hosts("127.0.0.1", ["studio.example"]), anywhere, login, UPLOADS, lambda token: None)
    return TestClient(guard, base_url="http://127.0.0.1:7860", follow_redirects=False)


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:7860", "studio.example"])
def test_own_names_are_known(host: str) -> None:
    assert client().get("/en/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "192.168.0.5"])
def test_other_names_are_refused(host: str) -> None:
    assert client().get("/en/", headers={"host": host}).status_code == 421


def test_any_literal_address_is_fair_when_listening_anywhere() -> None:
    assert client(anywhere=True).get("/en/", headers={"host": "192.168.0.5:7860"}).status_code == 200
    assert client(anywhere=True).get("/en/", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_cannot_act(headers: dict[str, str]) -> None:
    assert client().post(JOIN, headers=headers).status_code == 403


def test_the_page_itself_can() -> None:
    headers = {"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}
    assert client().post(JOIN, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/en/gradio_api/file=/etc/passwd",
        "/en/gradio_api/info",
        "/docs",
        "/media/../secret",
        "/en/monitoring",
        "/fr/",
        "/en/gradio_api/proxy=http://x",
    ],
)
def test_unreviewed_routes_do_not_exist(path: str) -> None:
    assert client().get(path).status_code == 404


def test_a_body_is_counted_whether_it_says_its_length_or_not() -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * 1_000_000

    assert client().post(JOIN, content=b"x" * 5_000_000).status_code == 413
    assert client().post(JOIN, content=chunks()).status_code == 413
    assert client().post(JOIN, headers={"content-length": "-5"}, content=b"").status_code == 413
    answer = client().post("/en/gradio_api/upload", files={"files": ("a.zip", b"x" * 5_000_000)})
    assert int(answer.text) > 5_000_000


def test_headers_harden_and_nobody_else_is_invited() -> None:
    headers = client().get("/en/").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_a_password_stands_in_front_of_everything() -> None:
    browser = client(Login("open sesame"))
    assert "password" in browser.get("/en/").text
    assert browser.post(JOIN).status_code == 401
    assert browser.get("/media/00").status_code == 401
    assert browser.post("/login", data={"password": "wrong"}).status_code == 403
    entered = browser.post("/login", data={"password": "open sesame"})
    assert entered.status_code == 303
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert browser.post(JOIN).status_code == 200


def test_guessing_gets_slower() -> None:
    browser = client(Login("open sesame"))
    answers = [browser.post("/login", data={"password": str(k)}).status_code for k in range(6)]
    assert answers == [403] * 5 + [429]
    assert browser.post("/login", data={"password": "open sesame"}).status_code == 429


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("192.168.0.5", False)],
)
def test_only_loopback_needs_no_password(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
