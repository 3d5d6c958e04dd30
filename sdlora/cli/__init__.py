"""The command line: every name in it is a promise to scripts."""

from __future__ import annotations

import sys

import typer

from sdlora.cli import datasets, demo, facts, pictures, surgery, training
from sdlora.cli.options import print_json
from sdlora.errors import SdloraError

app = typer.Typer(
    name="sdlora",
    help="Train Stable Diffusion LoRAs: python app.py opens the web page, these commands do the same from scripts.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(datasets.app, name="dataset")
for command in (
    demo.demo,
    training.train,
    training.resume,
    training.stop,
    training.jobs,
    pictures.preview,
    facts.inspect,
    surgery.convert,
    surgery.merge,
    surgery.extract,
    surgery.resize,
    facts.settings,
    facts.doctor,
):
    app.command()(command)


def main() -> None:
    """Run a command. A refusal is one sentence on stderr and the error's exit code, never a traceback.

    With `--json` it is also, in both languages, the one object on stdout.
    """
    try:
        app()
    except SdloraError as error:
        print(error.text.en, file=sys.stderr)
        if "--json" in sys.argv:
            print_json({"error": {"en": error.text.en, "ja": error.text.ja}})
        sys.exit(error.exit_code)
