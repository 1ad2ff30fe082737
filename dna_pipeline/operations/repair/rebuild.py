"""`dna-pipeline repair`: a new ledger in the place of a damaged one, from what lies on disk.

    build .dna-rebuilding.db → set ledger.db aside → rename .dna-rebuilding.db → write ledger.id

Cut off anywhere, a daemon still refuses to start (`ledger.db` is the damaged one, or is gone
although `ledger.id` is there), and a second call begins from the beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.files import fsync_dir
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.claiming import claims as claim
from dna_pipeline.intake.claiming import owner
from dna_pipeline.ledger import batches, drops, health, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Event, Job, StageRun
from dna_pipeline.operations.ownership import MARK, Mark, read_mark, write_mark
from dna_pipeline.operations.repair.batches import Batches
from dna_pipeline.operations.repair.copies import Copies
from dna_pipeline.operations.repair.kept_files import Finished, remember_kept
from dna_pipeline.operations.repair.results import (
    PublishedResult,
    Rows,
    find_results,
    read_result,
    rows_of,
)
from dna_pipeline.operations.repair.salvage import Salvage, salvage

log = structlog.get_logger()

GROUP = 500

BUILDING = ".dna-rebuilding.db"
"""The new ledger until it is whole. It is cleared away when a rebuild begins, so it must be a name
that nobody gives to a file of their own."""


@dataclass(slots=True)
class Report:
    """What was done; `to_dict` is what `--json` prints."""

    damage: str | None = None
    ledger: str = ""
    id_from: str = ""
    set_aside: list[str] = field(default_factory=list[str])
    jobs: Counter[str] = field(default_factory=Counter[str])
    unreadable: list[str] = field(default_factory=list[str])
    claims: dict[str, int] = field(default_factory=dict[str, int])
    requeued: int = 0
    recovered: list[str] = field(default_factory=list[str])
    known: dict[str, int] = field(default_factory=dict[str, int])
    remarks: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"jobs": dict(self.jobs)}


def rebuild(config: Config) -> Report:
    """Rebuild the ledger if it is damaged or gone. The caller holds the data folder's lock."""
    path = config.ledger_path
    report = Report(damage=health.problem(path))
    if report.damage is None:
        return report
    building = path.with_name(BUILDING)
    _discard(building)
    found = salvage(path)
    report.ledger, report.id_from = _ledger_id(config, found)
    ledger = Ledger(building, ledger_id=report.ledger)
    try:
        report.ledger = ledger.id
        _Rebuilder(config, ledger, found, report).run()
    finally:
        ledger.close()
    # Removed before the rename: after it the ledger is whole, and nothing clears it away any more.
    health.id_file(building).unlink(missing_ok=True)
    report.set_aside = _set_aside(path)
    building.rename(path)
    fsync_dir(path.parent)
    health.note_id(path, report.ledger)
    return report


def _discard(path: Path) -> None:
    """Remove a ledger that is being built, if there is one."""
    for end in ("", *health.COMPANIONS):
        path.with_name(path.name + end).unlink(missing_ok=True)
    health.id_file(path).unlink(missing_ok=True)


