"""Preview of a drop: the jobs that it would become. Claims no file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dna_pipeline.base.errors import ImageUnreadable, JobError
from dna_pipeline.base.files import sha256_file
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.probe import Probed, Prober
from dna_pipeline.intake.planning.companion_files import find_needed, mask_fault
from dna_pipeline.intake.planning.job_rows import read_sidecar
from dna_pipeline.intake.planning.named_images import Source
from dna_pipeline.intake.planning.plan import PlanItem, image_error
from dna_pipeline.intake.planning.planner import Planner, document_of
from dna_pipeline.intake.planning.source_roots import is_file


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that would run, or the error that would keep it from running.

    Attributes:
        row: its number in its batch; None for a drop that is one job.
        image: the image it would work on; None if that image is missing.
        spec: the resolved job; None if there is an error.
        key: its dedup key; None if it would run even if it was done before.
        error: why it would fail.
    """

    row: int | None
    image: str | None
    spec: JobSpec | None = None
    probed: Probed | None = None
    key: str | None = None
    error: JobError | None = None


def planned_jobs(
    config: Config, inbox: Inbox, candidate: Candidate, prober: Prober
) -> Iterator[PlannedJob]:
    """Give the jobs that a candidate would become, with an error for each row that would fail.

    Gives nothing if a daemon claims the candidate's files meanwhile.
    """
    planner = Planner(config, inbox)
    try:
        if candidate.is_batch:
            yield from _batch(config, inbox, planner, candidate, prober)
        else:
            yield from _image(inbox, planner, candidate, prober)
    except (JobError, OSError) as error:
        if _is_there(inbox, candidate):
            if isinstance(error, OSError):
                error = ImageUnreadable(f"{error.filename}: cannot be read: {error.strerror}")
            yield PlannedJob(None, candidate.image, error=error)


def _is_there(inbox: Inbox, candidate: Candidate) -> bool:
    return all(is_file(inbox.path / path) for path in candidate.paths)


def _image(
    inbox: Inbox, planner: Planner, candidate: Candidate, prober: Prober
) -> Iterator[PlannedJob]:
    if candidate.error is not None:
        raise candidate.error
    assert candidate.image is not None
    path = inbox.path / candidate.image
    answer = prober.probe(path)
    if isinstance(answer, JobError):
        raise answer
    data = read_sidecar(inbox.path / candidate.sidecar) if candidate.sidecar else None
    folder, _, name = candidate.image.rpartition("/")
    plan = planner.plan_image(folder, name, document_of(data), sha256_file(path), file=path)
    source = Source(path, candidate.image)
    for _, mask in candidate.companions:
        source.mask = Source(inbox.path / mask, mask)
        _check_companion(source.mask, prober)
    files = planner.companion_files((candidate.sidecar or candidate.image).rpartition("/")[0])
    for item in plan.items:
        assert isinstance(item.outcome, JobSpec)
        number = item.row.number if plan.kind == "matrix" else None
        try:
            for companion in find_needed(files, item.outcome, source).values():
                _check_companion(companion, prober)
        except JobError as error:
            yield PlannedJob(number, candidate.image, error=error)
            continue
        yield PlannedJob(number, candidate.image, item.outcome, answer)


def _check_companion(companion: Source, prober: Prober) -> None:
    """Raise the error of a companion that cannot be read."""
    if isinstance(error := companion.probe(prober), JobError):
        raise mask_fault(companion.relative or str(companion.path), error)


def _batch(
    config: Config, inbox: Inbox, planner: Planner, candidate: Candidate, prober: Prober
) -> Iterator[PlannedJob]:
    plan = planner.plan(candidate)
    for source in (*plan.sources, *plan.companions):
        source.probe(prober)
    if not _is_there(inbox, candidate):
        return
    # Without a ledger there are no earlier jobs to compare with: skip hashing the weights.
    skips = (plan.head.on_duplicate or inbox.on_duplicate) == "skip"
    models = planner.model_identities() if skips and config.ledger_path.exists() else None
    hashes = {s: sha256_file(s.file) for s in plan.sources if s.error is None}
    for item in plan.items:
        item.error = image_error(item)
        number, image = item.row.number, plan.shown_image(item)
        if item.error is not None or item.source is None:
            yield PlannedJob(number, image, error=item.error)
            continue
        sha256 = hashes[item.source]
        files = _companions(item)
        key = None if models is None else planner.dedup_key(plan, item, sha256, models, files)
        spec = planner.preview(plan, item, sha256)
        yield PlannedJob(number, image, spec, item.source.probed, key)


def _companions(item: PlanItem) -> list[dict[str, str]]:
    """The companions of a row, as the ledger would have them."""
    mask = item.source.mask if item.source is not None else None
    beside = [] if mask is None else [("mask", "", mask)]
    named = [(role, reference, source) for (role, reference), source in item.named.items()]
    return [
        {"role": role, "sha256": sha256_file(source.file), "reference": reference}
        for role, reference, source in (*beside, *named)
    ]
