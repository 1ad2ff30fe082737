"""Preview of an inbox: the drops that its files would become. Claims no file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, partial

from dna_pipeline.base.errors import ImageMissing, SidecarInvalid
from dna_pipeline.base.naming import forms_of
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.prompt_file import is_prompt_file
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.discovery.candidates import (
    Candidate,
    Pairing,
    ReadCompanions,
    ReadReference,
    Waiting,
)
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.discovery.scan import FileStat, Scan, is_image_name, scan
from dna_pipeline.intake.discovery.stability import StabilityTracker
from dna_pipeline.intake.planning.known_files import LEFT_ALONE, KnownFiles
from dna_pipeline.intake.planning.ready_drops import is_processed, key_path
from dna_pipeline.intake.planning.references import read_companions, read_reference
from dna_pipeline.intake.planning.source_roots import is_file
from dna_pipeline.ledger.queries import Queries


@dataclass(frozen=True, slots=True)
class Preview:
    """Content of an inbox, as if all waits but those for downloads were over.

    Attributes:
        candidates: the drops that would be claimed; drops that the ledger knows are left out.
        waiting: files whose download is under way, files that belong to such a file, images that
            look like render passes, and masks and prompt files without an image.
        ignored: why a file or folder is left alone, by path; with `existing: ignore` also the
            drops that lay there before the first watch.
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
        return _before_first_watch(inbox, content, read)
    with closing(Queries(config.ledger_path)) as queries:
        if inbox.existing == "ignore" and inbox.name not in queries.watched_inboxes():
            return _before_first_watch(inbox, content, read)
        known_files = KnownFiles(inbox.name, queries)
        new: list[Candidate] = []
        left: dict[str, str] = {}
        for candidate in content.candidates:
            path = key_path(candidate, read)
            if not is_processed(known_files, candidate, path, files):
                new.append(candidate)
            elif known_files.was_left(path):
                left[path] = LEFT_ALONE
        reasons = {path: known_files.companion_reason(path) for path in files}
    masks = {path: reason for path, reason in reasons.items() if reason is not None}
    waiting = [waits for waits in content.waiting if waits.path not in masks]
    ignored = {**content.ignored, **left, **masks}
    return Preview(new, waiting, ignored)


def _before_first_watch(inbox: Inbox, content: Preview, read: ReadReference) -> Preview:
    """Preview what the first watch will find: with `existing: ignore` it leaves everything alone
    but files whose download ends later, which changes them."""
    if inbox.existing != "ignore":
        return content
    left = {key_path(candidate, read): LEFT_ALONE for candidate in content.candidates}
    waiting = [waits for waits in content.waiting if waits.kind == "writing"]
    return Preview([], waiting, {**content.ignored, **left})


def _preview_all(
    inbox: Inbox,
    read: ReadReference,
    look: Look = look_directly,
    *,
    awaits_downloads: bool = False,
) -> tuple[Preview, dict[str, FileStat]]:
    @cache
    def named(path: str) -> tuple[str, ...]:
        """The companions that a file names and that are there: no job waits for the others here,
        so that it is judged now."""
        paths = read_companions(inbox, path, look).paths
        return tuple(p for p in paths if any(is_file(inbox.path / form) for form in forms_of(p)))

    pair_files = partial(_pair, inbox, read, named, awaits_downloads=awaits_downloads)
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
    held = {path for candidate in pairing.held for path in candidate.paths}
    waiting = [w for w in pairing.waiting if _still_waits(w) and w.path not in held]
    drops = [*pairing.ready, *pairing.held, *unusable]
    return Preview(drops, waiting, listing.ignored), listing.files


def _still_waits(waiting: Waiting) -> bool:
    """True if a file would wait though all waits but those for downloads were over."""
    kinds = ("writing", "partner", "pass", "mask")
    return waiting.kind in kinds or (waiting.kind == "image" and is_prompt_file(waiting.path))


def _pair(
    inbox: Inbox,
    read: ReadReference,
    named: ReadCompanions,
    referenced: frozenset[str],
    *,
    awaits_downloads: bool,
) -> tuple[Scan, Pairing]:
    listing = scan(inbox, referenced)
    tracker = StabilityTracker(0)
    downloading = listing.downloading if awaits_downloads else ()
    tracker.observe(listing.files, time.monotonic(), downloading)
    without_wait = replace(inbox, sidecar_wait_s=0)
    return listing, pair(without_wait, listing.files, tracker, read, referenced, named)
