"""`dna-pipeline check`: what would run, and what is wrong, without touching anything."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from dna_pipeline.cli.common import (
    NO_HISTORY,
    JsonOption,
    about,
    clean,
    jobs_text,
    load,
    open_views,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from dna_pipeline.estimate import Estimator
    from dna_pipeline.inbox.candidates import Candidate
    from dna_pipeline.intake.preview import Outlook
    from dna_pipeline.probe import Prober
    from dna_pipeline.reachability import Look
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
    from dna_pipeline.ledger import health
    from dna_pipeline.probe import Prober
    from dna_pipeline.reachability import brief_looks

    health.check_present(config.ledger_path)
    models = [
        {"name": name, "provider": provider.name_in_config, "missing": provider.missing()}
        for name, provider in config.models.items()
    ]
    inboxes: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    estimator = _estimator(config)
    with brief_looks() as look, closing(Prober(look)) as prober:
        done = _Done(config, look)
        for inbox in config.inboxes:
            problem, found, waits = _inbox(config, inbox, prober, estimator, done, look)
            inboxes.append({"name": inbox.name, "path": str(inbox.path), "problem": problem})
            jobs += found
            waiting += waits
    return {
        "config": str(config.file), "models": models, "inboxes": inboxes, "jobs": jobs,
        "waiting": waiting, **_whole(jobs),
    }  # fmt: skip


def _estimator(config: Config) -> Estimator | None:
    """What earlier jobs taught; None where there is no ledger yet."""
    from dna_pipeline.estimate import Estimator

    if not config.ledger_path.exists():
        return None
    estimator = Estimator(open_views(config))
    estimator.refresh()
    return estimator


def _whole(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Time and disk of all that would run."""
    from dna_pipeline.estimate import total

    told = [job for job in jobs if job["error"] is None and not job["skipped"]]
    seconds = total([[job["seconds"]] if job["seconds"] else [] for job in told], len(told))
    return {
        "seconds": None if seconds is None else round(seconds, 1),
        "disk_bytes": sum(job["disk_bytes"] for job in told),
    }


def _inbox(
    config: Config,
    inbox: Inbox,
    prober: Prober,
    estimator: Estimator | None,
    done: _Done,
    look: Look,
) -> tuple[str | None, list[dict[str, Any]], list[dict[str, Any]]]:
    """What is wrong with the inbox, the jobs of what lies there, and the files that wait."""
    from dna_pipeline.intake.preview import outlooks, preview
    from dna_pipeline.spec.sources import lacking_root

    if (reach := look(inbox.path)).is_silent:
        return f"{inbox.path} {reach.why}", [], []
    try:
        seen = preview(config, inbox, look)
    except OSError as error:
        return f"{inbox.path}: {error.strerror}", [], []
    found = seen.candidates
    problem: str | None = None
    if (lacking := lacking_root(inbox, look)) is not None:
        root, why = lacking
        problem = f"{root}, one of its source_roots, {why}; its batches wait for that"
        found = [candidate for candidate in found if not candidate.is_batch]
    jobs = [
        _job(inbox, candidate, outlook, done, estimator)
        for candidate in found
        for outlook in outlooks(config, inbox, candidate, prober)
    ]
    waiting = [
        {"inbox": inbox.name, "file": waits.path, "reason": waits.reason} for waits in seen.waiting
    ]
    return problem, jobs, waiting


class _Done:
    """Which rows were done before, as far as the ledger knows."""

    def __init__(self, config: Config, look: Look) -> None:
        self._outbox = config.outbox
        self._is_outbox_silent = look(config.outbox).is_silent
        self._views = open_views(config) if config.ledger_path.exists() else None

    def has(self, key: str | None) -> bool:
        """Whether a job that does the same is to be done, or was done and its result is there."""
        if key is None or self._views is None or (job := self._views.same(key)) is None:
            return False
        if job["status"] != "completed" or self._is_outbox_silent:
            return True
        return (self._outbox / str(job["publish_name"])).is_dir()


def _job(
    inbox: Inbox,
    candidate: Candidate,
    outlook: Outlook,
    done: _Done,
    estimator: Estimator | None,
) -> dict[str, Any]:
    from dna_pipeline.room import made

    told = candidate.table or candidate.sidecar
    facts: dict[str, Any] = {
        "inbox": inbox.name, "file": outlook.image or told, "sidecar": told, "row": outlook.row,
        "column": None, "pipeline": None, "skipped": False, "error": None, "detail": None,
        "seconds": None, "disk_bytes": 0,
    }  # fmt: skip
    if (error := outlook.error) is not None:
        column = error.where if outlook.row is not None else None
        return facts | {"error": error.code, "detail": error.detail, "column": column or None}
    spec, probed = outlook.spec, outlook.probed
    assert spec is not None
    assert probed is not None
    stages = [asdict(stage) for stage in spec.stages]
    seconds = estimator.stages(stages, probed.width, probed.height) if estimator else []
    return facts | {
        "pipeline": spec.pipeline, "priority": spec.priority,
        "skipped": done.has(outlook.key),
        "seconds": round(sum(seconds), 3) if seconds else None,
        "disk_bytes": made(probed.width, probed.height, stages),
    }  # fmt: skip


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
        print(_outlook(facts))
    for entry in facts["waiting"]:
        print(clean(f"waiting {entry['inbox']}/{entry['file']}: {entry['reason']}"))
    if skipped := sum(job["skipped"] for job in facts["jobs"]):
        say(f"{skipped} more were done before and would be skipped")
    elif not rows and not facts["waiting"]:
        say("nothing waits")


def _told(job: dict[str, Any]) -> str:
    if job["row"] is None:
        return job["sidecar"] or ""
    return f"{job['sidecar']} row {job['row']}"


def _outlook(facts: dict[str, Any]) -> str:
    """How long all of it would take, and how much disk."""
    jobs = sum(job["error"] is None and not job["skipped"] for job in facts["jobs"])
    time = NO_HISTORY if facts["seconds"] is None else about(facts["seconds"])
    mebibytes = max(facts["disk_bytes"] >> 20, 1)
    disk = f"{mebibytes} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB"
    return f"{jobs_text(jobs)}: {time}, at most {disk} of results" if jobs else "nothing would run"


def register(app: typer.Typer) -> None:
    app.command()(check)
