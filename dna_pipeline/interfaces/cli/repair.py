"""`dna-pipeline repair`: a damaged ledger, and the claims of daemons that are dead."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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
    from dna_pipeline.operations.repair.exclusive import rebuild_ledger, take_over_claims

    config = load_to_write(context)
    configure(config.logs, quiet=True)
    if claims:
        found = [foreign.to_dict() for foreign in take_over_claims(config)]
        print_json({"claims": found}) if as_json else _print_claims(found)
    else:
        facts = rebuild_ledger(config).to_dict()
        print_json(facts) if as_json else _print_report(facts)


def _print_report(facts: dict[str, Any]) -> None:
    if facts["damage"] is None:
        say("the ledger is whole; nothing was changed")
        return
    print(f"damage     {clean(facts['damage'])}")
    for path in facts["set_aside"]:
        print(f"set aside  {clean(path)}")
    print(f"ledger     {facts['ledger']}, known from {clean(facts['id_from'])}")
    counts = ", ".join(f"{number} {status}" for status, number in sorted(facts["jobs"].items()))
    print(f"jobs       {counts or 'none'}, from their folders in the outbox")
    for inbox, number in facts["claims"].items():
        print(f"claims     {number} in inbox {clean(inbox)}; the next daemon goes on with them")
    if facts["requeued"]:
        print(f"queued     {facts['requeued']} copies in the data folder")
    for inbox, number in facts["known"].items():
        print(f"known      {number} files of inbox {clean(inbox)}")
    for path in facts["recovered"]:
        print(f"recovered  {clean(path)}: nobody knows whose; drop or submit it again")
    for line in facts["unreadable"]:
        print(f"unreadable {clean(line)}")
    for line in facts["remarks"]:
        print(f"note       {clean(line)}")


def _print_claims(found: list[dict[str, Any]]) -> None:
    if not found:
        say("no other daemon has claims in these inboxes")
    for entry in found:
        owner: dict[str, Any] = entry["owner"] or {}
        who = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "who said nothing"
        where = f"{entry['inbox']}: {entry['drops']} drops of ledger {entry['ledger']}, {who}"
        done = "which lives: left alone" if entry["alive"] else f"{entry['taken']} taken over"
        print(clean(f"{where}: {done}"))
        for line in entry["left"]:
            print(clean(f"left       {line}"))


def register(app: typer.Typer) -> None:
    app.command()(repair)
