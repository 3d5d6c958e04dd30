"""ASGI middleware that puts our language, icon and scripts in front of gradio's own in the HTML of the page."""

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
    """Rewrites the HTML, since gradio's own `head` parameter is inserted by its script: too late to set the language."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        language = PAGES.get(scope["path"]) if scope["type"] == "http" else None
        if language is None:
            return await self.app(scope, receive, send)
        uncompressed = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]
        response = _BufferedPage(language, send)
        await self.app({**scope, "headers": uncompressed}, receive, response.take)


@dataclass
class _BufferedPage:
    """Collects one response, then sends it with our head."""

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
            self.body = inject_head(self.body.decode(), self.language).encode()
            headers["content-length"] = str(len(self.body))
            headers["cache-control"] = "no-store"
            headers.append("set-cookie", f"{COOKIE}={self.language}; Path=/; Max-Age=31536000; SameSite=Lax")
        await self.send({**self.start, "headers": headers.raw})
        await self.send({"type": "http.response.body", "body": self.body})


def inject_head(html: str, language: Language) -> str:
    """Set `lang`, put our head first, and drop the metadata in which gradio describes itself."""
    html = re.sub(r'<meta\s+(property|name)="(og|twitter):[^>]*>\s*', "", html)
    html = re.sub(r'<html(\s+)lang="\w+"', rf'<html\1lang="{language}"', html, count=1)
    return html.replace("<head>", "<head>" + theme.head(language), 1)
