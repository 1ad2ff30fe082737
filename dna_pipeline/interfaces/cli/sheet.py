"""`dna-pipeline sheet` and `open`: the commands by which people look at results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dna_pipeline.base.quantities import number_of
from dna_pipeline.interfaces.cli.output import JsonOption, clean_on, load, print_json, say


def sheet(
    context: typer.Context,
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="JOB…", help="These jobs, by their ids.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="B", help="All rows of this batch.")
    ] = None,
    inbox: Annotated[
        str | None, typer.Option("--inbox", metavar="I", help="The newest of this inbox.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="T", help="Those that ended since then: 2026-12-01T22:00."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="Where to; default: the batch's."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a contact sheet: a page and a picture of results; of the newest batch by default."""
    from dna_pipeline.operations.sheet import SheetChoice, make_sheet

    choice = SheetChoice(batch, inbox, since, tuple(jobs or ()))
    made = make_sheet(load(context), choice, folder)
    if as_json:
        print_json(
            {
                "page": str(made.page), "picture": str(made.picture), "results": made.results,
                "failures": made.failures, "unseen": made.unseen,
            }
        )  # fmt: skip
        return
    print(clean_on(made.page))
    text = number_of(made.results, "result")
    text += f", {made.failures:,} of them failed or wrong" if made.failures else ""
    text += f"; {number_of(made.unseen, 'picture')} cannot be read" if made.unseen else ""
    say(text)


def open_(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="[JOB|BATCH|latest]", help="Default: the newest result.")
    ] = "latest",
    folder: Annotated[
        bool, typer.Option("--folder", help="The folder, even where a server runs.")
    ] = False,
) -> None:
    """Open a result: its page where a server runs, else its folder; or a batch's contact sheet.

    Without a display, its address or path is only printed.
    """
    from dna_pipeline.base.desktop import open_path, open_url, opener
    from dna_pipeline.operations.results import find_page, find_place

    config, program = load(context), opener()
    if not folder and (page := find_page(config, target)) is not None:
        print(clean_on(page))
        if program is not None:
            open_url(page, program)
        return
    place = find_place(config, target)
    print(clean_on(place))
    if program is not None:
        open_path(place, program)
