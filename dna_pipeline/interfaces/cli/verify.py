"""`dna-pipeline verify`: compares results with their manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dna_pipeline.interfaces.cli.output import JsonOption, clean, load, print_json, say


def verify(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="Folders; default: the outbox.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hash results again and compare with their manifests."""
    from dna_pipeline.operations import verify as operation

    results = operation.verify(paths or [load(context).outbox])
    if as_json:
        print_json(results)
    else:
        _print(results)
    if any(result["problems"] for result in results):
        raise typer.Exit(1)


def _print(results: list[dict[str, Any]]) -> None:
    for result in results:
        for problem in result["problems"]:
            print(f"{clean(result['folder'])}: {clean(problem)}")
    wrong = sum(1 for result in results if result["problems"])
    files = sum(result["files"] for result in results)
    say(f"{len(results)} results with {files} files looked at, {wrong} with problems")


def register(app: typer.Typer) -> None:
    app.command()(verify)
