"""The wrapper around every event of the page: what goes wrong becomes a sentence, and the page stays usable."""

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
from sdlora.web.context import USER_HEADER, Page, user_of
from sdlora.web.strings import words

SECONDS = 20.0  # a message stays: enough to read it twice
log = logging.getLogger("sdlora.web")


def event(page: Page, handler: Callable[..., Any], *parts: Any) -> Callable[..., Any]:
    """`handler(page, *parts, *inputs)` as gradio calls it: with the inputs only, and never raising.

    A refusal is told as a message and leaves all outputs as they are.
    """
    run = _generator(page, handler, parts) if inspect.isgeneratorfunction(handler) else _function(page, handler, parts)
    signature = inspect.signature(handler)
    given = 1 + len(parts)
    # gradio reads the signature to find where it has to put the request, the event's data and the progress bar.
    asker = inspect.Parameter("asker", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    parameters = [asker, *list(signature.parameters.values())[given:]]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {**handler.__annotations__, "asker": gr.Request}
    return run


def _function(page: Page, handler: Callable[..., Any], parts: tuple[Any, ...]) -> Callable[..., Any]:
    @functools.wraps(handler)
    def run(asker: gr.Request, *inputs: Any) -> Any:
        try:
            return handler(seen_by(page, asker), *parts, *inputs)
        except Exception as error:
            tell(page, error)
            return gr.skip()

    return run


def _generator(page: Page, handler: Callable[..., Any], parts: tuple[Any, ...]) -> Callable[..., Any]:
    @functools.wraps(handler)
    def run(asker: gr.Request, *inputs: Any) -> Iterator[Any]:
        try:
            yield from handler(seen_by(page, asker), *parts, *inputs)
        except Exception as error:
            tell(page, error)
            yield gr.skip()

    return run


def seen_by(page: Page, asker: gr.Request) -> Page:
    """The page for whoever asks. The guard writes the header, whatever a browser sends under its name."""
    return replace(page, user=user_of(asker.headers.get(USER_HEADER, "")), session=str(asker.session_hash))


def undisturbed(work: Callable[[], None]) -> None:
    """Do something that nobody asked for at this moment: a fault goes to the log, and the next time has its chance."""
    try:
        work()
    except Exception as error:
        log.error("Work behind the page failed", exc_info=error)


def tell(page: Page, error: Exception) -> None:
    """A message over the page."""
    gr.Warning(str(escape(page.say(sentence(error)))), duration=SECONDS)


def sentence(error: Exception) -> Text:
    """A refusal in its own words. Anything else is a fault of the program: it goes to the log, whole."""
    if isinstance(error, SdloraError):
        return error.text
    log.error("An event of the page failed", exc_info=error)
    return words.UNEXPECTED