def _set_aside(path: Path) -> list[str]:
    """Give the damaged files dated names; the companions last lose the name they belong to."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    moved: list[str] = []
    for end in ("", *health.COMPANIONS):
        if (file := path.with_name(path.name + end)).exists():
            target = path.with_name(f"{path.name}.damaged-{stamp}{end}")
            file.rename(target)
            moved.append(str(target))
    fsync_dir(path.parent)
    return moved


def _ledger_id(config: Config, found: Salvage) -> tuple[str, str]:
    """The id under which claims and staging folders lie, and how it is known."""
    if (noted := health.known_id(config.ledger_path)) is not None:
        return noted, str(health.id_file(config.ledger_path))
    if (told := found.settings.get("ledger_id")) is not None and claim.is_ledger_id(told):
        return told, "the damaged ledger"
    places = [inbox.path for inbox in config.inboxes if not inbox.keeps] + [config.outbox]
    roots = [root for place in places for root in claim.claim_roots(place)]
    if (mark := read_mark(config.data)) is not None:
        is_seen = any(root.name == mark.ledger for root in roots)
        return mark.ledger, "the folders of its claims" if is_seen else str(config.data / MARK)
    owned = {root.name for root in roots if owner.data_of(root) == str(config.data)}
    unowned = {root.name for root in roots if owner.data_of(root) is None}
    for ids in (owned, unowned):
        if len(ids) == 1:
            return ids.pop(), "the folders of its claims"
    return store.new_id()[:12], "nothing: it is a new one"


class _Rebuilder:
    """Fills a new ledger."""

    def __init__(self, config: Config, ledger: Ledger, found: Salvage, report: Report) -> None:
        self._config = config
        self._ledger = ledger
        self._found = found
        self._report = report
        self._finished: list[Finished] = []

    def run(self) -> None:
        self._settings()
        self._jobs()
        batches = Batches(self._config, self._ledger, self._found)
        batches.restore()
        self._open_drops(batches.drops)
        copies = Copies(self._config, self._ledger, self._found, batches.drops)
        copies.settle()
        mark = read_mark(self._config.data)
        others = mark.others if mark is not None else frozenset[str]()
        write_mark(self._config.data, Mark(self._ledger.id, others))
        self._report.requeued, self._report.recovered = copies.requeued, copies.recovered
        known, remarks = remember_kept(self._config, self._ledger, self._found, self._finished)
        self._report.known = known
        self._report.remarks += remarks
        self._count_claims()

    def _count_claims(self) -> None:
        for inbox in self._config.inboxes:
            if not inbox.keeps and (n := len(claim.list_claims(inbox.path, self._ledger.id))):
                self._report.claims[inbox.name] = n
        if self._report.claims and not self._found.drops:
            self._report.remarks.append(
                "what the rows of job files and tables asked for is lost: an image of such a row "
                "in the claims runs at once, outside its batch, with its inbox's parameters "
                "(`dna-pipeline pause` before the next start, then `cancel` those not wanted)"
            )
        if not self._found.settings:
            self._report.remarks.append(
                "whether the queue was paused is lost: it is not paused now; `dna-pipeline pause` "
                "pauses it"
            )

    def _settings(self) -> None:
        kept = {
            name: value
            for name, value in self._found.settings.items()
            if name == "paused" or name.startswith(batches.DIALECT)
        }
        for name, value in kept.items():
            self._ledger.transact(lambda s, n=name, v=value: store.set_setting(s, n, v))

    # --- jobs that have ended ---

    def _jobs(self) -> None:
        group: list[Rows] = []
        for account in self._results():
            group.append(self._rows(account))
            if len(group) == GROUP:
                self._insert(group)
                group = []
        self._insert(group)

    def _results(self) -> Iterator[PublishedResult]:
        """One for each job, in the order of their creation. Each is read twice: once for that
        order, once for its rows, so that not all of them are in memory."""
        outbox = self._config.outbox
        chosen: dict[str, tuple[tuple[Any, ...], Path]] = {}
        for path in find_results(outbox):
            account = read_result(outbox, path)
            if isinstance(account, str):
                self._report.unreadable.append(account)
                continue
            rank = (account.status != "completed", len(account.name), account.job.created_at)
            if account.job.id not in chosen or rank < chosen[account.job.id][0]:
                chosen[account.job.id] = (rank, path)
        for _, path in sorted(chosen.values(), key=lambda item: item[0][2]):
            account = read_result(outbox, path)
            if isinstance(account, PublishedResult):
                yield account

    def _rows(self, account: PublishedResult) -> Rows:
        self._report.jobs[account.status] += 1
        inbox = self._config.inbox(account.job.inbox)
        if inbox is not None and inbox.keeps:
            self._finished.append(Finished.of(account))
        return rows_of(account, inbox.originals if inbox is not None else "archive")

    def _insert(self, group: list[Rows]) -> None:
        def commit(session: Any) -> None:
            for table, rows in (
                (Drop, [row.drop for row in group]),
                (Job, [row.job for row in group]),
                (StageRun, [stage for row in group for stage in row.stages]),
                (ArtifactRow, [file for row in group for file in row.artifacts]),
                (Event, [event for row in group for event in row.events]),
            ):
                store.insert_rows(session, table, rows)

        self._ledger.transact(commit)

    # --- drops that still own files ---

    def _open_drops(self, restored: Set[str]) -> None:
        """Claims whose drops can still be read go on as what they were; those whose jobs all have
        their folders are done with. The others are adopted by the next daemon."""
        names = {inbox.name for inbox in self._config.inboxes if not inbox.keeps}
        for drop in self._found.drops.values():
            folder = Path(str(drop["claim"]))
            is_claim = folder.name == drop["id"] and folder.parent.name == self._ledger.id
            if (
                drop["id"] in restored
                or drop["inbox"] not in names
                or not (is_claim and folder.is_dir())
            ):
                continue
            done = drop["state"] == "disposing" or self._is_done(str(drop["id"]))
            row = drop | {"state": "gone" if done else "claiming", "created_at": _now()}
            self._ledger.transact(lambda s, r=row: drops.begin_claims(s, [r]))

    def _is_done(self, drop_id: str) -> bool:
        jobs = self._found.jobs_of.get(drop_id, set())
        return bool(jobs) and self._ledger.transact(
            lambda s: all(s.query(Job.seq).where(Job.id == job).first() for job in jobs)
        )


def _now() -> datetime:
    return datetime.now(UTC)
