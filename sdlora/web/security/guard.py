"""ASGI middleware in front of every route: checks host, origin, login, path (reviewed ones only) and the size of the body."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdlora.jobs.ownership import LOCAL_ADMIN, User
from sdlora.web.context import USER_HEADER
from sdlora.web.security.login import Login
from sdlora.web.security.uploads import Form, TooLarge, Unreadable, has_room

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
SAFE = ("GET", "HEAD")
MEGA = 1_000_000
UPLOAD_BYTES, OTHER_BYTES = 4000 * MEGA, 4 * MEGA
MAX_REST = 0.1  # seconds, after a piece of an upload

# Gradio brings a hundred routes. These are the ones that the page uses; all others do not exist here.
_GRADIO = (
    r"|theme\.css|config|assets/[\w.-]+|static/(fonts|img|js)/[\w./-]+|gradio_api/(startup-events|queue/(join|data)|run/predict"
    r"|upload|upload_progress|heartbeat/\w+|cancel|reset|app_id)/?"
)
API = "/api/"
_API = r"openapi\.json|settings|datasets(/[a-z0-9-]+)?|jobs(/[a-z0-9-]+(/(stop|resume|events|file))?)?"
REVIEWED = re.compile(rf"/|/login|/media/[0-9a-f]+|/(en|ja)(/({_GRADIO}))?|{API}({_API})")
FORMS = re.compile(r"/(en|ja)/gradio_api/upload/?")
UPLOAD = re.compile(rf"{FORMS.pattern}|{API}datasets")

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Gradio needs inline scripts and builds functions from templates. Nothing may be loaded from, or sent to, elsewhere.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'",
}


def allowed_hosts(bound: str, configured: Iterable[str] = ()) -> frozenset[str]:
    """Names that the browser may call this server by. Another name is somebody's DNS pointing here (rebinding)."""
    own = f"[{bound}]" if ":" in bound else bound
    return frozenset(name.strip().lower() for name in (*LOOPBACK, own, *configured) if name.strip())


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Guard:
    """ASGI middleware. `anywhere`: listening on all addresses, so any literal IP address is a fair name too."""

    app: ASGIApp
    hosts: frozenset[str]
    anywhere: bool
    login: Login | None
    uploads: Path
    by_token: Callable[[str], User | None]
    upload_lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # see `_LimitedBody`

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})  # the page uses none
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal:
            return await refusal(scope, receive, _with_security_headers(send))
        user = await self._user(scope, receive, headers)
        if isinstance(user, Response):
            return await user(scope, receive, _with_security_headers(send))
        scope = _with_user(scope, user)
        body = self._body(scope, headers)
        if isinstance(body, Response):
            return await body(scope, receive, _with_security_headers(send))
        await body.run(self.app, scope, receive, _with_security_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self._is_known(headers.get("host", "")):
            return _plain(421, "This address is not known here. Start sdlora with SDLORA_HOSTS=name to allow it.")
        if scope["method"] not in SAFE and not _is_own(headers):
            return _plain(403, "This request came from another site.")
        if not is_reviewed(scope["path"]):
            return _plain(404, "Not found")
        return None

    async def _user(self, scope: Scope, receive: Receive, headers: Headers) -> Response | User:
        """The user: a script's by its token, a browser's by its cookie. Else the response that asks for it."""
        if scope["path"].startswith(API):
            kind, _, token = headers.get("authorization", "").partition(" ")
            user = self.by_token(token.strip()) if kind.lower() == "bearer" else None
            return user or _plain(401, "Send the header: Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"})
        return await self.login.user_or_form(scope, receive, headers) if self.login else LOCAL_ADMIN

    def _body(self, scope: Scope, headers: Headers) -> _LimitedBody | Response:
        """The limits of the body, or the refusal to take one."""
        upload = UPLOAD.fullmatch(scope["path"]) is not None
        limit = UPLOAD_BYTES if upload else OTHER_BYTES
        announced = headers.get("content-length", "0")
        if not (announced.isascii() and announced.isdigit()) or int(announced) > limit:
            return _plain(413, "This is too large.")
        if not upload:
            return _LimitedBody(limit)
        if not has_room(self.uploads, int(announced)):
            return _plain(507, "The disk is nearly full. Free some space and try again.")
        if not FORMS.fullmatch(scope["path"]):
            return _LimitedBody(limit, lock=self.upload_lock)
        try:
            return _LimitedBody(limit, Form(headers.get("content-type", "")), self.upload_lock)
        except Unreadable:
            return _plain(400, "This is not an upload.")

    def _is_known(self, host: str) -> bool:
        name = re.sub(r":\d+$", "", host.lower())
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return self.anywhere


