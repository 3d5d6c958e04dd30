"""The wrapper around every event handler of the page: a fault becomes a sentence, and the page stays usable."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
from markupsafe import escape

from sdlora.core.errors import SdloraError
from sdlora.core.text import Text
from sdlora.web import strings
from sdlora.web.context import USER_HEADER, Page, user_of

WARNING_SECONDS = 20.0  # enough to read a message twice
log = logging.getLogger("sdlora.web")


def event(page: Page, handler: Callable[..., Any], *parts: Any) -> Callable[..., Any]:
    """Wrap `handler(page, *parts, *inputs)` into the function that gradio calls with the inputs alone.

    The wrapper passes the page of the user who asks, shows an error as a message and then leaves all outputs as they are.

    Gradio decides by a function's signature and annotations what it passes beside the inputs: `gr.Request`, `gr.EventData`,
    `gr.Progress`. A wrapper `(*inputs)` would get none of them, so it carries the handler's own, less what is bound here,
    with the request in front. For

        def rename(page: Page, screen: Library, query: str, action: gr.EventData) -> list[Any]

    `event(page, rename, screen)` looks to gradio like

        def rename(request: gr.Request, query: str, action: gr.EventData) -> list[Any]

    and is called so; it then calls `rename(page of the request, screen, query, action)`.
    """
    run = _generator(page, handler, parts) if inspect.isgeneratorfunction(handler) else _function(page, handler, parts)
    signature = inspect.signature(handler)
    bound = 1 + len(parts)
    request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    parameters = [request, *list(signature.parameters.values())[bound:]]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {**handler.__annotations__, "request": gr.Request}
    return run


def _function(page: Page, handler: Callable[..., Any], parts: tuple[Any, ...]) -> Callable[..., Any]:
    @functools.wraps(handler)
    def run(request: gr.Request, *inputs: Any) -> Any:
        try:
            return handler(page_for(page, request), *parts, *inputs)
        except Exception as error:
            show_error(page, error)
            return gr.skip()

    return run


def _generator(page: Page, handler: Callable[..., Any], parts: tuple[Any, ...]) -> Callable[..., Any]:
    @functools.wraps(handler)
    def run(request: gr.Request, *inputs: Any) -> Iterator[Any]:
        try:
            yield from handler(page_for(page, request), *parts, *inputs)
        except Exception as error:
            show_error(page, error)
            yield gr.skip()

    return run


def page_for(page: Page, request: gr.Request) -> Page:
    """The page as the user of this request may see it. The guard writes the header, whatever a browser sends under its name."""
    return replace(page, user=user_of(request.headers.get(USER_HEADER, "")), session=str(request.session_hash))


def log_exceptions(work: Callable[[], None]) -> None:
    """Run background work that repeats: an exception goes to the log, and the next round tries again."""
    try:
        work()
    except Exception as error:
        log.error("Work behind the page failed", exc_info=error)


def show_error(page: Page, error: Exception) -> None:
    """A message over the page."""
    gr.Warning(str(escape(page.say(error_text(error)))), duration=WARNING_SECONDS)


def error_text(error: Exception) -> Text:
    """The sentence of a refusal. Anything else is a fault of the program and goes to the log with its traceback."""
    if isinstance(error, SdloraError):
        return error.text
    log.error("An event of the page failed", exc_info=error)
    return strings.messages.UNEXPECTED
