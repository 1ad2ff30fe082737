"""Find candidates of one inbox, and let them wait until they may be claimed."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from posixpath import join, normpath

import structlog

from dna_pipeline.base.errors import ImageUnreadable, JobError
from dna_pipeline.base.filesystem import is_disk_fault
from dna_pipeline.base.naming import folder_of, printable
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.image_paths import Place
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import (
    Candidate,
    Pairing,
    Reference,
    References,
    Unreadable,
    Waiting,
)
from dna_pipeline.intake.discovery.completeness import incomplete_until
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Prober, Question
from dna_pipeline.intake.discovery.scan import FileStat, Scan, scan
from dna_pipeline.intake.discovery.stability import StabilityTracker
from dna_pipeline.intake.planning.companion_files import mask_fault
from dna_pipeline.intake.planning.known_files import KnownFiles, Stats, Version
from dna_pipeline.intake.planning.ready_drops import ReadyDrop, is_processed, key_path, stats_of
from dna_pipeline.intake.planning.references import (
    NamedCompanions,
    companion_places,
    find_companions,
    read_reference,
)
from dna_pipeline.intake.planning.source_roots import stored_form
from dna_pipeline.ledger.engine import LedgerError

log = structlog.get_logger()

PROBE_AGAIN_S = 5.0
"""Time after which a file that may still be written to is decoded again."""

MISSING_RETRY_S = 5.0
"""Longest pause between two attempts to scan an inbox that cannot be scanned."""


@dataclass(slots=True)
class _Probe:
    """Answer of the decoder for one state of a file.

    Attributes:
        since: time at which this state was first decoded.
        probed_at: time of the last answer.
    """

    stat: FileStat
    answer: Probed | JobError
    since: float
    probed_at: float


class CandidateFinder:
    """Finds the candidates of one inbox, and keeps its state between scans. Times are monotonic
    seconds.

    Args:
        look: tells whether a source root can be reached.
        describe: makes a sentence of the reason why the inbox cannot be scanned.
        own_companions: companions that pipeline.yaml names for the inbox.
    """

    def __init__(
        self,
        inbox: Inbox,
        prober: Prober,
        known_files: KnownFiles,
        look: Look = look_directly,
        describe: Callable[[OSError], str] = lambda e: f"cannot be looked at: {e.strerror}",
        own_companions: Sequence[Path] = (),
    ) -> None:
        self.inbox = inbox
        self._describe = describe
        self._look_at = look
        self._own_companions = own_companions
        self.tracker = StabilityTracker(inbox.settle_s)
        self.waiting: list[Waiting] = []
        self.ignored: dict[str, str] = {}
        self.problem: str | None = None
        self.next_at = 0.0
        self.files: dict[str, FileStat] = {}
        """Files of the last scan that were not claimed since."""
        self.pending: deque[Candidate] = deque()
        """Candidates of the last scan that were not handed out yet, oldest first."""
        self._sharers: Counter[str | None] = Counter()
        self._referenced: frozenset[str] = frozenset()
        self._prober = prober
        self._known_files = known_files
        self._references: dict[str, tuple[FileStat, Reference]] = {}
        self._companions: dict[str, tuple[FileStat, list[list[Place]], NamedCompanions]] = {}
        self._probes: dict[str, _Probe] = {}
        self._outside: dict[str, tuple[FileStat, Probed | JobError]] = {}
        """Companions outside of the inbox, decoded once for each of their states."""
        self._reported: dict[str, FileStat | None] = {}
        """Files at which an error happened that nobody foresaw, with their state at that time."""
        self._own_paths: set[str] = set()
        """Real paths of the `own_companions` that could be looked at."""
        self._questions: dict[str, Question] = {}
        """Questions that `probe_ahead` sent to the decoder, by path."""

    def request_scan(self, now: float) -> None:
        """Scan at the next step, since a file may have changed."""
        self.next_at = min(self.next_at, now)

    def find(self, now: float) -> None:
        """Scan the inbox and pair its files."""
        try:
            listing = scan(self.inbox, self._referenced, self.files)
        except OSError as error:
            self.mark_unavailable(self._describe(error), now)
            return
        self.problem = None
        self.files = listing.files
        self.ignored = listing.ignored
        self.tracker.observe(listing.files, now, listing.downloading)
        self._forget_vanished(listing)
        pairing = pair(
            self.inbox, listing.files, self.tracker, self.reference, self._referenced,
            self.companions,
        )  # fmt: skip
        self._referenced = pairing.referenced
        self.waiting = pairing.waiting
        self._plan_next(pairing, now)
        self.pending = deque(c for c in pairing.ready if not self._is_processed(c))
        self._sharers = Counter(c.sidecar for c in self.pending)
        self._questions = {}

    def hold(self, folders: Mapping[str, str]) -> None:
        """Let the candidates of `pending` wait that have files in these folders of the inbox.

        Args:
            folders: for each the reason, for people.
        """
        pending, self.pending = self.pending, deque[Candidate]()
        for candidate in pending:
            places = map(folder_of, candidate.paths)
            why = next((folders[place] for place in places if place in folders), None)
            if why is None:
                self.pending.append(candidate)
            else:
                first = candidate.image or candidate.table or candidate.sidecar or ""
                self.waiting.append(Waiting(first, why, None, True, "writing"))
        self._sharers = Counter(c.sidecar for c in self.pending)

    def probe_ahead(self, number: int) -> None:
        """Have the next images of `pending` decoded while others are claimed."""
        paths = [c.image for c in islice(self.pending, number) if c.image and c.error is None]
        paths = [p for p in paths if p in self.files and p not in self._probes]
        questions = self._prober.ask(self.inbox.path / path for path in paths)
        self._questions = dict(zip(paths, questions, strict=True))

    def next_batch(self) -> tuple[Candidate, Stats] | None:
        """The next of `pending` and the stats of its files, if it is a batch; else None."""
        if not self.pending or not self.pending[0].is_batch:
            return None
        candidate = self.pending.popleft()
        self._sharers[candidate.sidecar] -= 1
        return candidate, stats_of(candidate, self.files)

    def next_ready(self, now: float) -> ReadyDrop | None:
        """The next of `pending` if it may be claimed; None while it has to wait."""
        candidate = self.pending.popleft()
        self._sharers[candidate.sidecar] -= 1
        try:
            return self._ready(candidate, now)
        except Exception as error:
            if isinstance(error, LedgerError) or is_disk_fault(error):
                raise
            # Raised, it would come again with each look, and nothing more would be taken in.
            path = candidate.image or candidate.sidecar or ""
            self._report(path, error)
            self.mark_failed(path, f"cannot be looked at: {type(error).__name__}: {error}")
            return None

    def _report(self, path: str, error: Exception) -> None:
        """Log an error that nobody foresaw, once for each state of the file."""
        if self._reported.get(path) != (stat := self.files.get(path)):
            log.error(
                "file.failed", inbox=self.inbox.name, file=printable(path), exc_info=error
            )  # fmt: skip
        self._reported[path] = stat

    def _ready(self, candidate: Candidate, now: float) -> ReadyDrop | None:
        """The drop of a candidate; None while a file of it may still be half written."""
        stats = stats_of(candidate, self.files)
        if len(stats) != len(candidate.paths):
            return None  # one of its files was claimed in the meantime
        if self._waits_for_root(candidate, now):
            return None
        outside = self._companions_outside(candidate) if candidate.error is None else {}
        if (answers := self._decode(candidate, stats, outside, now)) is None:
            return None
        error, probed = answers
        shared = self._sharers[candidate.sidecar] > 0
        return ReadyDrop(
            candidate, stats, key_path(candidate, self.reference), error, probed, shared, outside
        )

    def _decode(
        self, candidate: Candidate, stats: Stats, outside: Stats, now: float
    ) -> tuple[JobError | None, Probed | None] | None:
        """Decode the companions and the image of a candidate; None while one of them may still be
        half written.

        Returns:
            The first error, if there is one, and else the size of the image. An error of a
            companion that pipeline.yaml names does not count, since the sidecar may name another.
        """
        probed: Probed | None = None
        if candidate.error is not None:
            return candidate.error, None
        inside = [*(path for _, path in candidate.companions), *candidate.named]
        inside += [candidate.image] if candidate.image is not None else []
        for path in (*outside, *inside):
            if path in outside:
                answer = self._probe_outside(path, outside[path], now)
            else:
                answer = self._probe(path, stats[path], now)
            if answer is None:
                return None
            if not isinstance(answer, JobError):
                probed = answer
            elif path == candidate.image:
                return answer, None
            elif path not in self._own_paths:
                return mask_fault(path, answer), None
        return None, probed

    def mark_claimed(self, path: str) -> None:
        """Forget a file that is in a claim now."""
        self.tracker.forget(path)
        self.files.pop(path, None)
        self._references.pop(path, None)
        self._companions.pop(path, None)

    def note(self, versions: Mapping[str, Version]) -> None:
        """Remember known files that were committed to the ledger."""
        self._known_files.note(versions)

    def mark_failed(self, path: str, reason: str) -> None:
        """Let a file wait that could not be claimed; the next scan finds it again."""
        self.waiting.append(Waiting(path, reason, None, True, "writing"))

    def reference(self, path: str) -> Reference:
        """The reference of a settled YAML or table, read once for each of its states."""
        stat = self.files[path]
        cached = self._references.get(path)
        if cached is not None and cached[0] == stat:
            return cached[1]
        try:
            reference = read_reference(self.inbox, path, self._look_at)
        except Exception as error:  # raised, it would end each look at the inbox
            self._report(path, error)
            return Unreadable(f"{type(error).__name__}: {error}")
        # A program may unlock a file with no visible change of it, so `Unreadable` is not cached.
        if not isinstance(reference, Unreadable) and self._is_final(path, reference):
            self._references[path] = stat, reference
        return reference

    def companions(self, path: str) -> tuple[str, ...]:
        """The companions in the inbox that a settled YAML or table names."""
        return self._named_companions(path).paths

    def _named_companions(self, path: str) -> NamedCompanions:
        """The companions that a settled YAML or table names, read once for each of its states."""
        stat = self.files[path]
        cached = self._companions.get(path)
        if cached is not None and cached[0] == stat:
            _, options, named = cached
            if named.is_final:
                return named
        else:
            try:
                options = companion_places(self.inbox, path)
            except OSError:
                return NamedCompanions()  # a program may unlock it with no visible change of it
            except Exception as error:  # raised, it would end each look at the inbox
                self._report(path, error)
                return NamedCompanions()
        named = find_companions(self.inbox, options, self._look_at)
        self._companions[path] = stat, options, named
        return named

    def _companions_outside(self, candidate: Candidate) -> dict[str, FileStat]:
        """Status of the companions outside of the inbox that a candidate may need.

        A companion that is not there is left out: its job says so, if it needs that companion.
        """
        own = [file for file in self._own_companions if self._look_at(file.parent).is_there]
        paths = [os.path.realpath(stored_form(file)) for file in own]
        self._own_paths.update(paths)
        if candidate.sidecar is not None:
            paths += map(str, self._named_companions(candidate.sidecar).root_files)
        stats: dict[str, FileStat] = {}
        for path in paths:
            with suppress(OSError):
                stats[path] = FileStat.of(Path(path).lstat())
        return stats

    def _probe_outside(self, path: str, stat: FileStat, now: float) -> Probed | JobError | None:
        """Decode a companion outside of the inbox; None while it may still be half written."""
        cached = self._outside.get(path)
        if cached is not None and cached[0] == stat:
            return cached[1]
        if (answer := self._probe(path, stat, now)) is not None:
            self._outside[path] = stat, answer
        return answer

    def _waits_for_root(self, candidate: Candidate, now: float) -> bool:
        """True if a source root does not answer that may hold a companion of the candidate.

        Once claimed, the job would fail without its companion, or the look for it would block.
        """
        if (sidecar := candidate.sidecar) is None or not self.inbox.source_roots:
            return False
        for root in self._named_companions(sidecar).roots:
            if (reach := self._look_at(root)).is_silent:
                why = f"{root}, one of the inbox's source_roots, {reach.why}"
                self.waiting.append(Waiting(candidate.image or sidecar, why, None, True, "writing"))
                self.next_at = min(self.next_at, now + MISSING_RETRY_S)
                return True
        return False

    def _is_final(self, path: str, reference: Reference) -> bool:
        """True if the reference of `path` stays the same as long as the file does.

        It may change while a source root cannot be reached, and if it names a single image that may
        yet appear in a source root.
        """
        if not self.inbox.source_roots:
            return True
        if any(self._look_at(root).is_silent for root in self.inbox.source_roots):
            return False
        images: tuple[str, ...] = ()
        if isinstance(reference, References) and reference.waits_long:
            images = reference.paths
        elif isinstance(reference, str):
            images = (normpath(join(folder_of(path), reference)),)
        return len(images) != 1 or images[0] in self.files

    def mark_unavailable(self, problem: str, now: float) -> None:
        """Note why the inbox cannot be scanned, and try again soon."""
        if problem != self.problem:
            log.warning("inbox.unavailable", inbox=self.inbox.name, why=problem)
        self.problem = problem
        # A share that comes back has lost nothing, so its files are not forgotten meanwhile.
        self.waiting = []
        self.next_at = now + min(MISSING_RETRY_S, self.inbox.rescan_s)

    def _forget_vanished(self, listing: Scan) -> None:
        for cache in (self._references, self._companions, self._reported):
            for path in cache.keys() - listing.files.keys():
                del cache[path]
        named = {str(f) for *_, named in self._companions.values() for f in named.root_files}
        named |= self._own_paths
        for path in self._probes.keys() - listing.files.keys() - named:
            del self._probes[path]
        for path in self._outside.keys() - named:
            del self._outside[path]

    def _plan_next(self, pairing: Pairing, now: float) -> None:
        times = [now + self.inbox.rescan_s]
        times += [at for at in (self.tracker.next_settle(), pairing.next_at) if at is not None]
        self.next_at = max(min(times), now + 0.05)

    def _is_processed(self, candidate: Candidate) -> bool:
        path = key_path(candidate, self.reference)
        if not is_processed(self._known_files, candidate, path, self.files):
            return False
        if (why := self._known_files.companion_reason(path)) is not None:
            self.ignored = {**self.ignored, path: why}
        if (why := self._known_files.reserved_reason(path)) is not None:
            self.waiting.append(Waiting(path, why, None, True, "image"))
        return True

    def _probe(self, path: str, stat: FileStat, now: float) -> Probed | JobError | None:
        question = self._questions.pop(path, None) or Question(self.inbox.path / path)
        file = question.path
        probe = self._probes.pop(path, None)
        if probe is None or probe.stat != stat:
            probe = _Probe(stat, self._prober.answer(question), now, now)
        elif (
            now >= probe.probed_at + PROBE_AGAIN_S
            or incomplete_until(file, probe.answer, probe.since, now) is None
        ):
            # Writes through a share or mapped memory may change neither size nor times of the file,
            # so it is decoded again.
            probe = _Probe(stat, self._prober.probe(file), probe.since, now)
        until = incomplete_until(file, probe.answer, probe.since, now)
        if until is None:
            return probe.answer
        if isinstance(probe.answer, NotReadable):
            self.mark_failed(path, probe.answer.detail)
            return None
        self._probes[path] = probe
        is_broken = isinstance(probe.answer, ImageUnreadable)
        reason = "does not decode yet" if is_broken else "ends in zeros"
        reason = f"{reason if stat.size else 'is empty'}; it may still be written"
        self.waiting.append(Waiting(path, reason, until, False, "writing"))
        self.next_at = min(self.next_at, until, probe.probed_at + PROBE_AGAIN_S)
        return None
