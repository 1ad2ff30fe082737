"""`dna-pipeline check`: lists jobs that would run, and problems. Changes no file."""

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

    report = operation.check(load(context))
    if as_json:
        print_json(report)
    else:
        say(f"{report['config']} is valid")
        check_text.print_report(report, None if everything else check_text.SHOWN)
    if not report["would_all_run"]:
        raise typer.Exit(2)
