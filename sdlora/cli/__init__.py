"""The command line: every name in it is a promise to scripts."""

from __future__ import annotations

import io
import sys

import typer

from sdlora.cli import app, dataset, demo, doctor, health, inspect, jobs, lora_tools, preview, settings, train, user
from sdlora.cli.options import print_json
from sdlora.core.errors import BadInput, DiskFull, SdloraError, is_disk_full
from sdlora.core.text import Text

commands = typer.Typer(
    name="sdlora",
    help="Train Stable Diffusion LoRAs: `sdlora app` serves the web page, the other commands do the same from scripts.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
commands.add_typer(dataset.app, name="dataset")
commands.add_typer(user.app, name="user")
for command in (
    app.app,
    demo.demo,
    train.train,
    jobs.resume,
    jobs.stop,
    jobs.jobs,
    preview.preview,
    inspect.inspect,
    lora_tools.convert,
    lora_tools.merge,
    lora_tools.extract,
    lora_tools.resize,
    settings.settings,
    doctor.doctor,
    health.health,
):
    commands.command()(command)


def main(arguments: list[str] | None = None) -> None:
    """Run a command, by default the one that this process was started with.

    A refusal is one sentence on stderr and the error's exit code, never a traceback. With `--json`
    it is also, in both languages, the one object on stdout.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8; in JSON this is an escape
    try:
        commands(arguments, prog_name="sdlora")
    except SdloraError as error:
        sys.exit(refuse(error.text, error.exit_code))
    except OSError as error:  # no permission, no such folder, a name too long: in the system's own words
        where = f": {str(error.filename)[:200]}" if error.filename else ""
        reason = f"{error.strerror or error}{where}"
        sys.exit(refuse(Text(reason, reason), DiskFull.exit_code if is_disk_full(error) else BadInput.exit_code))


def refuse(text: Text, code: int) -> int:
    print(text.en, file=sys.stderr)
    if "--json" in sys.argv:
        print_json({"error": {"en": text.en, "ja": text.ja}})
    return code
