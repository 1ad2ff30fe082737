"""`dna-pipeline verify`: compares results with their manifests and with the ledger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from dna_pipeline.base.quantities import number_of
from dna_pipeline.interfaces.cli.output import JsonOption, clean, load, print_json, say


def verify(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH|JOB…",
            help="Folders, or jobs by their ids; default: the outbox, and all completed jobs.",
        ),
    ] = None,
    opens: Annotated[
        bool,
        typer.Option(
            "--open", help="Open each file as other tools do, too, and compare what is in it."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Hash results again and compare with their manifests; find missing results."""
    from dna_pipeline.operations import verify as operation

    jobs = [target for target in targets or () if _is_job(target)]
    paths = [Path(target) for target in targets or () if not _is_job(target)]
    if targets:
        results = operation.verify(paths, opens=opens)
    else:
        results = operation.verify_outbox(load(context), opens=opens)
    if jobs:
        results += operation.verify_jobs(load(context), jobs, opens=opens)
    if as_json:
        print_json(results)
    else:
        _print(results, opens)
    if any(result["problems"] for result in results):
        raise typer.Exit(1)


def _is_job(target: str) -> bool:
    """True if this may be a job's id, or the beginning of one, and is no path."""
    return re.fullmatch("[0-9a-fA-F]{1,32}", target) is not None and not Path(target).exists()


def _print(results: list[dict[str, Any]], opens: bool) -> None:
    for result in results:
        for problem in result["problems"]:
            print(f"{clean(result['folder'])}: {clean(problem)}")
    wrong = sum(1 for result in results if result["problems"])
    files = sum(result["files"] for result in results)
    opened = f", {sum(result['opened'] for result in results)} opened" if opens else ""
    looked_at = f"{number_of(len(results), 'result')} with {number_of(files, 'file')} looked at"
    say(f"{looked_at}{opened}, {wrong} with problems")
