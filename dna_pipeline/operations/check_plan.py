"""Preview of an inbox: the drops and jobs that its files would become. Claims no file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, partial

from dna_pipeline.base.errors import ImageMissing, ImageUnreadable, JobError, SidecarInvalid
from dna_pipeline.base.files import sha256_file
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.prompt_file import is_prompt_file
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.intake.discovery.candidates import Candidate, Pairing, ReadReference, Waiting
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.discovery.probe import Probed, Prober
from dna_pipeline.intake.discovery.scan import FileStat, Scan, is_image_name, scan
from dna_pipeline.intake.discovery.stability import StabilityTracker
from dna_pipeline.intake.planning.companion_files import find_needed, mask_fault
from dna_pipeline.intake.planning.finder import is_processed, key_path
from dna_pipeline.intake.planning.job_rows import read_sidecar
from dna_pipeline.intake.planning.known_files import KnownFiles
from dna_pipeline.intake.planning.named_images import Source
from dna_pipeline.intake.planning.plan import PlanItem, image_error
from dna_pipeline.intake.planning.planner import Planner, document_of
from dna_pipeline.intake.planning.references import read_companions, read_reference
from dna_pipeline.intake.planning.source_roots import is_file
from dna_pipeline.ledger.queries import Queries


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


@dataclass(frozen=True, slots=True)
class Preview:
    """Content of an inbox, as if all waits but those for downloads were over.

    Attributes:
        candidates: the drops that would be claimed; drops that the ledger knows are left out.
        waiting: files whose download is under way, files that belong to such a file, images that
            look like render passes, and masks without an image.
        ignored: why a file or folder is left alone, by path.
    """

    candidates: list[Candidate]
    waiting: list[Waiting]
    ignored: Mapping[str, str] = field(default_factory=dict[str, str])


_FINAL_ERRORS = {"image": ImageMissing, "unread": SidecarInvalid}


def candidates(inbox: Inbox) -> list[Candidate]:
    """List the drops in the inbox, as if all waits were over. Raises OSError."""
    return _preview_all(inbox, partial(read_reference, inbox))[0].candidates


def preview(config: Config, inbox: Inbox, look: Look = look_directly) -> Preview:
    """List the drops that would be claimed. Kept files that the ledger knows are left out.

    A file that is still being downloaded waits, as in a run, and so does a render pass. Raises
    OSError.

    Args:
        look: says whether a source root can be reached.
    """
    read = cache(partial(read_reference, inbox, look=look))
    content, files = _preview_all(inbox, read, look, awaits_downloads=True)
    if not config.ledger_path.exists():
        return content
    with closing(Queries(config.ledger_path)) as queries:
        known_files = KnownFiles(inbox.name, queries)
        is_known = partial(is_processed, known_files)
        new = [c for c in content.candidates if not is_known(c, key_path(c, read), files)]
        reasons = {path: known_files.companion_reason(path) for path in files}
    masks = {path: reason for path, reason in reasons.items() if reason is not None}
    return replace(content, candidates=new, ignored={**content.ignored, **masks})


def _preview_all(
    inbox: Inbox,
    read: ReadReference,
    look: Look = look_directly,
    *,
    awaits_downloads: bool = False,
) -> tuple[Preview, dict[str, FileStat]]:
    pair_files = partial(_pair, inbox, read, look, awaits_downloads=awaits_downloads)
    listing, pairing = pair_files(frozenset())
    if pairing.referenced:
        # A job file may name images that the inbox's own settings exclude, so the scan is repeated
        # with these paths.
        listing, pairing = pair_files(pairing.referenced)
    unusable = [
        Candidate(None, waiting.path, _FINAL_ERRORS[waiting.kind](waiting.reason))
        for waiting in pairing.waiting
        if waiting.kind in _FINAL_ERRORS
        and not (is_image_name(waiting.path) or is_prompt_file(waiting.path))
    ]
    kinds = ("writing", "partner", "pass", "mask")
    waiting = [waits for waits in pairing.waiting if waits.kind in kinds]
    return Preview(pairing.ready + unusable, waiting, listing.ignored), listing.files


def _pair(
    inbox: Inbox,
    read: ReadReference,
    look: Look,
    referenced: frozenset[str],
    *,
    awaits_downloads: bool,
) -> tuple[Scan, Pairing]:
    listing = scan(inbox, referenced)
    tracker = StabilityTracker(0)
    downloading = listing.downloading if awaits_downloads else ()
    tracker.observe(listing.files, time.monotonic(), downloading)
    without_wait = replace(inbox, sidecar_wait_s=0)

    def named(path: str) -> tuple[str, ...]:
        return read_companions(inbox, path, look).paths

    return listing, pair(without_wait, listing.files, tracker, read, referenced, named)


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
