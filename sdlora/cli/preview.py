"""`preview`: one picture, or a sheet over several strengths."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sdlora.cli.progress_bar import progress_bar
from sdlora.config import resolve
from sdlora.core.environment import child_environment
from sdlora.core.errors import BadInput
from sdlora.core.fast_import import gc_paused
from sdlora.core.text import Text
from sdlora.render.contact_sheet import contact_sheet
from sdlora.render.fit import refuse_unfit


def preview(
    prompt: Annotated[str, typer.Option(help="What to draw.")],
    lora: Annotated[Path | None, typer.Option(help="A LoRA file. [default: the base alone]")] = None,
    base: Annotated[str, typer.Option(help="`emoji`, a diffusers folder, a checkpoint file or a hub id.")] = "emoji",
    strength: Annotated[
        list[float] | None, typer.Option(help="How strongly the LoRA acts; several make a sheet. [default: 1]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    steps: Annotated[int, typer.Option(min=1, max=150, help="Denoising steps.")] = 25,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=1, max=30, help="How strictly to follow the prompt. [default: what the presets say for the base]"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the picture.")] = Path("preview.png"),
) -> None:
    """Draw a prompt with the base or a LoRA."""
    strengths = strength or [1.0]
    if lora is not None and not lora.is_file():
        raise BadInput(Text(f"{lora} does not exist.", f"{lora} がありません。"))
    if any(not -10 <= s <= 10 for s in strengths):
        raise BadInput(
            Text(
                "A strength is a number from -10 to 10; 0 to 1.5 is usual.",
                "強さは -10 から 10 の数値です(通常 0〜1.5)。",
            )
        )
    if lora is not None:
        refuse_unfit(lora, base)
    os.environ |= child_environment()  # before torch loads OpenMP
    with gc_paused():
        from sdlora.render.renderer import DrawRequest, open_renderer

    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    if guidance is None:
        guidance = resolve(base=base).sample.guidance
    with progress_bar("drawing") as advance:
        renderer = open_renderer(base)
        renderer.load(lora.absolute() if lora else None)
        pictures, total = [], len(strengths) * steps
        for number, value in enumerate(strengths):
            renderer.set_strength(value)
            pictures.append(
                renderer.draw(DrawRequest(prompt, "", seed, steps, guidance), _shifted(advance, number * steps, total))
            )
    if len(pictures) == 1:
        pictures[0].save(out, "PNG")
        print(out)
        return
    for value, picture in zip(strengths, pictures, strict=True):
        single = out.with_name(f"{out.stem}-{value:.2f}.png")
        picture.save(single, "PNG")
        print(single)
    contact_sheet([pictures], [f"{value:g}" for value in strengths]).save(out, "PNG")
    print(out)


def _shifted(advance: Callable[[int, int], None], before: int, total: int) -> Callable[[int, int], None]:
    """Progress of one picture as progress of all."""
    return lambda done, _: advance(before + done, total)
