"""The report of `check`: the jobs that would run, and the problems. Changes no file."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from dna_pipeline.base.naming import printable, safe_stem
from dna_pipeline.base.reachability import Look, brief_looks
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.execution.disk_space import output_bytes
from dna_pipeline.execution.estimate import Estimator, total
from dna_pipeline.execution.kept_requests import ReuseForecast
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.source_roots import lacking_root
from dna_pipeline.ledger import health, model_sets
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.operations import obstacles
from dna_pipeline.operations.check_inversions import WrongInversions
from dna_pipeline.operations.check_jobs import PlannedJob, SharedReads, planned_jobs
from dna_pipeline.operations.check_plan import preview
from dna_pipeline.operations.lookup import open_queries
from dna_pipeline.stages import registry
from dna_pipeline.weights import extra_files


def check(config: Config) -> dict[str, Any]:
    """List the jobs that the files in the inboxes would become, or why they would fail.

    Loads no model and claims no file. Raises `ConfigError` if the ledger is gone.
    """
    health.check_present(config.ledger_path)
    queries = open_queries(config) if config.ledger_path.exists() else None
    report: dict[str, Any] = {"config": str(config.file), "models": []}
    report |= {"inboxes": [], "jobs": [], "waiting": [], "ignored": []}
    estimator = _estimator(config, queries)
    with brief_looks() as look, closing(Prober(look)) as prober:
        earlier_jobs = _EarlierJobs(config, queries, look)
        lookups = _Lookups(earlier_jobs, estimator, ReuseForecast(config))
        for inbox in config.inboxes:
            problem = obstacles.of_inbox(config, inbox, queries, look)
            if problem is None:
                problem = _inbox(config, inbox, prober, lookups, look, report)
            report["inboxes"].append(
                {"name": inbox.name, "path": str(inbox.path), "problem": problem}
            )
        report["remarks"] = obstacles.of_surroundings(config, queries, look)
    report["models"] = _models(config, report["jobs"])
    inversions = WrongInversions(config.data)
    for job in report["jobs"]:
        job["extra_files"] += inversions.named_by(job.pop("stages"))
    report["extra_files"] = _extra_files(config, report["jobs"], inversions)
    _note_missing_weights(report)
    report |= _whole(report["jobs"])
    report["queued"] = 0 if queries is None else _open_jobs(queries)
    report["would_all_run"] = _would_all_run(report)
    return report


def _models(config: Config, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Facts about all models. Only those of `Models.to_examine` are searched for a wrong file."""
    models = config.models
    used = {name for job in jobs for name in job["models"]} | config.models_in_pipelines()
    examined = models.to_examine(used)
    report = [
        {"name": name, "provider": provider.name_in_config, "missing": provider.missing(),
         "mismatch": provider.mismatch() if name in examined else None, "jobs": 0}
        for name, provider in models.items()
    ]  # fmt: skip
    absent = {"provider": "diffusers", "mismatch": None, "jobs": 0}
    problems = models.problems().items()
    return report + [{"name": name, "missing": text, **absent} for name, text in problems]


def _extra_files(
    config: Config, jobs: list[dict[str, Any]], inversions: WrongInversions
) -> list[dict[str, Any]]:
    """Facts about the files that jobs need besides their models, such as LoRAs, and about the
    textual inversions that they name and that do not fit."""
    report: list[dict[str, Any]] = []
    for name in sorted({name for job in jobs for name in job["extra_files"]}):
        missing, mismatch = extra_files.problems(config.data, name)
        mismatch = mismatch or inversions.mismatches.get(name)
        report.append({"name": name, "missing": missing, "mismatch": mismatch, "jobs": 0})
    return report


def _note_missing_weights(report: dict[str, Any]) -> None:
    """Add to each job the models and extra files that it lacks, and those that are wrong; count
    these jobs by model and by file."""
    models = {one["name"]: one for one in [*report["extra_files"], *report["models"]]}
    missing = {name for name, model in models.items() if model["missing"]}
    mismatched = {name for name, model in models.items() if model["mismatch"]} - missing
    for job in report["jobs"]:
        needed = [*job.pop("models"), *job.pop("extra_files")]
        job["lacks"] = [] if job["skipped"] else [name for name in needed if name in missing]
        wrong = [] if job["skipped"] else [name for name in needed if name in mismatched]
        job["mismatched"] = wrong
        for name in [*job["lacks"], *wrong]:
            models[name]["jobs"] += 1


