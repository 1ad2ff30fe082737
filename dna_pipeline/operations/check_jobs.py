"""Preview of a drop: the jobs that it would become. Claims no file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dna_pipeline.base.errors import ImageUnreadable, JobError, MaskMismatch
from dna_pipeline.base.files import sha256_file
from dna_pipeline.base.naming import folder_of, printable
from dna_pipeline.config.problems import joined
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.config.yaml12 import Document
from dna_pipeline.execution.kept_requests import inputs_of
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.probe import Probed, Prober
from dna_pipeline.intake.planning.companion_files import (
    Need,
    find_needed,
    mask_fault,
    missing_masks,
)
from dna_pipeline.intake.planning.job_rows import read_sidecar
from dna_pipeline.intake.planning.named_images import Source
from dna_pipeline.intake.planning.plan import Plan, PlanItem, image_error
from dna_pipeline.intake.planning.planner import Planner, document_of
from dna_pipeline.intake.planning.source_roots import is_file
from dna_pipeline.stages import companions
from dna_pipeline.stages.img2img import mask_shape


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that would run, or the error that would keep it from running.

    Attributes:
        row: its number in its batch; None for a drop that is one job.
        image: the image it would work on; None if that image is missing.
        spec: the resolved job; None if there is an error.
        key: its dedup key; None if it would run even if it was done before.
        error: why it would fail.
        inputs: SHA-256 of its image, then of its companions.
    """

    row: int | None
    image: str | None
    spec: JobSpec | None = None
    probed: Probed | None = None
    key: str | None = None
    error: JobError | None = None
    inputs: Sequence[str] = ()


@dataclass(eq=False)
class SharedReads:
    """The plans and masks that the drops of one inbox share, read once for all of them.

    Attributes:
        planner: makes their plans.
        masks: answers of the decoder about masks, by file: many jobs may have the same one.
    """

    planner: Planner
    masks: dict[Path, Probed | JobError] = field(default_factory=dict[Path, "Probed | JobError"])
    sha256: Callable[[Path], str] = field(default_factory=lambda: cache(sha256_file))
    """Hash of a file, which is read once."""

    def probe_mask(self, mask: Source, prober: Prober) -> Probed | JobError:
        """Decode a mask, unless that was done before."""
        if mask.file not in self.masks:
            self.masks[mask.file] = mask.probe(prober)
        answer = self.masks[mask.file]
        if isinstance(answer, JobError):
            mask.error = answer
        else:
            mask.probed = answer
        return answer


def planned_jobs(
    config: Config,
    inbox: Inbox,
    candidate: Candidate,
    prober: Prober,
    shared: SharedReads | None = None,
) -> Iterator[PlannedJob]:
    """Give the jobs that a candidate would become, with an error for each row that would fail.

    Gives nothing if a daemon claims the candidate's files meanwhile.

    Args:
        shared: that of all candidates of the inbox; None for a candidate alone.
    """
    shared = shared or SharedReads(Planner(config, inbox))
    try:
        if candidate.is_batch:
            yield from _batch(config, inbox, shared, candidate, prober)
        else:
            yield from _image(inbox, shared, candidate, prober)
    except (JobError, OSError) as error:
        if _is_there(inbox, candidate):
            if isinstance(error, OSError):
                error = ImageUnreadable(f"{error.filename}: cannot be read: {error.strerror}")
            yield PlannedJob(None, candidate.image, error=error)


def _is_there(inbox: Inbox, candidate: Candidate) -> bool:
    return all(is_file(inbox.path / path) for path in candidate.paths)


def _image(
    inbox: Inbox, shared: SharedReads, candidate: Candidate, prober: Prober
) -> Iterator[PlannedJob]:
    """The jobs of one image. Raises one error with all faults of its files."""
    if candidate.error is not None:
        raise candidate.error
    assert candidate.image is not None
    source = Source(inbox.path / candidate.image, candidate.image)
    answer = source.probe(prober)
    faults = [answer] if isinstance(answer, JobError) else []
    for _, mask in candidate.companions:
        source.mask = Source(inbox.path / mask, mask)
        faults += _fault_of(source.mask, shared, prober)
    plan = _plan_of(inbox, shared, candidate, source, faults)
    if faults:
        raise joined(faults)
    assert plan is not None
    files = shared.planner.companion_files(_home(candidate))
    for item in plan.items:
        assert isinstance(item.outcome, JobSpec)
        number = item.row.number if plan.kind == "matrix" else None
        try:
            named = find_needed(files, item.outcome, source)
            for companion in named.values():
                if wrong := _fault_of(companion, shared, prober):
                    raise wrong[0]
            _require_shape(item.outcome, source, named, {})
        except JobError as error:
            yield PlannedJob(number, candidate.image, error=error)
            continue
        inputs = [shared.sha256(source.file)]
        inputs += [shared.sha256(file) for file in _companion_files(source, named)]
        yield PlannedJob(number, candidate.image, item.outcome, source.probed, inputs=inputs)


