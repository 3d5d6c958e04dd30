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

from markupsafe import Markup
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from sdlora.core.lru_cache import LruCache
from sdlora.core.text import Language, Text
from sdlora.jobs.ownership import LOCAL_ADMIN, User
from sdlora.web.security.user_file import UserFile
from sdlora.web.strings import words

COOKIE = "sdlora-login"
FREE_GUESSES = 5
MAX_WAIT = 900.0  # seconds
MAX_ENTRIES = 1000  # sessions; addresses with wrong guesses

FORM = Markup(
    '<!doctype html><html lang="{lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>sdlora</title><style>body{{font:16px/1.6 system-ui,sans-serif;display:grid;place-content:center;min-height:90vh;"
    "color-scheme:light dark}}form{{display:grid;gap:12px;width:260px}}input,button{{font:inherit;padding:9px 12px;border-radius:9px;"
    "border:1px solid #8886}}button{{background:#2c705b;color:#fff;border:0}}</style>"
    '<form method="post" action="/login"><h1>sdlora</h1>{name}<label>{password}<br><input type="password" name="password" autofocus '
    'autocomplete="current-password" required style="width:100%;box-sizing:border-box"></label><p role="alert">{message}</p>'
    "<button>{enter}</button></form></html>"
)
NAME = Markup('<label>{name}<br><input name="name" autocomplete="username" required></label>')


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
        given = parse_qs((await _short_body(request)).decode(errors="replace"))
        name, password = (given.get(field, [""])[0] for field in ("name", "password"))
        # Counted before it is looked at: of a hundred guesses sent at once, each sees the ones before it.
        address = _network(request.client.host if request.client else "")
        guesses, closed_until = self._guesses.get(address) or (0, 0.0)
        wait = closed_until - time.monotonic()
        if wait > 0:
            message = words.LOGIN_WAIT.fill(seconds=int(wait) + 1)
            return self._form(request.headers, 429, message, {"retry-after": str(int(wait) + 1)})
        pause = min(MAX_WAIT, 2.0 ** (guesses + 1 - FREE_GUESSES)) if guesses + 1 >= FREE_GUESSES else 0.0
        self._guesses.put(address, (guesses + 1, time.monotonic() + pause))
        user = await self._user(name, password)
        if user is None:
            return self._form(request.headers, 403, words.LOGIN_WRONG)
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
        japanese = headers.get("accept-language", "").lower().startswith("ja") or "sdlora-language=ja" in headers.get(
            "cookie", ""
        )
        lang: Language = "ja" if japanese else "en"
        page = FORM.format(
            lang=lang,
            name=NAME.format(name=words.USER_NAME.say(lang)) if self.users else "",
            password=words.PASSWORD.say(lang),
            enter=words.LOGIN.say(lang),
            message=message.say(lang) if message else "",
        )
        return HTMLResponse(str(page), status, extra)


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
