"""Open jobs of an older copy of the ledger that have ended since, as the outbox shows.

Their sources went with their end, so that they would wait for them for ever. A job whose account
lies in the outbox has ended as that says. One without an account fails, if its source was a copy in
the data folder: no mount can bring that back. A claim in an inbox may only be unmounted, so that
its job goes on waiting.
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
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import batches, overtaken, queue
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Drop, Job
from dna_pipeline.operations.repair.results import PublishedResult, read_result, rows_of
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.manifest import ERROR_NAME, NAME
from dna_pipeline.publish.outbox import CANCELLED, FAILED, Outbox, mirrored
from dna_pipeline.publish.publisher import folder_of

log = structlog.get_logger()

_ID = re.compile(r"-([0-9a-f]{8})(?=[0-9a-f]{24}|-|\.|$)")
"""The start of a job's id in the name of its folder, or of a cancelled row's file."""

_TAKEN = (
    "status", "pipeline", "tags", "meta", "attempt", "stage", "error", "publish", "publish_name",
    "manifest_sha256", "started_at", "finished_at",
)  # fmt: skip


class Overtaken:
    """Finds the open jobs of one ledger whose sources are gone, and ends them.

    Args:
        look: says whether a folder can be reached; of one that cannot, nothing is concluded.
    """

    def __init__(self, config: Config, ledger: Ledger, look: Look = look_directly) -> None:
        self._config = config
        self._ledger = ledger
        self._look = look
        self._outbox = Outbox(config.outbox, ledger.id)

    def settle(self, *, only_held: bool = False) -> bool:
        """End all that can be; False if the outbox is out of reach, so that nobody can know.

        This costs a listing of each folder of claims, and where one is missing of the folders of
        the outbox in which its jobs' accounts may lie.

        Args:
            only_held: leave the jobs that someone may be working on, while the daemon runs.
        """
        if not self._look(self._config.outbox).is_there:
            return False
        missing = self._missing_drops()
        if not missing:
            return True
        jobs = self._ledger.transact(
            lambda s: overtaken.open_jobs(s, list(missing), only_held=only_held)
        )
        accounts = _Results(self._config.outbox, {job.id[:8] for job in jobs})
        for job in jobs:
            if self._is_being_published(job):
                continue
            if (account := accounts.find(job, self._homes(job))) is not None:
                self._take_over(job, account)
            elif claim_folders.is_lost(Path(missing[job.drop_id]), self._config.claims):
                self._lose(job)
        return True

    def _missing_drops(self) -> dict[str, str]:
        """The claims that are not where they should be, by drop."""
        by_root: dict[str, dict[str, str]] = defaultdict(dict)
        for drop, claim in self._ledger.transact(overtaken.claims):
            by_root[os.path.dirname(claim)][drop] = claim  # noqa: PTH120 - there may be a million
        missing: dict[str, str] = {}
        for root, found in by_root.items():
            if (names := self._names(Path(root))) is not None:
                missing |= {d: c for d, c in found.items() if os.path.basename(c) not in names}  # noqa: PTH119
        return missing

    def _names(self, root: Path) -> set[str] | None:
        """What lies in a folder of claims, nothing where it is missing; None where nobody knows."""
        if self._look(root).is_silent:
            return None
        try:
            return set(os.listdir(root))  # noqa: PTH208 - there may be a million
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError:
            return None

    def _is_being_published(self, job: Job) -> bool:
        """Whether its folder is in its planned place, so that publishing goes on from there."""
        if job.publish != "planned" or job.publish_name is None:
            return False
        account = NAME if job.error is None else ERROR_NAME
        return self._outbox.holds(job.publish_name, account, job.manifest_sha256 or "")

    def _homes(self, job: Job) -> list[str]:
        """The folders of the outbox in which its account may lie."""
        batch = self._ledger.transact(lambda s: batches.find(s, job.batch))
        if batch is not None:
            home = folder_of(batch)
        else:
            home = f"{job.inbox}/{mirrored(job.folder)}" if job.folder else job.inbox
        above = job.inbox if batch is None else home
        return [home, f"{job.inbox}/{FAILED}", f"{above}/{CANCELLED}"]

    def _take_over(self, job: Job, account: PublishedResult) -> None:
        drop = self._ledger.transact(lambda s: s.get_one(Drop, job.drop_id))
        rows = rows_of(account, drop.originals)
        changes: dict[str, Any] = {name: rows.job[name] for name in _TAKEN}
        changes["cancelled_while"] = _cancelled_while(account)
        if self._ledger.transact(
            lambda s: overtaken.end(s, job, changes, rows.stages, rows.artifacts)
        ):
            log.warning("job.found_ended", job=job.id, folder=account.name, status=account.status)

    def _lose(self, job: Job) -> None:
        recovered = self._config.recovered
        failure = SourceMissing(
            f"the copy of its original is not in {self._config.claims}. An older copy of the "
            f"ledger may have been put back: look in the outbox and in {recovered}, else drop the "
            "image again"
        ).failure()
        if self._ledger.transact(lambda s: overtaken.end_without_source(s, job, failure)):
            log.error("source.missing", job=job.id)


def _cancelled_while(account: PublishedResult) -> str | None:
    if account.status != "cancelled":
        return None
    home = account.name.split("/")
    return queue.WAITING if CANCELLED in (home[-1], home[-2]) else queue.RUNNING


class _Results:
    """Accounts of certain jobs, by the starts of their ids; each folder is listed once."""

    def __init__(self, outbox: Path, wanted: set[str]) -> None:
        self._outbox = outbox
        self._wanted = wanted
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, job: Job, homes: list[str]) -> PublishedResult | None:
        """The account of that job; of several a result, else the last one."""
        found = [account for home in homes for account in self._read(job, home)]
        return max(found, key=_rank, default=None)

    def _read(self, job: Job, home: str) -> Iterator[PublishedResult]:
        if home not in self._listed:
            self._listed[home] = self._list(home)
        for name in self._listed[home].get(job.id[:8], ()):
            for path in self._paths(home, name):
                account = read_result(self._outbox, path)
                if isinstance(account, PublishedResult) and account.job.id == job.id:
                    yield account

    def _paths(self, home: str, name: str) -> list[Path]:
        path = self._outbox / home / name
        if path.suffix == ".json" and cancelled_rows.is_shared(home) and path.is_file():
            return [path]
        return [path / file for file in (NAME, ERROR_NAME) if (path / file).is_file()]

    def _list(self, home: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        try:
            names = os.listdir(self._outbox / home)  # noqa: PTH208 - there may be a million
        except OSError:
            return found
        for name in names:
            for start in set(_ID.findall(name)) & self._wanted:
                found[start].append(name)
        return found


def _rank(account: PublishedResult) -> tuple[bool, str]:
    return account.status == "completed", account.job.finished_at or ""