def _plan_of(
    inbox: Inbox,
    shared: SharedReads,
    candidate: Candidate,
    source: Source,
    faults: list[JobError],
) -> Plan | None:
    """Plan the jobs of an image; None, with further faults, if its sidecar is wrong."""
    assert candidate.image is not None
    folder, _, name = candidate.image.rpartition("/")
    document: Document | None = None
    file = None if source.error is not None else source.path
    try:
        data = read_sidecar(inbox.path / candidate.sidecar) if candidate.sidecar else None
        document = document_of(data)
        sha256 = None if file is None else shared.sha256(file)
        return shared.planner.plan_image(folder, name, document, sha256, file=file)
    except JobError as error:
        faults.append(error)
    if document is not None:
        files = shared.planner.companion_files(_home(candidate))
        faults += missing_masks(files, document)
    return None


def _home(candidate: Candidate) -> str:
    """Folder in the inbox of the sidecar of a candidate, or else of its image."""
    return folder_of(candidate.sidecar or candidate.image or "")


def _fault_of(mask: Source, shared: SharedReads, prober: Prober) -> list[JobError]:
    """The error of a companion that cannot be read, if it cannot."""
    answer = shared.probe_mask(mask, prober)
    name = mask.relative or str(mask.path)
    return [mask_fault(name, answer)] if isinstance(answer, JobError) else []


def _require_shape(
    spec: JobSpec, image: Source, named: Mapping[Need, Source], asked_by: Mapping[Need, str]
) -> None:
    """Raise `MaskMismatch` if the mask of a job's first stage has another shape than the image, as
    the worker would. The pictures of later stages are not known yet.

    Args:
        asked_by: the keys that ask for masks.
    """
    first = {"type": spec.stages[0].type, "params": spec.stages[0].params}
    for role, reference in companions.needed([first]):
        mask = named.get((role, reference)) or image.mask
        if role == "mask" and mask and mask.probed and image.probed:
            sizes = ((one.width, one.height) for one in (mask.probed, image.probed))
            if (text := mask_shape.mismatch(*sizes)) is not None:
                name = printable(mask.relative or str(mask.path))
                where = asked_by.get((role, reference), role)
                raise MaskMismatch(f"mask {name}: {text}", where=where)


def _batch(
    config: Config, inbox: Inbox, shared: SharedReads, candidate: Candidate, prober: Prober
) -> Iterator[PlannedJob]:
    planner = shared.planner
    plan = planner.plan(candidate)
    for source in plan.sources:
        source.probe(prober)
    for mask in plan.companions:
        shared.probe_mask(mask, prober)
    if not _is_there(inbox, candidate):
        return
    # Without a ledger there are no earlier jobs to compare with: skip hashing the weights.
    skips = (plan.head.on_duplicate or inbox.on_duplicate) == "skip"
    models = planner.model_identities() if skips and config.ledger_path.exists() else None
    hashes = {s: shared.sha256(s.file) for s in plan.sources if s.error is None}
    for item in plan.items:
        item.error = image_error(item)
        number, image = item.row.number, plan.shown_image(item)
        if item.error is not None or item.source is None:
            yield PlannedJob(number, image, error=item.error)
            continue
        sha256 = hashes[item.source]
        files = _companions(item, shared)
        key = None if models is None else planner.dedup_key(plan, item, sha256, models, files)
        try:
            spec = planner.preview(plan, item, sha256)
            _require_shape(spec, item.source, item.named, item.asked_by)
        except JobError as error:
            if item.row.document.unit == "row" and not error.detail.startswith("row "):
                error.detail = f"row {number}: {error.detail}"
            yield PlannedJob(number, image, error=error)
            continue
        inputs = inputs_of(sha256, files, spec.stage_values)
        yield PlannedJob(number, image, spec, item.source.probed, key, inputs=inputs)


def _companion_files(image: Source, named: Mapping[Need, Source]) -> list[Path]:
    """The companions of a job: the one beside its image, and those that its stages name."""
    beside = [] if image.mask is None else [image.mask]
    return [source.file for source in (*beside, *named.values())]


def _companions(item: PlanItem, shared: SharedReads) -> list[dict[str, str]]:
    """The companions of a row, as the ledger would have them."""
    mask = item.source.mask if item.source is not None else None
    beside = [] if mask is None else [("mask", "", mask)]
    named = [(role, reference, source) for (role, reference), source in item.named.items()]
    return [
        {"role": role, "sha256": shared.sha256(source.file), "reference": reference}
        for role, reference, source in (*beside, *named)
    ]
