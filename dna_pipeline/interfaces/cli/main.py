"""The program `dna-pipeline`: assembles the commands and turns errors into exit statuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dna_pipeline import __version__
from dna_pipeline.base.errors import Locked
from dna_pipeline.base.terminal_text import escape_unencodable
from dna_pipeline.interfaces.cli.check import check
from dna_pipeline.interfaces.cli.control import cancel, pause, resume, retry
from dna_pipeline.interfaces.cli.doctor import doctor
from dna_pipeline.interfaces.cli.init import init
from dna_pipeline.interfaces.cli.inspect import events, jobs, show, status
from dna_pipeline.interfaces.cli.models import models
from dna_pipeline.interfaces.cli.notify import notify
from dna_pipeline.interfaces.cli.output import say
from dna_pipeline.interfaces.cli.repair import repair
from dna_pipeline.interfaces.cli.run import run, submit, watch
from dna_pipeline.interfaces.cli.schema import schema
from dna_pipeline.interfaces.cli.serve import serve
from dna_pipeline.interfaces.cli.service import service
from dna_pipeline.interfaces.cli.sheet import open_, sheet
from dna_pipeline.interfaces.cli.verify import verify
from dna_pipeline.operations.lookup import sentence

EXIT_WRONG_CALL = 2
EXIT_LOCKED = 3

app = typer.Typer(
    name="dna-pipeline",
    help="Drop images into a folder; restyled pictures and meshes come out of another.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for command in (
    init, check, watch, run, submit, jobs, show, events, status, cancel, retry, pause, resume,
    verify, repair, doctor, schema, sheet, serve,
):  # fmt: skip
    app.command()(command)
app.command("open")(open_)
app.add_typer(models)
app.add_typer(service)
app.add_typer(notify)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        print(f"dna-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="pipeline.yaml, else $DNA_CONFIG, else ./"),
    ] = None,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print it, and exit."
        ),
    ] = False,
) -> None:
    """Read what stands before the command's name."""
    context.obj = config


def main() -> None:
    """Run the command line; exit 2 on a wrong call, 3 if another daemon holds a lock."""
    escape_unencodable()
    try:
        app()
    except Locked as error:
        say(f"dna-pipeline: {error}")
        sys.exit(EXIT_LOCKED)
    except BrokenPipeError:
        sys.stderr.close()  # `dna-pipeline jobs | head`: the reader closed the pipe, no error
        sys.exit(0)
    except Exception as error:
        if (text := sentence(error)) is None:
            raise
        say(f"dna-pipeline: {text}")
        sys.exit(EXIT_WRONG_CALL)
