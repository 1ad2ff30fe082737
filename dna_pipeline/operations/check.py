"""What would run, and what is wrong, without touching anything: the facts of `check`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any

from dna_pipeline.base.reachability import Look, brief_looks
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.execution.disk_space import made
from dna_pipeline.execution.estimate import Estimator, total
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.planning.job_rows import printable
from dna_pipeline.intake.planning.source_roots import lacking_root
from dna_pipeline.ledger import health, model_sets
from dna_pipeline.ledger.queries import Views
from dna_pipeline.operations import hindrances
from dna_pipeline.operations.check_plan import Outlook, outlooks, preview
from dna_pipeline.operations.lookup import open_views


def check(config: Config) -> dict[str, Any]:
    """All that lies in the inboxes, with what it would become or why it would fail.

    Loads no model and takes nothing. Raises `ConfigError` where the ledger is gone.
    """
    health.check_present(config.ledger_path)
    views = open_views(config) if config.ledger_path.exists() else None
    facts: dict[str, Any] = {"config": str(config.file), "models": _models(config)}
    facts |= {"inboxes": [], "jobs": [], "waiting": [], "ignored": []}
    estimator = _estimator(views)
    with brief_looks() as look, closing(Prober(look)) as prober:
        done = _Done(config, views, look)
        for inbox in config.inboxes:
            problem = hindrances.of_inbox(config, inbox, views, look)
            if problem is None:
                problem = _inbox(config, inbox, prober, estimator, done, look, facts)
            facts["inboxes"].append(
                {"name": inbox.name, "path": str(inbox.path), "problem": problem}
            )
        facts["remarks"] = hindrances.of_surroundings(config, views, look)
    _note_missing_weights(facts)
    facts |= _whole(facts["jobs"])
    facts["would_all_run"] = _would_all_run(facts)
    return facts


def _models(config: Config) -> list[dict[str, Any]]:
    return [
        {"name": name, "provider": provider.name_in_config, "missing": provider.missing(),
         "jobs": 0}
        for name, provider in config.models.items()
    ]  # fmt: skip


def _note_missing_weights(facts: dict[str, Any]) -> None:
    """Say of each job which models without weights it waits for, and count these jobs by model."""
    missing = {model["name"]: model for model in facts["models"] if model["missing"]}
    for job in facts["jobs"]:
        needed = job.pop("models")
        job["lacks"] = [] if job["skipped"] else [name for name in needed if name in missing]
        for name in job["lacks"]:
            missing[name]["jobs"] += 1


def _would_all_run(facts: dict[str, Any]) -> bool:
    """Whether nothing has to be done for all that lies there to run."""
    stopped = any(remark["stops"] for remark in facts["remarks"]) and facts["counts"]["jobs"] > 0
    return not (
        stopped
        or any(job["error"] or job["lacks"] for job in facts["jobs"])
        or any(inbox["problem"] for inbox in facts["inboxes"])
    )


def _estimator(views: Views | None) -> Estimator | None:
    """What earlier jobs taught; None where there is no ledger yet."""

    if views is None:
        return None
    estimator = Estimator(views)
    estimator.refresh()
    return estimator


def _whole(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Time and disk of all that would run, and how many of each kind there are."""

    runs = [job for job in jobs if job["error"] is None and not job["skipped"]]
    seconds = total([[job["seconds"]] if job["seconds"] else [] for job in runs], len(runs))
    rows = sum(job["row"] is not None for job in jobs)
    return {
        "seconds": None if seconds is None else round(seconds, 1),
        "disk_bytes": sum(job["disk_bytes"] for job in runs),
        "counts": {
            "rows": rows, "files": len(jobs) - rows, "jobs": len(runs),
            "wrong": sum(job["error"] is not None for job in jobs),
            "skipped": sum(job["skipped"] for job in jobs),
            "lacking": sum(bool(job["lacks"]) for job in jobs),
        },
    }  # fmt: skip


def _inbox(
    config: Config,
    inbox: Inbox,
    prober: Prober,
    estimator: Estimator | None,
    done: _Done,
    look: Look,
    facts: dict[str, Any],
) -> str | None:
    """Add what lies in the inbox to the facts; what is wrong with the inbox itself."""
    try:
        content = preview(config, inbox, look)
    except OSError as error:
        return f"{inbox.path}: {error.strerror}"
    candidates = content.candidates
    problem: str | None = None
    if (lacking := lacking_root(inbox, look)) is not None:
        root, why = lacking
        problem = f"{root}, one of its source_roots, {why}; its batches wait for that"
        candidates = [candidate for candidate in candidates if not candidate.is_batch]
    facts["jobs"] += [
        _job(inbox, candidate, outlook, done, estimator)
        for candidate in candidates
        for outlook in outlooks(config, inbox, candidate, prober)
    ]
    facts["waiting"] += [
        {"inbox": inbox.name, "file": waits.path, "reason": waits.reason}
        for waits in content.waiting
    ]
    facts["ignored"] += [
        {"inbox": inbox.name, "file": printable(path), "reason": reason}
        for path, reason in content.ignored.items()
    ]
    return problem


class _Done:
    """Which rows were done before, as far as the ledger knows."""

    def __init__(self, config: Config, views: Views | None, look: Look) -> None:
        self._outbox = config.outbox
        self._is_outbox_silent = look(config.outbox).is_silent
        self._views = views

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
    request = candidate.table or candidate.sidecar
    facts: dict[str, Any] = {
        "inbox": inbox.name, "file": outlook.image or request, "sidecar": request,
        "row": outlook.row, "column": None, "pipeline": None, "skipped": False, "error": None,
        "detail": None, "seconds": None, "disk_bytes": 0, "models": [],
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
        "skipped": done.has(outlook.key), "models": model_sets.names_in(stages),
        "seconds": round(sum(seconds), 3) if seconds else None,
        "disk_bytes": made(probed.width, probed.height, stages),
    }  # fmt: skip
