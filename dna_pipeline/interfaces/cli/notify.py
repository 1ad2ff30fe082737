"""`dna-pipeline notify`: tries the receivers of notifications."""

from __future__ import annotations

from typing import Annotated

import typer

from dna_pipeline.interfaces.cli.output import JsonOption, clean, load, print_json

notify = typer.Typer(name="notify", help="Receivers of notifications: test.", no_args_is_help=True)


@notify.callback()
def about() -> None:
    """Make `test` a word of its own, although it is the only one."""


@notify.command()
def test(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this receiver.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a test message to each receiver of pipeline.yaml, and say how that went.

    Exit status 1 says that a receiver did not take it. The daemon need not run.
    """
    from dna_pipeline.operations.receivers import try_receivers

    results = try_receivers(load(context), name)
    if as_json:
        print_json(results)
    else:
        for result in results:
            said = "took the message" if result["problem"] is None else result["problem"]
            print(clean(f"{result['name']} ({result['place']}): {said}"))
    if any(result["problem"] for result in results):
        raise typer.Exit(1)
