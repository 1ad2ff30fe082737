"""`dna-pipeline repair`: rebuilds a damaged ledger, or takes over claims of dead daemons."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from dna_pipeline.base.quantities import number_of
from dna_pipeline.interfaces.cli.output import JsonOption, clean, load_to_write, print_json, say


def repair(
    context: typer.Context,
    claims: Annotated[
        bool,
        typer.Option("--claims", help="Take over what dead daemons had taken from these inboxes."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild a damaged ledger from the results and from what was taken in."""
    from dna_pipeline.base.logs import configure
    from dna_pipeline.operations.repair.rebuild import rebuild
    from dna_pipeline.operations.repair.takeover import take_over

    config = load_to_write(context)
    configure(config.logs, quiet=True)
    if claims:
        owners = [asdict(owner) for owner in take_over(config)]
        print_json({"claims": owners}) if as_json else _print_claims(owners)
    else:
        report = rebuild(config).to_dict()
        print_json(report) if as_json else _print_report(report)


def _print_report(report: dict[str, Any]) -> None:
    if report["damage"] is None:
        say("the ledger is whole; nothing was changed")
        return
    print(f"damage     {clean(report['damage'])}")
    for path in report["set_aside"]:
        print(f"set aside  {clean(path)}")
    print(f"ledger     {report['ledger']}, known from {clean(report['id_from'])}")
    counts = ", ".join(f"{number} {status}" for status, number in sorted(report["jobs"].items()))
    print(f"jobs       {counts or 'none'}, from their folders in the outbox")
    for inbox, number in report["claims"].items():
        print(f"claims     {number} in inbox {clean(inbox)}; the next daemon goes on with them")
    if report["requeued"]:
        print(f"queued     {report['requeued']} copies in the data folder")
    for inbox, number in report["known"].items():
        files, were = number_of(number, "file"), "was" if number == 1 else "were"
        print(f"known      {files} in inbox {clean(inbox)} {were} done; not run again")
    for path in report["recovered"]:
        print(f"recovered  {clean(path)}: nobody knows whose; drop or submit it again")
    for line in report["unreadable"]:
        print(f"unreadable {clean(line)}")
    for line in report["remarks"]:
        print(f"note       {clean(line)}")


def _print_claims(entries: list[dict[str, Any]]) -> None:
    if not entries:
        say("no other daemon has claims in these inboxes")
    for entry in entries:
        owner: dict[str, Any] = entry["owner"] or {}
        who = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "who said nothing"
        where = f"{entry['inbox']}: {entry['drops']} drops of ledger {entry['ledger']}, {who}"
        done = "which lives: left alone" if entry["alive"] else f"{entry['taken']} taken over"
        print(clean(f"{where}: {done}"))
        for line in entry["left"]:
            print(clean(f"left       {line}"))
