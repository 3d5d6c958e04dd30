"""What stands in front of every route: who may ask (host, origin, login), for what (reviewed paths) and how much (bytes)."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
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
from sdlora.web.security.uploads import Parts, TooLarge, Unreadable, has_room

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
SAFE = ("GET", "HEAD")
MEGA = 1_000_000
UPLOAD_BYTES, OTHER_BYTES = 4000 * MEGA, 4 * MEGA
LONGEST_REST = 0.1  # seconds after a piece of an upload

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
    turn: asyncio.Lock = field(
        default_factory=asyncio.Lock
    )  # uploads hand on one piece at a time: the page comes between

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
        """Who asks: a script by its token, a browser by its cookie."""
        if scope["path"].startswith(API):
            kind, _, token = headers.get("authorization", "").partition(" ")
            user = self.by_token(token.strip()) if kind.lower() == "bearer" else None
            return user or _plain(401, "Send the header: Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"})
        return await self.login.user_or_form(scope, receive, headers) if self.login else LOCAL_ADMIN

    def _body(self, scope: Scope, headers: Headers) -> _Body | Response:
        """What will be let through of the body, or why nothing is."""
        upload = UPLOAD.fullmatch(scope["path"]) is not None
        limit = UPLOAD_BYTES if upload else OTHER_BYTES
        announced = headers.get("content-length", "0")
        if not (announced.isascii() and announced.isdigit()) or int(announced) > limit:
            return _plain(413, "This is too large.")
        if not upload:
            return _Body(limit)
        if not has_room(self.uploads, int(announced)):
            return _plain(507, "The disk is nearly full. Free some space and try again.")
        if not FORMS.fullmatch(scope["path"]):
            return _Body(limit, turn=self.turn)
        try:
            return _Body(limit, Parts(headers.get("content-type", "")), self.turn)
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
class _Body:
    """A request's body while it is read: too long, or no upload, ends it, also when its length was not announced."""

    limit: int
    parts: Parts | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    ours: float = 0.0  # since when the turn is, while the app works on a piece
    seen: int = 0
    refusal: Response | None = None

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watching_receive() -> Message:
            if self.ours:  # as long a rest as the piece took: uploads leave half of the time to pages
                await asyncio.sleep(min(time.monotonic() - self.ours, LONGEST_REST))
            self._pass_on()
            message = await receive()
            if message.get("more_body"):  # what comes after the last piece may take long
                await self.turn.acquire()
                self.ours = time.monotonic()
            self._take(message.get("body", b""))
            return {"type": "http.disconnect"} if self.refusal else message

        async def watching_send(message: Message) -> None:
            nonlocal begun
            if self.refusal and not begun:
                return  # what the app says about a torn request is replaced below
            begun = True
            await send(message)

        try:
            await app(scope, watching_receive, watching_send)
        except ClientDisconnect:
            if not self.refusal:
                raise
        finally:
            self._pass_on()
        if self.refusal and not begun:
            await self.refusal(scope, receive, send)

    def _pass_on(self) -> None:
        if self.ours:
            self.ours = 0.0
            self.turn.release()

    def _take(self, data: bytes) -> None:
        self.seen += len(data)
        try:
            if self.parts and not self.refusal:
                self.parts.feed(data)
            if self.seen > self.limit:
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
            kept = [(k, v) for k, v in message.get("headers", []) if not k.lower().startswith(b"access-control-")]
            present = {k.lower() for k, _ in kept}
            added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
            message = {**message, "headers": [*kept, *added]}
        await send(message)

    return send_hardened


def _with_user(scope: Scope, user: User) -> Scope:
    """The request with the header that names its user, in place of any that came with it."""
    kept = [(name, value) for name, value in scope["headers"] if name.lower() != USER_HEADER.encode()]
    written = [(USER_HEADER.encode(), f"{user.name}:{'admin' if user.admin else 'user'}".encode())]
    return {**scope, "headers": [*kept, *written]}


def _plain(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(sentence, status_code=status, headers=headers)
