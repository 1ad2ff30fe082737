"""End overtaken jobs: open in an older copy of the ledger, but ended since, as the outbox shows.

People may restore an older copy of the ledger. Sources of jobs that ended since then are gone, so
that these jobs would wait for ever. If the outbox has the manifest file of such a job, the job ends
as the file says. If not, the job fails if its source was a copy in the data folder, which no mount
can bring back. A claim in an inbox may only be unmounted, so its job continues to wait.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base import claim_folders
from dna_pipeline.base.errors import SourceMissing
from dna_pipeline.base.layout import CANCELLED, FAILED, inbox_folder
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import batches, overtaken, queue, states
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job
from dna_pipeline.operations.repair.results import PublishedResult, read_result, rows_of
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.manifest import ERROR_NAME, NAME
from dna_pipeline.publish.outbox import Outbox
from dna_pipeline.publish.publisher import folder_of

log = structlog.get_logger()

_ID = re.compile(r"-([0-9a-f]{8})(?=[0-9a-f]{24}|-|\.|$)")
"""Matches the start of a job's id in the name of its folder, or of a cancelled row's file."""

_COLUMNS_FROM_RESULT = (
    "status", "pipeline", "tags", "meta", "attempt", "stage", "error", "publish", "publish_name",
    "manifest_sha256", "started_at", "finished_at",
)  # fmt: skip


class OvertakenJobs:
    """Finds the open jobs of one ledger whose sources are gone, and ends them.

    Args:
        look: says whether a folder can be reached; nothing is concluded from a folder that does
            not answer.
    """

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._ledger = ledger
        self._look = look
        self._outbox = Outbox(config.outbox, ledger.id)

    def settle(self, *, only_held: bool = False) -> bool:
        """End the overtaken jobs; False if the outbox is out of reach, or its disk may not be
        mounted, so that none can be found.

        The cost is a listing of each folder of claims. If a claim is missing, the outbox's folders
        in which manifest files of its jobs may lie are listed too.

        Args:
            only_held: consider only held jobs, since the others may be running in this daemon.
        """
        if not self._look(self._config.outbox).is_there:
            return False
        if self._outbox.is_bare() and self._ledger.transact(queue.has_published):
            return False
        missing = self._missing_drops()
        if not missing:
            return True
        jobs = self._ledger.transact(
            lambda s: overtaken.open_jobs(s, list(missing), only_held=only_held)
        )
        results = _Results(self._config.outbox, {job.id[:8] for job in jobs})
        for job in jobs:
            if self._is_being_published(job):
                continue
            if (result := results.find(job, self._homes(job))) is not None:
                self._take_over(job, result)
            elif claim_folders.is_lost(Path(missing[job.drop_id]), self._config.claims):
                self._lose(job)
        return True

    def _missing_drops(self) -> dict[str, str]:
        """Give the paths of missing claims, by drop."""
        by_root: dict[str, dict[str, str]] = defaultdict(dict)
        for drop, claim in self._ledger.transact(overtaken.claims):
            by_root[os.path.dirname(claim)][drop] = claim  # noqa: PTH120 - there may be a million
        missing: dict[str, str] = {}
        for root, drops in by_root.items():
            if (names := self._names(Path(root))) is not None:
                missing |= {d: c for d, c in drops.items() if os.path.basename(c) not in names}  # noqa: PTH119
        return missing

    def _names(self, root: Path) -> set[str] | None:
        """List a folder of claims: empty if it is missing, None if it cannot be listed."""
        if self._look(root).is_silent:
            return None
        try:
            return set(os.listdir(root))  # noqa: PTH208 - there may be a million
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError:
            return None

    def _is_being_published(self, job: Job) -> bool:
        """True if the job's folder is in its planned place: then the publisher finishes the job."""
        if job.publish != "planned" or job.publish_name is None:
            return False
        file_name = NAME if job.error is None else ERROR_NAME
        return self._outbox.holds(job.publish_name, file_name, job.manifest_sha256 or "")

    def _homes(self, job: Job) -> list[str]:
        """List the folders of the outbox in which the job's folder may lie."""
        batch = self._ledger.transact(lambda s: batches.find(s, job.batch))
        home = inbox_folder(job.inbox, job.folder) if batch is None else folder_of(batch)
        above = job.inbox if batch is None else home
        return [home, f"{job.inbox}/{FAILED}", f"{above}/{CANCELLED}"]

    def _take_over(self, job: Job, result: PublishedResult) -> None:
        drop = self._ledger.transact(lambda s: s.get_one(Drop, job.drop_id))
        rows = rows_of(result, drop.originals)
        changes: dict[str, Any] = {name: rows.job[name] for name in _COLUMNS_FROM_RESULT}
        changes["cancelled_while"] = _cancelled_while(result)
        if self._ledger.transact(
            lambda s: overtaken.end(s, job, changes, rows.stages, rows.artifacts)
        ):
            log.warning("job.found_ended", job=job.id, folder=result.name, status=result.status)

    def _lose(self, job: Job) -> None:
        recovered = self._config.recovered
        failure = SourceMissing(
            f"the copy of its original is not in {self._config.claims}. An older copy of the "
            f"ledger may have been put back: look in the outbox and in {recovered}, else drop the "
            "image again"
        ).failure()
        if self._ledger.transact(lambda s: overtaken.end_without_source(s, job, failure)):
            log.error("source.missing", job=job.id)


def _cancelled_while(result: PublishedResult) -> str | None:
    if result.status != "cancelled":
        return None
    home = result.name.split("/")
    return states.WAITING if CANCELLED in (home[-1], home[-2]) else states.RUNNING


class _Results:
    """Finds published results of certain jobs by the starts of their ids; lists a folder once."""

    def __init__(self, outbox: Path, id_starts: set[str]) -> None:
        self._outbox = outbox
        self._id_starts = id_starts
        self._listings: dict[str, dict[str, list[str]]] = {}

    def find(self, job: Job, homes: list[str]) -> PublishedResult | None:
        """Give the job's published result; of several a completed one, else the last one."""
        matches = [result for home in homes for result in self._read(job, home)]
        return max(matches, key=_rank, default=None)

    def _read(self, job: Job, home: str) -> Iterator[PublishedResult]:
        if home not in self._listings:
            self._listings[home] = self._list(home)
        for name in self._listings[home].get(job.id[:8], ()):
            for path in self._paths(home, name):
                result = read_result(self._outbox, path)
                if isinstance(result, PublishedResult) and result.job.id == job.id:
                    yield result

    def _paths(self, home: str, name: str) -> list[Path]:
        path = self._outbox / home / name
        if path.suffix == ".json" and cancelled_rows.is_shared(home) and path.is_file():
            return [path]
        return [path / file for file in (NAME, ERROR_NAME) if (path / file).is_file()]

    def _list(self, home: str) -> dict[str, list[str]]:
        names_by_start: dict[str, list[str]] = defaultdict(list)
        try:
            names = os.listdir(self._outbox / home)  # noqa: PTH208 - there may be a million
        except OSError:
            return names_by_start
        for name in names:
            for start in set(_ID.findall(name)) & self._id_starts:
                names_by_start[start].append(name)
        return names_by_start


def _rank(result: PublishedResult) -> tuple[bool, str]:
    return result.status == "completed", result.job.finished_at or ""
