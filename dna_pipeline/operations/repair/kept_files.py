"""Find the files of `keep` inboxes that need not run again after their ledger was lost.

A kept file is a known file if its bytes and its YAML are those of a job that has ended, by the
damaged ledger or by the results. Any other file runs again, which costs time but loses nothing, and
so does one whose newest job had not ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from dna_pipeline.base.naming import printable
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.known_files import Version, rows_of
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.ready_drops import key_path
from dna_pipeline.intake.planning.references import read_reference
from dna_pipeline.ledger import drops, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.check_plan import candidates
from dna_pipeline.operations.repair.results import PublishedResult
from dna_pipeline.operations.repair.salvage import Salvage, has_all_jobs


class KeptFile(NamedTuple):
    """A file in an inbox, by the inbox's name and the path below it."""

    inbox: str
    path: str


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """Input of a job that has ended."""

    inbox: str
    name: str
    sha256: str | None
    sidecar: str | None

    @classmethod
    def of(cls, result: PublishedResult) -> FinishedJob:
        original = result.input
        return cls(result.job.inbox, original.name, original.sha256, result.sidecar)


def remember_kept(
    config: Config,
    ledger: Ledger,
    remains: Salvage,
    finished: Iterable[FinishedJob],
    to_run: Set[KeptFile],
) -> tuple[dict[str, int], list[str]]:
    """Record the known files of each inbox in the new ledger.

    Args:
        remains: the readable rows of the damaged ledger.
        finished: inputs of the jobs that have ended, by the results.
        to_run: files that must run, whatever the results say.

    Returns:
        The number of known files by inbox, and remarks for people.
    """
    ended_jobs = set(finished)
    counts: dict[str, int] = {}
    remarks: list[str] = []
    for inbox in config.inboxes:
        rows = [row for row in remains.known_files if row["inbox"] == inbox.name]
        lost = {row["path"] for row in rows if _is_lost(ledger, remains, row["drop_id"])}
        lost |= {file.path for file in to_run if file.inbox == inbox.name}
        rows = [row for row in rows if row["path"] not in lost]
        was_watched = f"watched:{inbox.name}" in remains.settings
        if inbox.keeps:
            paths = lost | {row["path"] for row in rows}
            rows += [
                row for row in _matching(config, inbox, ended_jobs) if row["path"] not in paths
            ]
        rows = [row | {"drop_id": None} for row in rows]
        ledger.transact(lambda s, r=rows: drops.remember_files(s, r))
        if rows:
            counts[inbox.name] = len(rows)
        # Without this setting, the next daemon would take the inbox for a new one, and all files in
        # it for existing ones.
        if was_watched or inbox.existing == "process":
            name = f"watched:{inbox.name}"
            ledger.transact(lambda s, n=name: store.set_setting(s, n, "repaired"))
        else:
            remarks.append(
                f"inbox {inbox.name}: what lies there now is ignored once more (existing: "
                "ignore); touch a file to have it taken in"
            )
        if inbox.keeps and not was_watched:
            remarks.append(
                f"inbox {inbox.name}: its files are known by the results alone; those without "
                "one, or with another YAML, run again"
            )
    return counts, remarks


def _is_lost(ledger: Ledger, remains: Salvage, drop_id: str | None) -> bool:
    """True if a file's jobs had not ended and were not restored: the file must run again."""
    if drop_id not in remains.drops:
        return False
    restored = ledger.transact(lambda s: drops.drop_state(s, str(drop_id)))
    return restored is None and not has_all_jobs(ledger, remains, str(drop_id))


def _matching(config: Config, inbox: Inbox, ended_jobs: set[FinishedJob]) -> list[dict[str, Any]]:
    try:
        present = candidates(inbox)
    except OSError:
        return []  # the inbox is out of reach
    versions: dict[str, Version] = {}
    for candidate in present:
        if (version := _version(config, inbox, candidate, ended_jobs)) is not None:
            versions[key_path(candidate, partial(read_reference, inbox))] = version
    return rows_of(inbox.name, versions)


def _version(
    config: Config, inbox: Inbox, candidate: Candidate, ended_jobs: set[FinishedJob]
) -> Version | None:
    """Give the version of a candidate's files; None if no job with these files has ended."""
    if candidate.image is None or candidate.error is not None:
        return None
    try:
        hashed = claims.hash_in_place(inbox.path / candidate.image)
        paths = [path for path in (candidate.image, candidate.sidecar) if path is not None]
        stats = {path: FileStat.of((inbox.path / path).lstat()) for path in paths}
        sidecar = candidate.sidecar
        data = None if sidecar is None else job_rows.read_sidecar(inbox.path / sidecar)
    except (claims.ClaimError, OSError):
        return None
    folder, _, image = candidate.image.rpartition("/")
    name = printable(image)
    text = None if data is None else job_rows.as_text(data)
    if FinishedJob(inbox.name, name, hashed.sha256, text) not in ended_jobs:
        return None
    key = Planner(config, inbox).version_key(
        folder, image, data, hashed.sha256, None, file=inbox.path / candidate.image
    )
    return Version(stats, key)
