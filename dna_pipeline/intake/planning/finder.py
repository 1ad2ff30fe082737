"""Looks at one inbox until something in it may be taken."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from math import inf
from posixpath import join, normpath

import structlog

from dna_pipeline.base.errors import ImageUnreadable, JobError
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import (
    Candidate,
    ImageOf,
    Names,
    Pairing,
    Told,
    Unread,
    Waiting,
)
from dna_pipeline.intake.discovery.completeness import patience_s
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Prober, Question
from dna_pipeline.intake.discovery.scan import FileStat, Scan, scan
from dna_pipeline.intake.discovery.stability import StabilityTracker, folder_of
from dna_pipeline.intake.planning.drops import Ready
from dna_pipeline.intake.planning.known_files import KnownFiles, Stats
from dna_pipeline.intake.planning.plan import reference

log = structlog.get_logger()

ASK_AGAIN_S = 5.0
"""A file that may still be written to is decoded again so often."""

MISSING_RETRY_S = 5.0


@dataclass(slots=True)
class _Probe:
    """What a file decoded to in one state, `since` when it is in that, and when it was asked."""

    stat: FileStat
    answer: Probed | JobError
    since: float
    asked: float


def identity(candidate: Candidate, told: ImageOf) -> str:
    """The path that a drop is known by: two job files of one image are two drops."""
    sidecar = candidate.sidecar
    if candidate.table is not None:
        return candidate.table
    if sidecar is not None and isinstance(told(sidecar), str | Names):
        return sidecar
    return candidate.image or sidecar or ""


def is_known(
    known: KnownFiles, candidate: Candidate, path: str, files: Mapping[str, FileStat]
) -> bool:
    """Whether a drop was dealt with before, as it is now; `path` is what it is known by."""
    error = candidate.error.code if candidate.error else None
    return known.is_unchanged(path, _stats(candidate, files), error)


def _stats(candidate: Candidate, files: Mapping[str, FileStat]) -> Stats:
    return {path: files[path] for path in candidate.paths if path in files}


class Lookout:
    """The state of one inbox between looks. Times are monotonic seconds.

    Args:
        describe: says in a sentence why the inbox cannot be looked at.
    """

    def __init__(
        self,
        inbox: Inbox,
        prober: Prober,
        known: KnownFiles,
        look: Look = look_directly,
        describe: Callable[[OSError], str] = lambda e: f"cannot be looked at: {e.strerror}",
    ) -> None:
        self.inbox = inbox
        self._describe = describe
        self._look_at = look
        self.tracker = StabilityTracker(inbox.settle_s)
        self.waiting: list[Waiting] = []
        self.ignored: dict[str, str] = {}
        self.problem: str | None = None
        self.identity: tuple[int, int] | None = None
        """Which folder was looked at last: another one after a mount."""
        self.next_at = 0.0
        self.files: dict[str, FileStat] = {}
        """The files of the last look that were not taken since."""
        self.pending: deque[Candidate] = deque()
        """What the last look found ready and nobody took yet, oldest first."""
        self._sharers: Counter[str | None] = Counter()
        self._named: frozenset[str] = frozenset()
        self._prober = prober
        self._known = known
        self._references: dict[str, tuple[FileStat, Told]] = {}
        self._probes: dict[str, _Probe] = {}
        self._asked: dict[str, Question] = {}
        """What was asked of the decoder ahead, as of the last look."""

    def hinted(self, now: float) -> None:
        """Something may have happened: look again at once."""
        self.next_at = min(self.next_at, now)

    def look(self, now: float) -> None:
        """Scan and pair."""
        try:
            seen = scan(self.inbox, self._named, self.files)
        except OSError as error:
            self.cannot_look(self._describe(error), now)
            return
        self.problem = None
        self.identity = seen.identity
        self.files = seen.files
        self.ignored = seen.ignored
        self.tracker.observe(seen.files, now, seen.downloading)
        self._forget_vanished(seen)
        pairing = pair(self.inbox, seen.files, self.tracker, self.reference, self._named)
        self._named = pairing.named
        self.waiting = pairing.waiting
        self._plan_next(pairing, now)
        self.pending = deque(c for c in pairing.ready if not self._is_known(c))
        self._sharers = Counter(c.sidecar for c in self.pending)
        self._asked = {}

    def ask_ahead(self, number: int) -> None:
        """Have the next of `pending` decoded while others are taken in."""
        paths = [c.image for c in islice(self.pending, number) if c.image and c.error is None]
        paths = [p for p in paths if p in self.files and p not in self._probes]
        questions = self._prober.ask(self.inbox.path / path for path in paths)
        self._asked = dict(zip(paths, questions, strict=True))

    def next_batch(self) -> tuple[Candidate, Stats] | None:
        """The next of `pending`, and what was seen of its files, if that is a batch."""
        if not self.pending or not self.pending[0].is_batch:
            return None
        candidate = self.pending.popleft()
        self._sharers[candidate.sidecar] -= 1
        return candidate, self._stats(candidate)

    def still_for(self, path: str) -> float:
        """For how many seconds that file has been settled, as of the last look."""
        since = self.tracker.settled_since(path)
        return inf if since is None else self.tracker.looked_at - since

    def next_ready(self, now: float) -> Ready | None:
        """The next of `pending` if it may be taken; None while it may still be half written."""
        candidate = self.pending.popleft()
        self._sharers[candidate.sidecar] -= 1
        stats = self._stats(candidate)
        path, error, probed = candidate.image, candidate.error, None
        if len(stats) != len(candidate.paths):
            return None  # taken in the meantime
        if path is not None and error is None:
            answer = self._probe(path, stats[path], now)
            if answer is None:
                return None
            error, probed = (answer, None) if isinstance(answer, JobError) else (None, answer)
        shared = self._sharers[candidate.sidecar] > 0
        return Ready(candidate, stats, identity(candidate, self.reference), error, probed, shared)

    def taken(self, path: str) -> None:
        """The file is in a claim now."""
        self.tracker.forget(path)
        self.files.pop(path, None)
        self._references.pop(path, None)

    def returned(self, path: str) -> None:
        """The file was in a claim and is back, as it was."""
        self.tracker.expect_back(path)

    def left(self, path: str, reason: str) -> None:
        """The file could not be taken; the next look finds it again."""
        self.waiting.append(Waiting(path, reason, None, True, "writing"))

    def reference(self, path: str) -> Told:
        """What a settled YAML or table names, read once for each of its states."""
        stat = self.files[path]
        cached = self._references.get(path)
        if cached is not None and cached[0] == stat:
            return cached[1]
        told = reference(self.inbox, path, self._look_at)
        # What holds it may let go without a change to be seen.
        if not isinstance(told, Unread) and self._is_final(path, told):
            self._references[path] = stat, told
        return told

    def _is_final(self, teller: str, told: Told) -> bool:
        """Whether it names no single image that may yet come to lie in a source root instead."""
        if not self.inbox.source_roots:
            return True
        if any(self._look_at(root).is_silent for root in self.inbox.source_roots):
            return False
        named = told.paths if isinstance(told, Names) and told.patient else ()
        if isinstance(told, str):
            named = (normpath(join(folder_of(teller), told)),)
        return len(named) != 1 or named[0] in self.files

    def cannot_look(self, problem: str, now: float) -> None:
        """Note why the inbox cannot be looked at, and try again before long."""
        if problem != self.problem:
            log.warning("inbox.unavailable", inbox=self.inbox.name, why=problem)
        self.problem = problem
        # No conclusions from what is not seen: a share that comes back has lost nothing.
        self.waiting = []
        self.next_at = now + min(MISSING_RETRY_S, self.inbox.rescan_s)

    def _forget_vanished(self, seen: Scan) -> None:
        for kept in (self._probes, self._references):
            for path in kept.keys() - seen.files.keys():
                del kept[path]

    def _plan_next(self, pairing: Pairing, now: float) -> None:
        times = [now + self.inbox.rescan_s]
        times += [at for at in (self.tracker.next_settle(), pairing.next_at) if at is not None]
        self.next_at = max(min(times), now + 0.05)

    def _stats(self, candidate: Candidate) -> dict[str, FileStat]:
        return _stats(candidate, self.files)

    def _is_known(self, candidate: Candidate) -> bool:
        path = identity(candidate, self.reference)
        if not is_known(self._known, candidate, path, self.files):
            return False
        if (why := self._known.reserved(path)) is not None:
            self.waiting.append(Waiting(path, why, None, True, "image"))
        return True

    def _probe(self, path: str, stat: FileStat, now: float) -> Probed | JobError | None:
        asked = self._asked.pop(path, None) or Question(self.inbox.path / path)
        file = asked.path
        seen = self._probes.pop(path, None)
        if seen is None or seen.stat != stat:
            seen = _Probe(stat, self._prober.answer(asked), now, now)
        elif now >= min(seen.asked + ASK_AGAIN_S, seen.since + patience_s(file, seen.answer)):
            # What is written through a share or mapped memory may show in no time of the file.
            seen = _Probe(stat, self._prober.probe(file), seen.since, now)
        if isinstance(seen.answer, NotReadable):
            self.left(path, seen.answer.detail)
            return None
        until = seen.since + patience_s(file, seen.answer)
        if now < until:
            self._probes[path] = seen
            wanting = isinstance(seen.answer, ImageUnreadable)
            reason = "does not decode yet" if wanting else "ends in zeros"
            reason = f"{reason if stat.size else 'is empty'}; it may still be written"
            self.waiting.append(Waiting(path, reason, until, False, "writing"))
            self.next_at = min(self.next_at, until, seen.asked + ASK_AGAIN_S)
            return None
        return seen.answer
