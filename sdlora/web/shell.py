"""The HTML around gradio's page: our language, icon and script come first, before gradio's own script starts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdlora.core.text import Language
from sdlora.web import theme

PAGES: dict[str, Language] = {"/en": "en", "/en/": "en", "/ja": "ja", "/ja/": "ja"}
COOKIE = "sdlora-language"


@dataclass(frozen=True)
class Shell:
    """ASGI middleware. Gradio would put a `head` of ours in by script, too late for it to matter."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        language = PAGES.get(scope["path"]) if scope["type"] == "http" else None
        if language is None:
            return await self.app(scope, receive, send)
        plain = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]
        answer = _Page(language, send)
        await self.app({**scope, "headers": plain}, receive, answer.take)


@dataclass
class _Page:
    """Collects one answer, then sends it as ours."""

    language: Language
    send: Send
    start: Message | None = None
    body: bytes = b""

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.body += message.get("body", b"")
        if message.get("more_body") or self.start is None:
            return
        headers = MutableHeaders(raw=list(self.start["headers"]))
        if headers.get("content-type", "").startswith("text/html"):
            self.body = dressed(self.body.decode(), self.language).encode()
            headers["content-length"] = str(len(self.body))
            headers["cache-control"] = "no-store"
            headers.append("set-cookie", f"{COOKIE}={self.language}; Path=/; Max-Age=31536000; SameSite=Lax")
        await self.send({**self.start, "headers": headers.raw})
        await self.send({"type": "http.response.body", "body": self.body})


def dressed(html: str, language: Language) -> str:
    """Our words for other people's: gradio describes itself in the page's metadata."""
    html = re.sub(r'<meta\s+(property|name)="(og|twitter):[^>]*>\s*', "", html)
    html = re.sub(r'<html(\s+)lang="\w+"', rf'<html\1lang="{language}"', html, count=1)
    return html.replace("<head>", "<head>" + theme.head(language), 1)
