"""Retry of failed and cancelled jobs, with the files that are in their failure folders now."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from dna_pipeline.base import stage_files
from dna_pipeline.base.errors import ConfigError, JobError, MaskMissing, SourceMissing
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import remove_file, write_bytes
from dna_pipeline.base.layout import SOURCE
from dna_pipeline.base.naming import sidecar_name
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.config.yaml12 import MAX_BYTES
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claim import Claim, InputFile
from dna_pipeline.intake.claiming.claimer import Claimer, hash_files, read_sidecar
from dna_pipeline.intake.claiming.companions import copy_into, find_lacking, require_decodable
from dna_pipeline.intake.discovery.mask_names import is_mask_name, masks_of
from dna_pipeline.intake.discovery.names import is_sidecar_of, without_suffix
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.discovery.scan import is_sidecar_name, is_yaml_name
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.companion_files import CompanionFiles
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.ledger import batches, drops, queue, requests
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job
from dna_pipeline.operations.lookup import explain, find_batch, find_job, open_queries
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.failure_folders import remove_failure
from dna_pipeline.publish.outbox import Outbox
from dna_pipeline.stages import companions


@dataclass(frozen=True, slots=True)
class _Sources:
    """Files that a retry reads.

    Attributes:
        files: the files that the new drop gets, without the original if that was removed.
        folder: folder with the files of finished stages.
        home: folder in which the original should lie.
        sidecar: path of the sidecar, also where there is none yet; None if there is no image.
    """

    files: list[InputFile]
    folder: Path
    home: Path
    sidecar: Path | None = None


@dataclass(frozen=True, slots=True)
class RetryResult:
    """Outcome of a retry.

    Attributes:
        stages: ids of the finished stages that need not run again.
        failure_folder: the failure folder, if it stays because people changed or added files.
    """

    stages: list[str]
    failure_folder: Path | None


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """Effect of a retry: the job, and the ids of the stages that need not run again."""

    spec: JobSpec
    stages: list[str]


class _Checked(Exception):
    """Ends a claim that was made for a check alone."""


class Retrier:
    """Queues failed and cancelled jobs again, with the sidecar as it is now.

    Results of finished stages are kept, up to the first stage whose input or parameters changed.
    """

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._outbox = Outbox(config.outbox, ledger.id)

    def retry(self, job_id: str, prober: Prober, text: bytes | None = None) -> RetryResult:
        """Queue one job again under its id, and remove its failure folder.

        Args:
            text: takes the place of the sidecar in the failure folder, once it is known to be
                right; None: the sidecar as it is there.

        Raises:
            ConfigError: the job has neither failed nor been cancelled, or it would fail again
                since its image or its sidecar is missing or wrong. The failure folder is as it was.
        """
        job, drop = self._ended_job(job_id)
        sources = self._sources(job, drop, job.publish_name or "", text)
        with (
            self._claimed(job, drop, sources, prober) as (claim, spec, stages),
            self._rewritten(sources, text),
        ):
            if not self._commit(job, drop, claim, spec, stages):
                raise ConfigError(f"job {job_id[:8]} was retried by someone else at the same time")
        failpoint("retry-committed")
        failure_folder = self._ledger.transact(lambda s: self._remove_failure(s, job))
        failpoint("failure-removed")
        return RetryResult(stages, failure_folder)

    def check(self, job_id: str, prober: Prober, text: bytes | None = None) -> RetryPlan:
        """Say what `retry` would do, and change nothing. Raises as that."""
        job, drop = self._ended_job(job_id)
        sources = self._sources(job, drop, job.publish_name or "", text)
        plan = None
        with suppress(_Checked), self._claimed(job, drop, sources, prober) as (_, spec, stages):
            plan = RetryPlan(spec, stages)
            raise _Checked
        assert plan is not None
        return plan

    def sidecar_text(self, job_id: str) -> str:
        """The sidecar that `retry` would read, as text; "" if there is none.

        Raises ConfigError if the job has neither failed nor been cancelled.
        """
        job, drop = self._ended_job(job_id)
        path = self._sources(job, drop, job.publish_name or "").sidecar
        with suppress(OSError):
            if path is not None and path.stat().st_size <= MAX_BYTES:
                return path.read_bytes().decode("utf-8-sig", "replace")
        return ""

    def _ended_job(self, job_id: str) -> tuple[Job, Drop]:
        """Find a job that can be retried, and its drop. Raises `ConfigError`."""
        job = self._ledger.transact(lambda s: queue.find_job(s, job_id))
        if job is None or job.status not in ("failed", "cancelled"):
            raise ConfigError(_not_ended_text(job_id, job))
        if job.publish != "done" or job.publish_name is None:
            raise ConfigError(
                f"job {job_id[:8]} is still being put into the outbox; try again in a moment"
            )
        return job, self._ledger.transact(lambda s: s.get_one(Drop, job.drop_id))

    @contextmanager
    def _claimed(
        self, job: Job, drop: Drop, sources: _Sources, prober: Prober
    ) -> Generator[tuple[Claim, JobSpec, list[str]]]:
        """Copy the files into a claim and resolve the job anew. The claim goes if the block fails.

        Raises `ConfigError` if the job would fail again.
        """
        claimer = Claimer(self._config, self._inbox(job), self._ledger)
        # As the drop before: an image that was sent lies in no inbox, whatever its inbox keeps.
        claim = claimer.plan(drop.folder, sources.files, originals=drop.originals)
        with claimer.claiming(claim):
            claimer.fetch(claim)
            try:
                spec, stages = self._read_again(job, drop, claim, sources, prober)
            except JobError as error:
                raise ConfigError(f"job {job.id[:8]}: {error.detail} ({error.code})") from None
            failpoint("stages-kept")
            claimer.sync([claim])
            failpoint("hashed")
            yield claim, spec, stages

    @contextmanager
    def _rewritten(self, sources: _Sources, text: bytes | None) -> Generator[None]:
        """Write a new text into the failure folder; put the old one back if the block fails.

        The folder is removed only if its files are those of the claim. After a crash in the block,
        the new text, which is right, is there for the next retry.
        """
        path = sources.sidecar
        if text is None or path is None:
            yield
            return
        old = path.read_bytes() if path.is_file() else None
        write_bytes(path, text)
        try:
            yield
        except Exception:
            if old is None:
                remove_file(path, missing_ok=True)
            elif path.parent.is_dir():
                write_bytes(path, old)
            raise

    def _remove_failure(self, session: Any, job: Job) -> Path | None:
        """Remove the old failure folder; give its path if files of people keep it there.

        Runs in a transaction: its lock keeps the daemon from publishing a new failure folder
        meanwhile. If the daemon was faster, it has removed the old folder itself.
        """
        current = queue.find_job(session, job.id)
        if current is None or current.manifest_sha256 is not None:
            return None
        drop = session.get_one(Drop, current.drop_id)
        needed = partial(queue.is_original_needed, session, job)
        return remove_failure(self._outbox, job, drop, needed)

    # --- files in the failure folder ---

    def _sources(self, job: Job, drop: Drop, name: str, text: bytes | None = None) -> _Sources:
        folder = self._outbox.folder(name)
        if cancelled_rows.is_shared(name):
            return _shared_sources(job, drop, folder, text)
        source = folder / SOURCE
        names = sorted(path.name for path in source.iterdir()) if source.is_dir() else []
        own = self._sidecar_of(job, drop, names)
        sidecar = None if own is None else source / own
        files = _sidecar_files(sidecar, own or "", text)
        files += _companions(job, drop, source, names)
        if drop.image is not None and drop.image in names:
            files.append(InputFile("image", drop.image, source / drop.image))
        return _Sources(files, folder, source, sidecar)

    def _sidecar_of(self, job: Job, drop: Drop, names: Iterable[str]) -> str | None:
        """Name the sidecar among the files of a failure folder, or the one that may be put there;
        None if there is no image.

        It is the one that the drop had, else one whose name fits the image, a YAML before a prompt
        file, as in an inbox. Whatever else people put there is theirs: it neither counts nor goes.
        """
        if drop.sidecar is not None and drop.sidecar in names:
            return drop.sidecar
        if (image := drop.image) is None:
            return None
        inbox = self._config.inbox(job.inbox)
        has_prompts = inbox is not None and inbox.prompt_files
        may_be = is_sidecar_name if has_prompts else is_yaml_name
        own = [n for n in names if may_be(n) and n != image and is_sidecar_of(n, image)]
        own.sort(key=lambda name: (not is_yaml_name(name), without_suffix(name) != image))
        return own[0] if own else sidecar_name(image)

    def _inbox(self, job: Job) -> Inbox:
        inbox = self._config.inbox(job.inbox)
        if inbox is None:
            raise ConfigError(f"inbox {job.inbox!r} is not in pipeline.yaml any more")
        return inbox

    # --- the job that the sidecar asks for now ---

    def _read_again(
        self, job: Job, drop: Drop, claim: Claim, sources: _Sources, prober: Prober
    ) -> tuple[JobSpec, list[str]]:
        """Resolve the job anew; give it with the ids of the stages whose results are kept."""
        if claim.image is None:
            raise SourceMissing(f"its image is not in {sources.home} any more")
        answer = prober.probe(claim.image)
        if isinstance(answer, JobError):
            raise answer
        claim.probed = answer
        hash_files(claim)
        spec = self._resolve(job, drop, read_sidecar(claim), self._job_context(job, claim))
        files = CompanionFiles(self._config, self._inbox(job), drop.folder, [sources.home])
        try:
            copy_into(claim, find_lacking(claim, spec, files))
        except (claims.ClaimError, OSError) as error:
            raise MaskMissing(f"mask: cannot be read: {error}") from error
        require_decodable(claim, prober)
        kept_stages: list[str] = []
        before = list(companions.of_job(drop.companions, job.stages)) or None
        if (claim.sha256, claim.columns["companions"]) == (drop.sha256, before):
            kept_stages = self._keep_stages(job, spec, sources.folder, claim.folder)
        return spec, kept_stages

    def _job_context(self, job: Job, claim: Claim) -> JobContext:
        folder, image = claim.row["folder"], claim.row["image"]
        context = job_rows.context_of(self._inbox(job), folder, image, claim.sha256, claim.image)
        if job.batch is None:
            return context
        batch, number = self._ledger.transact(lambda s: batches.place_of(s, job))
        return replace(context, batch=batch, row=number)

    def _resolve(self, job: Job, drop: Drop, data: bytes | None, context: JobContext) -> JobSpec:
        """Resolve the job that the sidecar asks for now. Raises `JobError`.

        A seed that was drawn at random is used again if the sidecar is unchanged, or at least all
        parameters of its stage are, so that the stage's result can be kept.
        """
        planner = Planner(self._config, self._inbox(job))

        def resolve(
            text: bytes | None, draw: Callable[[], int], seeds: Mapping[str, int] | None = None
        ) -> JobSpec:
            return planner.resolve_one(text, context, draw, seeds)

        def draws(text: bytes | None) -> set[str]:
            specs = [resolve(text, lambda seed=seed: seed).stages for seed in (0, 1)]
            pairs = zip(*specs, strict=True)
            return {a.id for a, b in pairs if a.params.get("seed") != b.params.get("seed")}

        before = drop.sidecar_text if job.batch is None else job.request
        old_text = None if before is None else before.encode()
        stages = {stage["id"]: stage["params"] for stage in job.stages}
        stages |= {run.stage_id: run.params for run, _ in self._finished(job)}
        drawn = draws(data)
        if old_text != data:
            try:
                drawn &= draws(old_text)
            except JobError:
                drawn = set[str]()  # the old sidecar was wrong, so no seed was drawn for it
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
        """Copy the files of the first stages that are unchanged into the claim; give their ids.

        The worker compares again, weights and code included, before it continues after them.
        """
        finished = {run.stage_id: (run, files) for run, files in self._finished(job)}
        reusable: list[tuple[str, dict[str, str]]] = []
        for stage in spec.stages:
            run, files = finished.get(stage.id, (None, []))
            params = json.loads(json.dumps(stage.params))
            if run is None or (run.type, run.params) != (stage.type, params):
                break
            reusable.append((stage.id, {file.path: file.sha256 for file in files}))
        if (claim / stage_files.STAGES_FOLDER).exists():
            return []  # an original has that name, so there is no place for the files
        return stage_files.keep(folder, claim, reusable)

    # --- the ledger ---

    def _commit(
        self, job: Job, drop: Drop, claim: Claim, spec: JobSpec, stages: Sequence[str]
    ) -> bool:
        changes = job_rows.job_columns(self._inbox(job), spec)
        changes |= {"drop_id": claim.row["id"]}
        if spec.result_name is None:  # its batch may have given it
            del changes["result_name"]
        requested = (claim.sha256, claim.text)
        if job.batch is not None and (drop.sha256, job.request) != requested:
            changes |= {"request": claim.text, "key": None}

        def commit(session: Any) -> bool:
            if not requests.revive(session, job.id, changes, stages):
                return False
            drops.finish_claims(session, [claim.columns], [])
            batches.reopen(session, job.id)
            return True

        return self._ledger.transact(commit)


def _not_ended_text(job_id: str, job: Job | None) -> str:
    """Say why a job that neither failed nor was cancelled is not retried."""
    status = "not in the ledger any more" if job is None else job.status
    return f"job {job_id[:8]} is {status}; only failed and cancelled jobs can be retried"


def _shared_sources(job: Job, drop: Drop, folder: Path, text: bytes | None) -> _Sources:
    """Find the files of one row in a folder that several cancelled rows share."""
    row = cancelled_rows.find_row(folder, job.stem, job.id)
    if row is None:
        return _Sources([], folder, folder / SOURCE)
    files: list[InputFile] = []
    if row.image is not None and row.image.is_file():
        name = drop.image or row.image.name
        files += _sidecar_files(row.request, sidecar_name(name), text)
        files.append(InputFile("image", name, row.image))
    return _Sources(files, folder, (row.image or folder / SOURCE).parent, row.request)


def _sidecar_files(path: Path | None, name: str, text: bytes | None) -> list[InputFile]:
    """The sidecar of the new drop: `text`, else the file if it is there."""
    if path is None or (text is None and not path.is_file()):
        return []
    return [InputFile("sidecar", name, path if text is None else BytesIO(text))]


def _companions(job: Job, drop: Drop, source: Path, names: Iterable[str]) -> list[InputFile]:
    """List the companions of a job in its failure folder, also those that came later."""
    files: list[InputFile] = []
    for file in companions.of_job(drop.companions, job.stages):
        path = source / file["name"]
        if not path.is_file():
            raise ConfigError(f"job {job.id[:8]}: {path} is not there any more")
        reference = file.get("reference") or ""
        files.append(InputFile(file["role"], path.name, path, reference=reference))
    there = {file.name for file in files}
    others = [name for name in names if is_mask_name(name) and name not in there]
    mask = masks_of([drop.image, *others]).mask_of.get(drop.image) if drop.image else None
    if mask is not None and all(file.role != "mask" or file.reference for file in files):
        files.append(InputFile("mask", mask, source / mask))
    return files


# --- selecting jobs ---


@dataclass(frozen=True, slots=True)
class JobSelection:
    """The jobs to retry.

    Attributes:
        ids: their ids, each once.
        cancelled: number of cancelled jobs that are left out; 0 if they were not counted.
    """

    ids: list[str]
    cancelled: int = 0


def choose_jobs(
    config: Config, jobs: Iterable[str], batch: str | None, inbox: str | None, *, failed: bool
) -> JobSelection:
    """Choose the jobs whose ids begin with one of `jobs`; with `failed`, all failed jobs.

    The oldest come first. Of a batch, cancelled jobs are chosen too, since a batch should be
    complete in the end. Elsewhere, jobs that people cancelled stay cancelled.

    Raises:
        ConfigError: a job, batch or inbox does not exist, or the options contradict each other.
    """
    prefixes = list(jobs)
    with closing(open_queries(config)) as queries:
        _check_choice(config, prefixes, batch, inbox, failed=failed)
        if not failed:
            ids = dict.fromkeys(find_job(queries, prefix) for prefix in prefixes)
            return JobSelection(list(ids))
        if batch is not None:
            batch_id = find_batch(queries, batch)
            return JobSelection(queries.ids(("failed", "cancelled"), inbox=inbox, batch=batch_id))
        ids = queries.ids(("failed",), inbox=inbox)
        return JobSelection(ids, len(queries.ids(("cancelled",), inbox=inbox)))


def _check_choice(
    config: Config, jobs: list[str], batch: str | None, inbox: str | None, *, failed: bool
) -> None:
    """Raise `ConfigError` if it is not clear which jobs are meant."""
    if bool(jobs) == failed or (not failed and (batch is not None or inbox is not None)):
        raise ConfigError(
            "name jobs, or one batch with --batch and --failed: `retry JOB…`, `retry --failed`, "
            "`retry --failed --batch B` or `retry --failed --inbox I`"
        )
    if inbox is not None and config.inbox(inbox) is None:
        names = ", ".join(entry.name for entry in config.inboxes)
        raise ConfigError(f"no inbox is called {inbox!r}; there are: {names}")


def retry_each(config: Config, ids: Iterable[str]) -> Generator[tuple[str, RetryResult | str]]:
    """Queue the jobs again, one after another.

    Yields:
        The job's id with its outcome, or with a sentence for people if it cannot be retried.
    """
    with closing(Ledger(config.ledger_path, unlocked=True)) as ledger, closing(Prober()) as prober:
        retrier = Retrier(config, ledger)
        for job_id in ids:
            try:
                outcome = retrier.retry(job_id, prober)
            except (ConfigError, OSError) as error:
                yield job_id, explain(job_id, error)
            else:
                yield job_id, outcome
