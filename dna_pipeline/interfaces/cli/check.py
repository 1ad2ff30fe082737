"""`dna-pipeline check`: what would run, and what is wrong, without touching anything."""

from __future__ import annotations

from typing import Annotated

import typer

from dna_pipeline.interfaces.cli import check_text
from dna_pipeline.interfaces.cli.output import JsonOption, load, print_json, say


def check(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Print every row and file, however many they are.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Validate pipeline.yaml and all that waits; list what would run. Loads nothing.

    Exit status 2 says that something would not run as things are.
    """
    from dna_pipeline.operations import check as operation

    facts = operation.check(load(context))
    if as_json:
        print_json(facts)
    else:
        say(f"{facts['config']} is valid")
        check_text.print_facts(facts, None if everything else check_text.SHOWN)
    if not facts["would_all_run"]:
        raise typer.Exit(2)


def register(app: typer.Typer) -> None:
    app.command()(check)
