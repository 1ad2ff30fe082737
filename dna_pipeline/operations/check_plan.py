"""What taking an inbox in would come to, without taking anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

from dna_pipeline.base.errors import ImageMissing, ImageUnreadable, JobError, SidecarInvalid
from dna_pipeline.base.files import sha256_file
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.intake.discovery.candidates import Candidate, ImageOf, Pairing, Waiting
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.discovery.probe import Probed, Prober
from dna_pipeline.intake.discovery.scan import FileStat, Scan, is_image_name, scan
from dna_pipeline.intake.discovery.stability import StabilityTracker
from dna_pipeline.intake.planning.finder import identity, is_known
from dna_pipeline.intake.planning.job_rows import facts_of, read_sidecar, specs
from dna_pipeline.intake.planning.known_files import KnownFiles
from dna_pipeline.intake.planning.plan import (
    Item,
    ModelFacts,
    Planner,
    image_error,
    reference,
    shown_image,
)
from dna_pipeline.intake.planning.source_roots import is_file
from dna_pipeline.ledger.queries import Views


@dataclass(frozen=True, slots=True)
class Outlook:
    """A job that would run, or one that would not.

    Attributes:
        row: its number in its batch; None for a drop that is one job.
        image: what would be worked on; None where that is not there.
        spec: what it would do.
        key: as the ledger has it; None where it runs even if it was done before.
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
    """What lies in an inbox, as if all waits were over but those for downloads.

    Attributes:
        candidates: the drops that would be taken in, as far as the ledger does not know them.
        waiting: files whose download is under way, those that belong to such a file, and images
            that look like render passes.
        ignored: what is left alone, and why, by path.
    """

    candidates: list[Candidate]
    waiting: list[Waiting]
    ignored: Mapping[str, str] = field(default_factory=dict[str, str])


_IN_VAIN = {"image": ImageMissing, "unread": SidecarInvalid}


def candidates(inbox: Inbox) -> list[Candidate]:
    """The drops that lie in the inbox now, as if all waits were over. Raises OSError."""
    return _lying(inbox, partial(reference, inbox), _pair)[0].candidates


def preview(config: Config, inbox: Inbox, look: Look = look_directly) -> Preview:
    """What would be taken in that the ledger does not know, as it knows files that were kept.

    A file that is still being downloaded waits, as in a run, and so does a render pass. Raises
    OSError.

    Args:
        look: says whether a source root can be reached.
    """
    told = cache(partial(reference, inbox, look=look))
    lying, files = _lying(inbox, told, partial(_pair, awaits_downloads=True))
    if not config.ledger_path.exists():
        return lying
    with closing(Views(config.ledger_path)) as views:
        known = KnownFiles(inbox.name, views)
        new = [c for c in lying.candidates if not is_known(known, c, identity(c, told), files)]
    return replace(lying, candidates=new)


def _lying(
    inbox: Inbox, told: ImageOf, pairing: Callable[..., tuple[Scan, Pairing]]
) -> tuple[Preview, dict[str, FileStat]]:
    seen, found = pairing(inbox, told, frozenset())
    if found.named:
        # What job files name is looked for where it lies, whatever the inbox takes otherwise.
        seen, found = pairing(inbox, told, found.named)
    in_vain = [
        Candidate(None, waiting.path, _IN_VAIN[waiting.kind](waiting.reason))
        for waiting in found.waiting
        if waiting.kind in _IN_VAIN and not is_image_name(waiting.path)
    ]
    waiting = [waits for waits in found.waiting if waits.kind in ("writing", "partner", "pass")]
    return Preview(found.ready + in_vain, waiting, seen.ignored), seen.files


def _pair(
    inbox: Inbox, told: ImageOf, named: frozenset[str], *, awaits_downloads: bool = False
) -> tuple[Scan, Pairing]:
    seen = scan(inbox, named)
    tracker = StabilityTracker(0)
    downloading = seen.downloading if awaits_downloads else ()
    tracker.observe(seen.files, time.monotonic(), downloading)
    patient = replace(inbox, sidecar_wait_s=0)
    return seen, pair(patient, seen.files, tracker, told, named)


def outlooks(
    config: Config, inbox: Inbox, candidate: Candidate, prober: Prober
) -> Iterator[Outlook]:
    """The jobs that a candidate would become, and those of its rows that would become none.

    Nothing, where a daemon takes its files meanwhile.
    """
    look = _batch if candidate.is_batch else _single
    try:
        yield from look(config, inbox, candidate, prober)
    except (JobError, OSError) as error:
        if _is_there(inbox, candidate):
            told = error if isinstance(error, JobError) else _unreadable(error)
            yield Outlook(None, candidate.image, error=told)


def _is_there(inbox: Inbox, candidate: Candidate) -> bool:
    return all(is_file(inbox.path / path) for path in candidate.paths)


def _unreadable(error: OSError) -> JobError:
    return ImageUnreadable(f"{error.filename}: cannot be read: {error.strerror}")


def _single(
    config: Config, inbox: Inbox, candidate: Candidate, prober: Prober
) -> Iterator[Outlook]:
    if candidate.error is not None:
        raise candidate.error
    assert candidate.image is not None
    path = inbox.path / candidate.image
    answer = prober.probe(path)
    if isinstance(answer, JobError):
        raise answer
    data = read_sidecar(inbox.path / candidate.sidecar) if candidate.sidecar else None
    folder, _, name = candidate.image.rpartition("/")
    facts = facts_of(inbox, folder, name, sha256_file(path))
    found = specs(config, inbox, data, facts)
    for number, (_, spec) in enumerate(found, 1):
        yield Outlook(number if len(found) > 1 else None, candidate.image, spec, answer)


def _batch(config: Config, inbox: Inbox, candidate: Candidate, prober: Prober) -> Iterator[Outlook]:
    planner = Planner(config, inbox)
    plan = planner.plan(candidate)
    for source in plan.sources:
        source.probe(prober)
    if not _is_there(inbox, candidate):
        return
    # Without a ledger nothing was done before, and hashes of weights are for nothing.
    skips = (plan.head.on_duplicate or inbox.on_duplicate) == "skip"
    models = planner.models() if skips and config.ledger_path.exists() else None
    hashes = {s: sha256_file(s.file) for s in plan.sources if s.error is None}
    for item in plan.items:
        item.error = image_error(item)
        yield _row(planner, item, hashes, models)


def _row(
    planner: Planner, item: Item, hashes: Mapping[Any, str], models: ModelFacts | None
) -> Outlook:
    number, image = item.row.number, shown_image(item)
    if item.error is not None or item.source is None:
        return Outlook(number, image, error=item.error)
    facts = planner.facts(item, hashes[item.source])
    key = None if models is None else planner.key(item.row.document, facts, models)
    spec = planner.resolve(item.row.document, lambda: 0, facts)
    return Outlook(number, image, spec, item.source.probed, key)
