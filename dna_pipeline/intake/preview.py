"""What taking an inbox in would come to, without taking anything."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from dna_pipeline.artifact import sha256_file
from dna_pipeline.errors import ImageMissing, JobError
from dna_pipeline.inbox.pairing import Candidate, Pairing, pair
from dna_pipeline.inbox.scan import scan
from dna_pipeline.inbox.stability import StabilityTracker
from dna_pipeline.intake.records import facts_of, image_named, read_sidecar, resolve_text
from dna_pipeline.probe import Prober
from dna_pipeline.spec.config import Config, Inbox
from dna_pipeline.spec.sidecar import JobSpec


def candidates(inbox: Inbox) -> list[Candidate]:
    """The drops that lie in the inbox now, as if all waits were over. Raises OSError."""
    found = _pair(inbox, frozenset())
    if found.named:
        # What job files name is looked for where it lies, whatever the inbox takes otherwise.
        found = _pair(inbox, found.named)
    orphans = [w.path for w in found.waiting if w.kind == "image"]
    return found.ready + [Candidate(None, path) for path in orphans]


def _pair(inbox: Inbox, named: frozenset[str]) -> Pairing:
    seen = scan(inbox, named)
    tracker = StabilityTracker(0)
    tracker.observe(seen.files, time.monotonic())
    patient = replace(inbox, sidecar_wait_s=0)
    return pair(patient, seen.files, tracker, lambda path: image_named(inbox.path / path))


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A job as it would be, and its picture's size."""

    spec: JobSpec
    width: int
    height: int


def outcome(
    config: Config, inbox: Inbox, candidate: Candidate, prober: Prober
) -> Foreseen | JobError:
    """The job that a candidate would become, or why it would fail."""
    if candidate.error is not None:
        return candidate.error
    if candidate.image is None:
        return ImageMissing("its image is not there yet")
    path = inbox.path / candidate.image
    answer = prober.probe(path)
    if isinstance(answer, JobError):
        return answer
    try:
        data = read_sidecar(inbox.path / candidate.sidecar) if candidate.sidecar else None
        folder, _, name = candidate.image.rpartition("/")
        facts = facts_of(inbox, folder, name, sha256_file(path))
        spec = resolve_text(config, inbox, data, facts)
        return Foreseen(spec, answer.width, answer.height)
    except JobError as error:
        return error
