"""`dna-pipeline check`: what would run, and what is wrong, without touching anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from dna_pipeline.cli.common import JsonOption, clean, load, print_json, print_table, say

if TYPE_CHECKING:
    from dna_pipeline.inbox.pairing import Candidate
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
    from dna_pipeline.intake.preview import candidates

    try:
        found = candidates(inbox)
    except OSError as error:
        return f"{inbox.path}: {error.strerror}", []
    return None, [_job(config, inbox, candidate, prober) for candidate in found]


def _job(config: Config, inbox: Inbox, candidate: Candidate, prober: Prober) -> dict[str, Any]:
    from dna_pipeline.errors import JobError
    from dna_pipeline.intake.preview import outcome

    facts: dict[str, Any] = {
        "inbox": inbox.name, "file": candidate.image or candidate.sidecar,
        "sidecar": candidate.sidecar, "pipeline": None, "error": None, "detail": None,
    }  # fmt: skip
    told = outcome(config, inbox, candidate, prober)
    if isinstance(told, JobError):
        return facts | {"error": told.code, "detail": told.detail}
    return facts | {"pipeline": told.pipeline, "priority": told.priority}


def _print(facts: dict[str, Any]) -> None:
    say(f"{facts['config']} is valid")
    for model in facts["models"]:
        if model["missing"]:
            print(clean(f"model {model['name']}: {model['missing']}"))
    for inbox in facts["inboxes"]:
        if inbox["problem"]:
            print(clean(f"inbox {inbox['name']}: {inbox['problem']}"))
    rows = [
        (job["inbox"], job["file"], job["sidecar"] or "",
         job["pipeline"] or f"{job['error']}: {'; '.join(job['detail'].splitlines())}")
        for job in facts["jobs"]
    ]  # fmt: skip
    if rows:
        print_table(("inbox", "file", "sidecar", "would run"), rows)
    else:
        say("nothing waits")


def register(app: typer.Typer) -> None:
    app.command()(check)
