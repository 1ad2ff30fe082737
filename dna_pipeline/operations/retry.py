"""Retry: what lies in the folder of a job that failed or was cancelled becomes its next attempt."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dna_pipeline.base import stage_files
from dna_pipeline.base.errors import ConfigError, JobError, SourceMissing
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import copy_file, sha256_file
from dna_pipeline.base.naming import sidecar_name
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.intake.claiming.claims import sync_claims
from dna_pipeline.intake.claiming.single import keep_claims
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.discovery.scan import is_yaml_name
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.ledger import batches, drops, queue, requests
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job
from dna_pipeline.operations.lookup import explain, find_batch, find_job, open_queries
from dna_pipeline.operations.submit import claiming
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.failure_folders import remove_failure
from dna_pipeline.publish.outbox import SOURCE, Outbox

_DRAWN = -1
"""Stands for a seed that would be drawn; no seed that is drawn or resolved is negative."""


@dataclass(frozen=True, slots=True)
class _Sources:
    """What a retry reads.

    Attributes:
        image: where the original lies; None if it was removed.
        sidecar: the YAML to read, and the name to give to it.
        folder: where the files of finished stages lie.
        home: where the original should lie.
    """

    image: Path | None
    sidecar: tuple[Path, str] | None
    folder: Path
    home: Path


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A job as it is to run again. `facts`: of the drop; `stages`: ids of those that are kept."""

    facts: dict[str, Any]
    spec: JobSpec
    stages: list[str]


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of a retry.

    Attributes:
        stages: ids of the finished stages that need not run again.
        left: the failure folder, if files of people stay in it.
    """

    stages: list[str]
    left: Path | None


class Retrier:
    """Queues failed and cancelled jobs again, with the sidecar as it is now.

    The stages that had finished are kept up to the first whose input or parameters changed.
    """

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._outbox = Outbox(config.outbox, ledger.id)

    def retry(self, job_id: str, prober: Prober) -> Retried:
        """Queue one job again under its id; its failure folder goes.

        Raises:
            ConfigError: it has neither failed nor been cancelled, or cannot be made to work.
        """
        job = self._ledger.transact(lambda s: queue.find_job(s, job_id))
        if job is None or job.status not in ("failed", "cancelled"):
            raise ConfigError(f"job {job_id[:8]} has not failed; only such jobs can be retried")
        if job.publish != "done" or job.publish_name is None:
            raise ConfigError(
                f"job {job_id[:8]} is still being put into the outbox; try again in a moment"
            )
        drop = self._ledger.transact(lambda s: s.get_one(Drop, job.drop_id))
        sources = self._sources(job, drop, job.publish_name)
        row = self._new_drop(job, drop, sources)
        with claiming(self._ledger, row):
            claim = Path(row["claim"])
            _copy(sources, row, claim)
            try:
                attempt = self._read_again(job, drop, row, sources, prober)
            except JobError as error:
                raise ConfigError(f"job {job_id[:8]}: {error.detail} ({error.code})") from None
            sync_claims([claim], ())
            failpoint("stages-kept")
            if not self._commit(job, drop, row, attempt):
                raise ConfigError(f"job {job_id[:8]} was retried by someone else at the same time")
        failpoint("retry-committed")
        left = self._ledger.transact(lambda s: self._remove_failure(s, job))
        failpoint("failure-removed")
        return Retried(attempt.stages, left)

    def _remove_failure(self, session: Any, job: Job) -> Path | None:
        """Take the old failure folder away, while the lock keeps the daemon from making a new one.

        Where the daemon was faster it did this itself. Gives the folder if files of people stay.
        """
        now = queue.find_job(session, job.id)
        if now is None or now.manifest_sha256 is not None:
            return None
        drop = session.get_one(Drop, now.drop_id)
        needed = partial(queue.is_original_needed, session, job)
        return remove_failure(self._outbox, job, drop, needed)

    # --- what lies in the failure folder ---

    def _sources(self, job: Job, drop: Drop, name: str) -> _Sources:
        folder = self._outbox.folder(name)
        if cancelled_rows.is_shared(name):
            return _shared_sources(job, drop, folder)
        source = folder / SOURCE
        names = sorted(path.name for path in source.iterdir()) if source.is_dir() else []
        image = source / drop.image if drop.image is not None and drop.image in names else None
        sidecar = next((name for name in names if is_yaml_name(name) and name != drop.image), None)
        found = None if sidecar is None else (source / sidecar, sidecar)
        return _Sources(image, found, folder, source)

    def _new_drop(self, job: Job, drop: Drop, sources: _Sources) -> dict[str, Any]:
        image = None if sources.image is None else (drop.image or sources.image.name)
        sidecar = None if sources.sidecar is None else sources.sidecar[1]
        row = job_rows.drop_row(self._inbox(job), drop.folder, image, sidecar)
        return row | {"claim": str(keep_claims(self._config, row["id"]))}

    def _inbox(self, job: Job) -> Inbox:
        inbox = self._config.inbox(job.inbox)
        if inbox is None:
            raise ConfigError(f"inbox {job.inbox!r} is not in pipeline.yaml any more")
        return inbox

    # --- what it asks for now ---

    def _read_again(
        self, job: Job, drop: Drop, row: Mapping[str, Any], sources: _Sources, prober: Prober
    ) -> _Attempt:
        claim, image, sidecar = Path(row["claim"]), row["image"], row["sidecar"]
        if image is None:
            raise SourceMissing(f"its image is not in {sources.home} any more")
        answer = prober.probe(claim / image)
        if isinstance(answer, JobError):
            raise answer
        data = job_rows.read_sidecar(claim / sidecar) if sidecar else None
        facts: dict[str, Any] = {
            "sha256": sha256_file(claim / image), "bytes": (claim / image).stat().st_size,
            "width": answer.width, "height": answer.height,
            "sidecar_text": None if data is None else job_rows.as_text(data),
        }  # fmt: skip
        spec = self._resolve(job, drop, data, self._job_facts(job, row, facts["sha256"]))
        kept: list[str] = []
        if facts["sha256"] == drop.sha256:
            kept = self._keep_stages(job, spec, sources.folder, claim)
        return _Attempt(facts, spec, kept)

    def _job_facts(self, job: Job, row: Mapping[str, Any], sha256: str) -> JobContext:
        facts = job_rows.context_of(self._inbox(job), row["folder"], row["image"], sha256)
        if job.batch is None:
            return facts
        batch, number = self._ledger.transact(lambda s: batches.place_of(s, job))
        return replace(facts, batch=batch, row=number)

    def _resolve(self, job: Job, drop: Drop, data: bytes | None, facts: JobContext) -> JobSpec:
        """The job that the sidecar asks for now. Raises `JobError`.

        A seed that was drawn stays if the sidecar is the same, or at least all parameters of its
        stage are: then the stage's result can be kept.
        """
        inbox = self._inbox(job)

        def resolve(
            text: bytes | None, draw: Callable[[], int], seeds: Mapping[str, int] | None = None
        ) -> JobSpec:
            return job_rows.resolve_text(self._config, inbox, text, facts, draw, seeds)

        def draws(text: bytes | None) -> set[str]:
            spec = resolve(text, lambda: _DRAWN)
            return {stage.id for stage in spec.stages if stage.params.get("seed") == _DRAWN}

        before = drop.sidecar_text if job.batch is None else job.request
        old_text = None if before is None else before.encode()
        stages = {stage["id"]: stage["params"] for stage in job.stages}
        stages |= {run.stage_id: run.params for run, _ in self._finished(job)}
        drawn = draws(data)
        if old_text != data:
            try:
                drawn &= draws(old_text)
            except JobError:
                drawn = set[str]()  # the old sidecar was wrong, so that nothing was drawn for it
        seeds: dict[str, int] = {i: stages[i]["seed"] for i in drawn if "seed" in stages.get(i, {})}
        spec = resolve(data, job_rows.draw_seed, seeds)
        if old_text == data:
            return spec
        same = {stage.id for stage in spec.stages if stage.params == stages.get(stage.id)}
        return resolve(data, job_rows.draw_seed, {i: seeds[i] for i in seeds.keys() & same})

    # --- finished stages ---

    def _finished(self, job: Job) -> list[Any]:
        return self._ledger.transact(lambda s: queue.finished_stages(s, job.id))

    def _keep_stages(self, job: Job, spec: JobSpec, folder: Path, claim: Path) -> list[str]:
        """Copy the files of the first stages that are the same into the claim; their ids.

        The worker looks once more, at weights and code too, before it goes on from them.
        """
        finished = {run.stage_id: (run, files) for run, files in self._finished(job)}
        wanted: list[tuple[str, dict[str, str]]] = []
        for stage in spec.stages:
            run, files = finished.get(stage.id, (None, []))
            params = json.loads(json.dumps(stage.params))
            if run is None or (run.type, run.params) != (stage.type, params):
                break
            wanted.append((stage.id, {file.path: file.sha256 for file in files}))
        if (claim / stage_files.STAGES_FOLDER).exists():
            return []  # an original of that name
        return stage_files.keep(folder, claim, wanted)

    # --- the ledger ---

    def _commit(self, job: Job, drop: Drop, row: Mapping[str, Any], attempt: _Attempt) -> bool:
        facts = attempt.facts
        changes = job_rows.job_columns(self._inbox(job), attempt.spec) | {"drop_id": row["id"]}
        asked = (facts["sha256"], facts["sidecar_text"])
        if job.batch is not None and (drop.sha256, job.request) != asked:
            changes |= {"request": facts["sidecar_text"], "key": None}

        def commit(session: Any) -> bool:
            if not requests.revive(session, job.id, changes, attempt.stages):
                return False
            claimed = {"id": row["id"], "inbox": job.inbox, **facts}
            drops.finish_claims(session, [claimed], [])
            batches.reopen(session, job.id)
            return True

        return self._ledger.transact(commit)


def _shared_sources(job: Job, drop: Drop, folder: Path) -> _Sources:
    """A row's files in a folder that cancelled rows share."""
    row = cancelled_rows.find_row(folder, job.stem, job.id)
    if row is None:
        return _Sources(None, None, folder, folder / SOURCE)
    image = row.image if row.image is not None and row.image.is_file() else None
    sidecar = None
    if image is not None and row.request.is_file():
        sidecar = row.request, sidecar_name(drop.image or image.name)
    return _Sources(image, sidecar, folder, (row.image or folder / SOURCE).parent)


