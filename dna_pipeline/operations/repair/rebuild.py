"""`dna-pipeline repair`: replaces a damaged ledger by a new one, built from the files on disk.

    build .dna-rebuilding.db → set ledger.db aside → rename .dna-rebuilding.db → write ledger.id

While `.dna-rebuilding.db` is there, processes beside the daemon write nothing into the damaged one.
If it is interrupted at any point, a daemon still refuses to start (`ledger.db` is the damaged one,
or is gone although `ledger.id` is there), and a second call starts from the beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.files import fsync_dir
from dna_pipeline.base.layout import claim_roots, is_ledger_id
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.claiming import claims as claim
from dna_pipeline.intake.claiming import owner
from dna_pipeline.ledger import batches, drops, health, pauses, store
from dna_pipeline.ledger.sqlite import flush_fully, sqlite_module
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Event, Job, StageRun
from dna_pipeline.operations.daemon.lock import hold_lock
from dna_pipeline.operations.ownership import MARK, Mark, read_mark, write_mark
from dna_pipeline.operations.repair.batches import Batches
from dna_pipeline.operations.repair.copies import Copies
from dna_pipeline.operations.repair.kept_files import FinishedJob, remember_kept
from dna_pipeline.operations.repair.results import (
    PublishedResult,
    Rows,
    read_result,
    rows_of,
)
from dna_pipeline.operations.repair.salvage import Salvage, has_all_jobs, salvage
from dna_pipeline.publish.published import find_results

log = structlog.get_logger()

GROUP = 500

NAMES_SHOWN = 10
"""Maximum number of copies that one remark names."""


@dataclass(slots=True)
class Report:
    """Report of a repair; `--json` prints its `to_dict`, so the attributes are public keys."""

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
    """Rebuild the ledger if it is damaged or gone. Raises `Locked` if a daemon is at work."""
    with hold_lock(config.data):
        return _rebuild(config)


def _rebuild(config: Config) -> Report:
    path = config.ledger_path
    report = Report(damage=health.problem(path))
    health.discard_building(path)
    if report.damage is None:
        return report
    building = health.building_file(path)
    building.touch()  # from now on, servers and commands write no more into the damaged ledger
    _await_writers(path)
    remains = salvage(path)
    report.ledger, report.id_from = _ledger_id(config, remains)
    ledger = Ledger(building, ledger_id=report.ledger)
    try:
        report.ledger = ledger.id
        _Rebuilder(config, ledger, remains, report).run()
    finally:
        ledger.close()
    # Removed before the rename: after it the ledger is complete, and no later repair would remove
    # this file.
    health.id_file(building).unlink(missing_ok=True)
    report.set_aside = _set_aside(path)
    building.rename(path)
    fsync_dir(path.parent)
    health.note_id(path, report.ledger)
    return report


def _await_writers(path: Path) -> None:
    """Wait for the transactions that have begun. A file that takes none has no writers either."""
    if not path.exists():
        return
    module = sqlite_module()
    with suppress(module.Error):
        connection: Any = module.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=15, isolation_level=None
        )
        with closing(connection):
            flush_fully(connection)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")


def _set_aside(path: Path) -> list[str]:
    """Give the damaged files dated names: the database first, then its companions."""
    stamp = utcnow().strftime("%Y%m%d-%H%M%S-%f")
    moved: list[str] = []
    for end in ("", *health.COMPANIONS):
        if (file := path.with_name(path.name + end)).exists():
            target = path.with_name(f"{path.name}.damaged-{stamp}{end}")
            file.rename(target)
            moved.append(str(target))
    fsync_dir(path.parent)
    return moved


def _ledger_id(config: Config, remains: Salvage) -> tuple[str, str]:
    """Find the id under which claims and staging folders lie, and name the source of the id."""
    if (recorded_id := health.known_id(config.ledger_path)) is not None:
        return recorded_id, str(health.id_file(config.ledger_path))
    if (old_id := remains.settings.get("ledger_id")) is not None and is_ledger_id(old_id):
        return old_id, "the damaged ledger"
    places = [inbox.path for inbox in config.inboxes if not inbox.keeps] + [config.outbox]
    roots = [root for place in places for root in claim_roots(place)]
    if (mark := read_mark(config.data)) is not None:
        has_folder = any(root.name == mark.ledger for root in roots)
        return mark.ledger, "the folders of its claims" if has_folder else str(config.data / MARK)
    for data in (str(config.data), None):  # those of this data folder, or of an unknown one
        ids = {root.name for root in roots if owner.data_of(root) == data}
        if len(ids) == 1:
            return ids.pop(), "the folders of its claims"
    return store.new_id()[:12], "nothing: it is a new one"


class _Rebuilder:
    """Fills a new ledger."""

    def __init__(self, config: Config, ledger: Ledger, remains: Salvage, report: Report) -> None:
        self._config = config
        self._ledger = ledger
        self._remains = remains
        self._report = report
        self._finished: list[FinishedJob] = []

    def run(self) -> None:
        self._settings()
        self._jobs()
        batches = Batches(self._config, self._ledger, self._remains)
        batches.restore()
        self._open_drops(batches.drops)
        copies = Copies(self._config, self._ledger, self._remains, batches.drops, self._finished)
        copies.settle()
        mark = read_mark(self._config.data)
        others = mark.others if mark is not None else frozenset[str]()
        write_mark(self._config.data, Mark(self._ledger.id, others))
        self._report.requeued, self._report.recovered = copies.requeued, copies.recovered
        counts, remarks = remember_kept(
            self._config, self._ledger, self._remains, self._finished, copies.to_run
        )
        self._report.known = counts
        self._report.remarks += remarks
        if copies.unclear:
            self._report.remarks.append(_unclear_text(copies.unclear))
        self._count_claims()

    def _count_claims(self) -> None:
        for inbox in self._config.inboxes:
            if not inbox.keeps and (n := len(claim.list_claims(inbox.path, self._ledger.id))):
                self._report.claims[inbox.name] = n
        if self._report.claims and not self._remains.drops:
            self._report.remarks.append(
                "what the rows of job files and tables asked for is lost: an image of such a row "
                "in the claims runs at once, outside its batch, with its inbox's parameters "
                "(`dna-pipeline pause` before the next start, then `cancel` those not wanted)"
            )
        if not self._remains.settings:
            self._report.remarks.append(
                "whether the queue was paused is lost: it is not paused now; `dna-pipeline pause` "
                "pauses it"
            )

    def _settings(self) -> None:
        for name, value in self._remains.settings.items():
            if name == "paused" or name.startswith((pauses.PIPELINE, batches.DIALECT)):
                self._ledger.transact(lambda s, n=name, v=value: store.set_setting(s, n, v))

    # --- jobs that have ended ---

    def _jobs(self) -> None:
        group: list[Rows] = []
        for result in self._results():
            group.append(self._rows(result))
            if len(group) == GROUP:
                self._insert(group)
                group = []
        self._insert(group)

    def _results(self) -> Iterator[PublishedResult]:
        """Give one published result for each job, in the order in which the jobs were created.

        Each manifest file is read twice, once for the order and once for its rows, so that they
        are not all in memory at once.
        """
        outbox = self._config.outbox
        chosen: dict[str, tuple[tuple[Any, ...], Path]] = {}
        for path in find_results(outbox):
            result = read_result(outbox, path)
            if isinstance(result, str):
                self._report.unreadable.append(result)
                continue
            rank = (result.status != "completed", len(result.name), result.job.created_at)
            if result.job.id not in chosen or rank < chosen[result.job.id][0]:
                chosen[result.job.id] = (rank, path)
        for _, path in sorted(chosen.values(), key=lambda item: item[0][2]):
            result = read_result(outbox, path)
            if isinstance(result, PublishedResult):
                yield result

    def _rows(self, result: PublishedResult) -> Rows:
        self._report.jobs[result.status] += 1
        inbox = self._config.inbox(result.job.inbox)
        if inbox is not None and inbox.keeps:
            self._finished.append(FinishedJob.of(result))
        return rows_of(result, inbox.originals if inbox is not None else "archive")

    def _insert(self, group: list[Rows]) -> None:
        def commit(session: Any) -> None:
            for table, rows in (
                (Drop, [row.drop for row in group]),
                (Job, [row.job for row in group]),
                (StageRun, [stage for row in group for stage in row.stages]),
                (ArtifactRow, [file for row in group for file in row.artifacts]),
                (Event, [event for row in group for event in row.events]),
            ):
                store.add_rows(session, table, rows)

        self._ledger.transact(commit)

    # --- drops that still own files ---

    def _open_drops(self, restored: Set[str]) -> None:
        """Restore the drops of claims, as far as the damaged ledger can be read.

        A drop whose jobs all have their folders is *gone*, so that the next daemon removes its
        claim. Claims without a readable drop are adopted by the next daemon.
        """
        names = {inbox.name for inbox in self._config.inboxes if not inbox.keeps}
        for drop in self._remains.drops.values():
            folder = Path(str(drop["claim"]))
            is_claim = folder.name == drop["id"] and folder.parent.name == self._ledger.id
            if (
                drop["id"] in restored
                or drop["inbox"] not in names
                or not (is_claim and folder.is_dir())
            ):
                continue
            is_done = drop["state"] == "disposing" or has_all_jobs(
                self._ledger, self._remains, str(drop["id"])
            )
            row = drop | {"state": "gone" if is_done else "claiming", "created_at": utcnow()}
            self._ledger.transact(lambda s, r=row: drops.begin_claims(s, [r]))


def _unclear_text(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return (
        f"waiting copies were removed, since the same files lie in inboxes that keep them and run "
        f"from there: {shown}{more}. If you had submitted or retried one of them, do that again"
    )