def _is_own(headers: Headers) -> bool:
    """An unsafe request must come from our own page: browsers say so in Origin and Sec-Fetch-Site; programs send neither."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


@dataclass
class _LimitedBody:
    """Runs the app with a request whose body is limited: one that is too long, or no form where one must be, ends the request
    with a refusal, also where its length was not announced.

    All uploads share one lock, from a piece of one to its next: ten at once would leave no time for the page between them.
    """

    limit: int
    form: Form | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    held_since: float = 0.0  # when the lock was taken, 0 while it is not held: the app works on a piece
    bytes_read: int = 0
    refusal: Response | None = None
    has_responded: bool = False

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, partial(self._receive, receive), partial(self._send, send))
        except ClientDisconnect:
            if not self.refusal:
                raise
        finally:
            self._release()
        if self.refusal and not self.has_responded:
            await self.refusal(scope, receive, send)

    async def _receive(self, receive: Receive) -> Message:
        """The next piece. To the app, a refused request looks like one whose browser is gone."""
        if (
            self.held_since
        ):  # rest as long as the app worked on the last piece: uploads leave half of the time to the page
            await asyncio.sleep(min(time.monotonic() - self.held_since, MAX_REST))
        self._release()
        message = await receive()
        if message.get("more_body"):  # not for the last piece: what the app does after it may take long
            await self.lock.acquire()
            self.held_since = time.monotonic()
        self._check(message.get("body", b""))
        return {"type": "http.disconnect"} if self.refusal else message

    async def _send(self, send: Send, message: Message) -> None:
        """Pass the app's response on, but not what it says about a request that was refused in between."""
        if self.refusal and not self.has_responded:
            return
        self.has_responded = True
        await send(message)

    def _release(self) -> None:
        if self.held_since:
            self.held_since = 0.0
            self.lock.release()

    def _check(self, data: bytes) -> None:
        self.bytes_read += len(data)
        try:
            if self.form and not self.refusal:
                self.form.feed(data)
            if self.bytes_read > self.limit:
                raise TooLarge
        except TooLarge:
            self.refusal = _plain(413, "This is too large.")
        except Unreadable:
            self.refusal = _plain(400, "This is not an upload.")


def is_reviewed(path: str) -> bool:
    """Whether a path belongs to a route that somebody has looked at. No name among them has two dots."""
    return REVIEWED.fullmatch(path) is not None and ".." not in path


def _with_security_headers(send: Send) -> Send:
    """Adds our headers where a route did not set its own, and drops gradio's invitations to other origins."""

    async def send_hardened(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = [(k, v) for k, v in message.get("headers", []) if not k.lower().startswith(b"access-control-")]
            present = {k.lower() for k, _ in own}
            added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
            message = {**message, "headers": [*own, *added]}
        await send(message)

    return send_hardened


def _with_user(scope: Scope, user: User) -> Scope:
    """The request with the header that names its user, in place of any that came with it."""
    others = [(name, value) for name, value in scope["headers"] if name.lower() != USER_HEADER.encode()]
    written = [(USER_HEADER.encode(), f"{user.name}:{'admin' if user.admin else 'user'}".encode())]
    return {**scope, "headers": [*others, *written]}


def _plain(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(sentence, status_code=status, headers=headers)