def _would_all_run(report: dict[str, Any]) -> bool:
    """True if all files in the inboxes would run without a person doing anything first."""
    stopped = any(remark["stops"] for remark in report["remarks"]) and report["counts"]["jobs"] > 0
    return not (
        stopped
        or any(job["error"] or job["lacks"] or job["mismatched"] for job in report["jobs"])
        or any(inbox["problem"] for inbox in report["inboxes"])
    )


def _open_jobs(queries: Queries) -> int:
    """The number of jobs that a daemon goes on with."""
    return sum(n for status, _, n in queries.counts() if status in ("queued", "running"))


def _estimator(config: Config, queries: Queries | None) -> Estimator | None:
    """Estimator with the times of earlier jobs; None if there is no ledger yet."""
    if queries is None:
        return None
    estimator = Estimator(queries, config)
    estimator.refresh()
    return estimator


def _whole(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up time and disk of all jobs that would run, and count the jobs by kind."""
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
            "mismatched": sum(bool(job["mismatched"]) for job in jobs),
            "reusing": sum(bool(job["reuse"]) for job in runs),
        },
    }  # fmt: skip


def _inbox(
    config: Config,
    inbox: Inbox,
    prober: Prober,
    lookups: _Lookups,
    look: Look,
    report: dict[str, Any],
) -> str | None:
    """Add the inbox's files to the report. Gives the problem of the inbox itself, or None."""
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
    shared = SharedReads(Planner(config, inbox, look))
    report["jobs"] += [
        _job(inbox, candidate, planned, lookups)
        for candidate in candidates
        for planned in planned_jobs(config, inbox, candidate, prober, shared)
    ]
    report["waiting"] += [
        {"inbox": inbox.name, "file": waits.path, "reason": waits.reason}
        for waits in content.waiting
    ]
    report["ignored"] += [
        {"inbox": inbox.name, "file": printable(path), "reason": reason}
        for path, reason in content.ignored.items()
    ]
    return problem


class _EarlierJobs:
    """Lookup of jobs that the ledger already has."""

    def __init__(self, config: Config, queries: Queries | None, look: Look) -> None:
        self._outbox = config.outbox
        self._is_outbox_silent = look(config.outbox).is_silent
        self._queries = queries

    def has(self, key: str | None) -> bool:
        """True if a job with this dedup key is open, or completed with its result still there.

        A result counts as there if the outbox does not answer.
        """
        if key is None or self._queries is None:
            return False
        job = self._queries.newest_with_key(key)
        if job is None:
            return False
        if job["status"] != "completed" or self._is_outbox_silent:
            return True
        return (self._outbox / str(job["publish_name"])).is_dir()


@dataclass(frozen=True, slots=True)
class _Lookups:
    """Knowledge of earlier jobs; without an estimator if there is no ledger yet."""

    earlier_jobs: _EarlierJobs
    estimator: Estimator | None
    forecast: ReuseForecast


def _job(inbox: Inbox, candidate: Candidate, job: PlannedJob, lookups: _Lookups) -> dict[str, Any]:
    request = candidate.table or candidate.sidecar
    entry: dict[str, Any] = {
        "inbox": inbox.name, "file": job.image or request, "sidecar": request,
        "row": job.row, "column": None, "pipeline": None, "skipped": False, "error": None,
        "detail": None, "seconds": None, "disk_bytes": 0, "models": [],
        "extra_files": [], "stages": [], "reuse": {},
    }  # fmt: skip
    if (error := job.error) is not None:
        column = error.where if job.row is not None else None
        return entry | {"error": error.code, "detail": error.detail, "column": column or None}
    spec, probed = job.spec, job.probed
    assert spec is not None
    assert probed is not None
    stages = [asdict(stage) for stage in spec.stages]
    skipped = lookups.earlier_jobs.has(job.key)
    reuse = [""] * len(stages)
    if not skipped:
        stem = safe_stem((job.image or "").rpartition("/")[2])
        reuse = lookups.forecast.of(stages, job.inputs, stem, list(spec.tags))
    estimator, seconds = lookups.estimator, list[float]()
    if estimator is not None:
        seconds = estimator.stages(stages, probed.width, probed.height, reuse)
    return entry | {
        "pipeline": spec.pipeline, "priority": spec.priority,
        "skipped": skipped, "models": model_sets.names_in(stages),
        "extra_files": registry.needed_files(stages), "stages": stages,
        "seconds": round(sum(seconds), 3) if seconds else None,
        "reuse": {s.id: part for s, part in zip(spec.stages, reuse, strict=True) if part},
        "disk_bytes": output_bytes(probed.width, probed.height, stages),
    }  # fmt: skip
