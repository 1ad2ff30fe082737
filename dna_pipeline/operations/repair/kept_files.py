"""Files of `keep` inboxes after their ledger was lost: which of them need not run again.

A kept file is known by its bytes and its YAML. Where the ledger cannot tell, the results can: a
file whose bytes and YAML are those of a job that has ended is known. Any other runs again, which
costs time and loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.finder import key_path
from dna_pipeline.intake.planning.job_rows import printable
from dna_pipeline.intake.planning.known_files import Version, to_json
from dna_pipeline.intake.planning.references import read_reference
from dna_pipeline.ledger import drops, queue, store
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.check_plan import candidates
from dna_pipeline.operations.repair.results import PublishedResult
from dna_pipeline.operations.repair.salvage import Salvage


@dataclass(frozen=True, slots=True)
class Finished:
    """What a job that has ended was made of."""

    inbox: str
    name: str
    sha256: str | None
    sidecar: str | None

    @classmethod
    def of(cls, account: PublishedResult) -> Finished:
        told = account.input
        return cls(account.job.inbox, told.name, told.sha256, account.sidecar)


def remember_kept(
    config: Config, ledger: Ledger, found: Salvage, finished: Iterable[Finished]
) -> tuple[dict[str, int], list[str]]:
    """Note what is known of each inbox; how many files that are, and what people should know."""
    ended = set(finished)
    known: dict[str, int] = {}
    remarks: list[str] = []
    for inbox in config.inboxes:
        rows = [row for row in found.known_files if row["inbox"] == inbox.name]
        rows = [row for row in rows if not _is_lost(ledger, found, row["drop_id"])]
        has_told = f"watched:{inbox.name}" in found.settings
        if inbox.keeps:
            told = {row["path"] for row in rows}
            rows += [row for row in _matching(config, inbox, ended) if row["path"] not in told]
        rows = [row | {"drop_id": None} for row in rows]
        ledger.transact(lambda s, r=rows: drops.remember_files(s, r))
        if rows:
            known[inbox.name] = len(rows)
        # Without this the next look would take all that lies there for what was there before.
        if has_told or inbox.existing == "process":
            name = f"watched:{inbox.name}"
            ledger.transact(lambda s, n=name: store.set_setting(s, n, "repaired"))
        else:
            remarks.append(
                f"inbox {inbox.name}: what lies there now is ignored once more (existing: "
                "ignore); touch a file to have it taken in"
            )
        if inbox.keeps and not has_told:
            remarks.append(
                f"inbox {inbox.name}: its files are known by the results alone; those without "
                "one, or with another YAML, run again"
            )
    return known, remarks


def _is_lost(ledger: Ledger, found: Salvage, drop_id: str | None) -> bool:
    """Whether what was made of a file waited, and waits no longer: it is to be taken in anew."""
    if drop_id not in found.drops:
        return False
    jobs = found.jobs_of.get(str(drop_id), set())
    known = [ledger.transact(lambda s, i=job: queue.find_job(s, i)) for job in jobs]
    restored = ledger.transact(lambda s: drops.drop_state(s, str(drop_id)))
    return restored is None and (not jobs or None in known)


def _matching(config: Config, inbox: Inbox, ended: set[Finished]) -> list[dict[str, Any]]:
    try:
        lying = candidates(inbox)
    except OSError:
        return []  # the inbox is away
    rows = [_row(config, inbox, candidate, ended) for candidate in lying]
    return [row for row in rows if row is not None]


def _row(
    config: Config, inbox: Inbox, candidate: Candidate, ended: set[Finished]
) -> dict[str, Any] | None:
    if candidate.image is None or candidate.error is not None:
        return None
    try:
        hashed = claims.hash_in_place(inbox.path / candidate.image)
        paths = [path for path in (candidate.image, candidate.sidecar) if path is not None]
        stats = {path: FileStat.of((inbox.path / path).lstat()) for path in paths}
        data = (
            job_rows.read_sidecar(inbox.path / candidate.sidecar)
            if candidate.sidecar is not None
            else None
        )
    except (claims.ClaimError, OSError):
        return None
    folder, _, image = candidate.image.rpartition("/")
    name = printable(image)
    text = None if data is None else job_rows.as_text(data)
    if Finished(inbox.name, name, hashed.sha256, text) not in ended:
        return None
    facts = job_rows.context_of(inbox, folder, image, hashed.sha256)
    key = job_rows.Resolver(config, inbox).version_key(facts, data, None)
    version = Version(stats, key)
    path = key_path(candidate, partial(read_reference, inbox))
    return {
        "inbox": inbox.name, "path": path, "stat": to_json(version.stats),
        "key": version.key, "error": None, "drop_id": None,
    }  # fmt: skip