def _copy(sources: _Sources, row: Mapping[str, Any], claim: Path) -> None:
    """Copy image and sidecar under the names that the drop has for them."""
    claim.mkdir(parents=True)
    if sources.image is not None:
        copy_file(sources.image, claim / row["image"])
    if sources.sidecar is not None:
        copy_file(sources.sidecar[0], claim / row["sidecar"])


# --- which jobs ---


@dataclass(frozen=True, slots=True)
class Chosen:
    """The jobs to retry.

    Attributes:
        ids: their ids, each once.
        cancelled: number of cancelled jobs that are left out; 0 where they were not looked for.
    """

    ids: list[str]
    cancelled: int = 0


def choose_jobs(
    config: Config, jobs: Iterable[str], batch: str | None, inbox: str | None, *, failed: bool
) -> Chosen:
    """The jobs whose ids begin so; or, with `failed`, all that failed, oldest first.

    A batch is to be whole in the end, so its cancelled jobs count as failed. Elsewhere what people
    cancelled in the course of time stays cancelled.

    Raises:
        ConfigError: a job, batch or inbox does not exist, or it is not clear which jobs are meant.
    """
    prefixes = list(jobs)
    with closing(open_queries(config)) as views:
        _check_choice(config, prefixes, batch, inbox, failed=failed)
        if not failed:
            return Chosen(list(dict.fromkeys(find_job(views, prefix) for prefix in prefixes)))
        if batch is not None:
            batch_id = find_batch(views, batch)
            return Chosen(views.ids(("failed", "cancelled"), inbox=inbox, batch=batch_id))
        ids = views.ids(("failed",), inbox=inbox)
        return Chosen(ids, len(views.ids(("cancelled",), inbox=inbox)))


def _check_choice(
    config: Config, jobs: list[str], batch: str | None, inbox: str | None, *, failed: bool
) -> None:
    """Raises `ConfigError` where it is not clear which jobs are meant."""
    if bool(jobs) == failed or (not failed and (batch is not None or inbox is not None)):
        raise ConfigError(
            "name jobs, or one batch with --batch and --failed: `retry JOB…`, `retry --failed`, "
            "`retry --failed --batch B` or `retry --failed --inbox I`"
        )
    if inbox is not None and config.inbox(inbox) is None:
        names = ", ".join(entry.name for entry in config.inboxes)
        raise ConfigError(f"no inbox is called {inbox!r}; there are: {names}")


def retry_each(config: Config, ids: Iterable[str]) -> Generator[tuple[str, Retried | str]]:
    """Queue the jobs again, one after another.

    Yields:
        The job's id, and what became of it; a sentence for people where it cannot be retried.
    """
    with closing(Ledger(config.ledger_path)) as ledger, closing(Prober()) as prober:
        retrier = Retrier(config, ledger)
        for job_id in ids:
            try:
                outcome = retrier.retry(job_id, prober)
            except (ConfigError, OSError) as error:
                yield job_id, explain(job_id, error)
            else:
                yield job_id, outcome
