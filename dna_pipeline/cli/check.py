"""`dna-pipeline check`: what would run, and what is wrong, without touching anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from dna_pipeline.cli.common import (
    JsonOption,
    clean,
    load,
    open_views,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from dna_pipeline.inbox.pairing import Candidate
    from dna_pipeline.intake.preview import Outlook
    from dna_pipeline.probe import Prober
    from dna_pipeline.spec.config import Config, Inbox


def check(context: typer.Context, as_json: JsonOption = False) -> None:
    """Validate pipeline.yaml and all that waits; list what would run. Loads nothing."""
    config = load(context)
    facts = _facts(config)
    if as_json:
        print_json(facts)
    else:
        _print(facts)
    if any(job["error"] for job in facts["jobs"]) or any(i["problem"] for i in facts["inboxes"]):
        raise typer.Exit(2)


def _facts(config: Config) -> dict[str, Any]:
    from dna_pipeline.probe import Prober

    models = [
        {"name": name, "provider": provider.name_in_config, "missing": provider.missing()}
        for name, provider in config.models.items()
    ]
    inboxes: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []
    prober = Prober()
    try:
        for inbox in config.inboxes:
            problem, found = _inbox(config, inbox, prober)
            inboxes.append({"name": inbox.name, "path": str(inbox.path), "problem": problem})
            jobs += found
    finally:
        prober.close()
    return {"config": str(config.file), "models": models, "inboxes": inboxes, "jobs": jobs}


def _inbox(config: Config, inbox: Inbox, prober: Prober) -> tuple[str | None, list[dict[str, Any]]]:
    from dna_pipeline.intake.preview import candidates, outlooks

    try:
        found = candidates(inbox)
    except OSError as error:
        return f"{inbox.path}: {error.strerror}", []
    done = _Done(config)
    return None, [
        _job(inbox, candidate, outlook, done)
        for candidate in found
        for outlook in outlooks(config, inbox, candidate, prober)
    ]


class _Done:
    """Which rows were done before, as far as the ledger knows."""

    def __init__(self, config: Config) -> None:
        self._views = open_views(config) if config.ledger_path.exists() else None

    def has(self, inbox: Inbox, key: str | None) -> bool:
        if key is None or self._views is None or inbox.on_duplicate == "run":
            return False
        return self._views.has_key(key)


def _job(inbox: Inbox, candidate: Candidate, outlook: Outlook, done: _Done) -> dict[str, Any]:
    told = candidate.table or candidate.sidecar
    facts: dict[str, Any] = {
        "inbox": inbox.name, "file": outlook.image or told, "sidecar": told, "row": outlook.row,
        "column": None, "pipeline": None, "skipped": False, "error": None, "detail": None,
    }  # fmt: skip
    if (error := outlook.error) is not None:
        column = error.where if outlook.row is not None else None
        return facts | {"error": error.code, "detail": error.detail, "column": column or None}
    spec = outlook.spec
    assert spec is not None
    skipped = done.has(inbox, outlook.key)
    return facts | {"pipeline": spec.pipeline, "priority": spec.priority, "skipped": skipped}


def _print(facts: dict[str, Any]) -> None:
    say(f"{facts['config']} is valid")
    for model in facts["models"]:
        if model["missing"]:
            print(clean(f"model {model['name']}: {model['missing']}"))
    for inbox in facts["inboxes"]:
        if inbox["problem"]:
            print(clean(f"inbox {inbox['name']}: {inbox['problem']}"))
    rows = [
        (job["inbox"], job["file"], _told(job),
         job["pipeline"] or f"{job['error']}: {'; '.join(job['detail'].splitlines())}")
        for job in facts["jobs"]
        if not job["skipped"]
    ]  # fmt: skip
    if rows:
        print_table(("inbox", "file", "told by", "would run"), rows)
    if skipped := sum(job["skipped"] for job in facts["jobs"]):
        say(f"{skipped} more were done before and would be skipped")
    elif not rows:
        say("nothing waits")


def _told(job: dict[str, Any]) -> str:
    if job["row"] is None:
        return job["sidecar"] or ""
    return f"{job['sidecar']} row {job['row']}"


def register(app: typer.Typer) -> None:
    app.command()(check)
