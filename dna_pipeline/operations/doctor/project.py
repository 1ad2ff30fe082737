"""Checks of pipeline.yaml, the weights, the ledger, and of daemons that run."""

from __future__ import annotations

from collections.abc import Iterator

from dna_pipeline.base.quantities import number_of, size
from dna_pipeline.operations.doctor.facts import LedgerFacts, Machine
from dna_pipeline.operations.doctor.findings import Finding

_NAMES_SHOWN = 3

PULL = "dna-pipeline models pull"
"""The command that fetches missing weights."""


def config(machine: Machine) -> Iterator[Finding]:
    """Say which pipeline.yaml was read, or what is wrong with it."""
    if machine.file_problem:
        hint = "mend or name that file; what follows is about the machine alone"
        yield Finding("config", "fault", machine.file_problem, hint)
    elif machine.file:
        yield Finding("config", "ok", machine.file)
    else:
        value = "no pipeline.yaml here, so the machine alone is checked"
        yield Finding("config", "note", value, "`dna-pipeline init` writes one, --config names one")


def weights(machine: Machine) -> Iterator[Finding]:
    """Say of each model if its files are there, and if they are such as it needs."""
    for model in machine.models:
        if model.missing:
            what, _, way = model.missing.partition("; ")
            hint = f"fetch what is missing: {PULL}" if model.can_be_pulled else way
            yield Finding("weights", "fault", what, hint, model.name)
        elif model.mismatch:
            what, _, way = model.mismatch.partition("; ")
            yield Finding("weights", "fault", what, way, model.name)
        elif model.path:
            value = f"{model.path}, {size(model.file_bytes)}"
            yield Finding("weights", "ok", value, subject=model.name)
        else:
            value = f"{model.provider} needs no weights"
            yield Finding("weights", "ok", value, subject=model.name)


def ledger(machine: Machine) -> Iterator[Finding]:
    """Say if the ledger can be read and written."""
    facts = machine.ledger
    if facts is None:
        return
    if facts.problem:
        value, _, hint = facts.problem.partition("; ")
        hint = hint or "`dna-pipeline status` says more"
        yield Finding("ledger", "fault", value, hint)
    elif facts.unwritable:
        names = ", ".join(facts.unwritable[:_NAMES_SHOWN])
        if more := len(facts.unwritable) - _NAMES_SHOWN:
            names += f" and {more} more" if more > 0 else ""
        value = f"{machine.user or 'this user'} may not change in the data folder: {names}"
        yield Finding("ledger", "fault", value, _owner_hint(facts))
    elif facts.owner:
        value = f"{facts.path} belongs to {facts.owner}, and this user is {machine.user}"
        hint = f"run as {facts.owner}: else {facts.owner} could not change the files made now"
        yield Finding("ledger", "warning", value, hint)
    elif facts.size_bytes is None:
        yield Finding("ledger", "ok", f"{facts.path}, will be made")
    else:
        yield Finding("ledger", "ok", f"{facts.path}, {size(facts.size_bytes)}")


def _owner_hint(facts: LedgerFacts) -> str:
    if facts.owner:
        return f"run as {facts.owner}, or let chown -R give the data folder to this user"
    return "chmod u+w gives the right back"


def daemons(machine: Machine) -> Iterator[Finding]:
    """Name daemons that work on the same folders."""
    for text in machine.daemons:
        value, _, hint = text.partition("; ")
        yield Finding("daemon", "note", value, hint or "nothing to do, if that is meant so")
    if machine.file and not machine.daemons:
        yield Finding("daemon", "ok", "no daemon runs on these folders")


def kept_results(machine: Machine) -> Iterator[Finding]:
    """Say how much the results take that are kept for later jobs."""
    if (kept := machine.kept) is None:
        return
    if not kept.limit_bytes:
        yield Finding(
            "reuse", "ok", "no results are kept for later jobs (retention.reuse_bytes: 0)"
        )
        return
    count = number_of(kept.results, "result")
    value = f"{kept.path}, {count}, {size(kept.size_bytes)} of {size(kept.limit_bytes)}"
    yield Finding("reuse", "ok", value)


def receivers(machine: Machine) -> Iterator[Finding]:
    """Say of each receiver of notifications if it is behind, and why."""
    for name, problem in machine.receivers:
        if problem:
            hint = "try it with `dna-pipeline notify test`; jobs go on meanwhile"
            yield Finding("notify", "warning", problem, hint, name)
        else:
            yield Finding("notify", "ok", "has all messages", subject=name)


def metrics(machine: Machine) -> Iterator[Finding]:
    """Say why the file of metrics cannot be written."""
    if machine.metrics_problem:
        value, _, hint = machine.metrics_problem.partition("; ")
        yield Finding("metrics", "warning", value, hint)
