"""The login form, its session cookie, and a wait that doubles with every wrong guess."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import time
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from sdlora.core.lru_cache import LruCache
from sdlora.core.text import Language, Text
from sdlora.jobs.ownership import LOCAL_ADMIN, User
from sdlora.web import strings
from sdlora.web.security.user_file import UserFile
from sdlora.web.views.render import html

COOKIE = "sdlora-login"
FREE_GUESSES = 5
MAX_WAIT = 900.0  # seconds
MAX_ENTRIES = 1000  # sessions; addresses with wrong guesses


@dataclass
class Login:
    """Sessions and wrong guesses, in memory: a restart asks everybody again."""

    password: str
    users: UserFile | None = None  # then a name is asked for too, and `password` is nobody's
    _sessions: LruCache[str, User] = field(default_factory=lambda: LruCache(MAX_ENTRIES))
    _guesses: LruCache[str, tuple[int, float]] = field(  # by address: wrong guesses, closed until
        default_factory=lambda: LruCache(MAX_ENTRIES)
    )

    async def user_or_form(self, scope: Scope, receive: Receive, headers: Headers) -> Response | User:
        """The user of this browser's session; else the form, or the response to a filled-in one."""
        if scope["path"] == "/login" and scope["method"] == "POST":
            return await self._enter(Request(scope, receive))
        user = self._session_user(headers.get("cookie", ""))
        if user:
            return RedirectResponse("/", 303) if scope["path"] == "/login" else user
        is_page = scope["path"] in ("/", "/login", "/en", "/en/", "/ja", "/ja/")
        return self._form(headers, 401 if not is_page else 200)

    def _session_user(self, cookies: str) -> User | None:
        try:
            morsel = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return None
        return self._sessions.get(morsel.value) if morsel else None

    async def _enter(self, request: Request) -> Response:
        form = parse_qs((await _short_body(request)).decode(errors="replace"))
        name, password = (form.get(field, [""])[0] for field in ("name", "password"))
        # Counted before it is looked at: of a hundred guesses sent at once, each sees the ones before it.
        address = _network(request.client.host if request.client else "")
        guesses, closed_until = self._guesses.get(address) or (0, 0.0)
        wait = closed_until - time.monotonic()
        if wait > 0:
            message = strings.login.LOGIN_WAIT.fill(seconds=int(wait) + 1)
            return self._form(request.headers, 429, message, {"retry-after": str(int(wait) + 1)})
        pause = min(MAX_WAIT, 2.0 ** (guesses + 1 - FREE_GUESSES)) if guesses + 1 >= FREE_GUESSES else 0.0
        self._guesses.put(address, (guesses + 1, time.monotonic() + pause))
        user = await self._user(name, password)
        if user is None:
            return self._form(request.headers, 403, strings.login.LOGIN_WRONG)
        self._guesses.remove(address)
        token = secrets.token_urlsafe(32)
        self._sessions.put(token, user)
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", max_age=30 * 86400)
        return response

    async def _user(self, name: str, password: str) -> User | None:
        if self.users:  # 50 ms of work: the page must answer others meanwhile
            return await asyncio.to_thread(self.users.by_password, name, password)
        right = hmac.compare_digest(password.encode(errors="replace"), self.password.encode())
        return LOCAL_ADMIN if right else None

    def _form(
        self, headers: Headers, status: int, message: Text | None = None, extra: dict[str, str] | None = None
    ) -> Response:
        japanese = headers.get("accept-language", "").lower().startswith("ja")
        chosen = "sdlora-language=ja" in headers.get("cookie", "")
        language: Language = "ja" if japanese or chosen else "en"
        form = html("login", language, asks_name=self.users is not None, message=message)
        return HTMLResponse(form, status, extra)


def _network(address: str) -> str:
    """The address, or the /64 network, that wrong guesses count against: whoever has one IPv6 address has 2^64 of them."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))


async def _short_body(request: Request, limit: int = 4096) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return b""
    return body
