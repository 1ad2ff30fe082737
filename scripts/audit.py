"""Counts what became of files that were dropped: whether any was lost, doubled or halved.

Looks only at what is left when nothing is under way: the ledger, the outbox, the inboxes and the
data folder. It shares no code with what it judges, but for opening the database.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audit_outbox import check_outbox, own_text
from findings import Dropped, DroppedBatch, Findings, dropped_files, mend, sha256_of

from dna_pipeline.ledger.engine import sqlite_module

__all__ = ["Dropped", "DroppedBatch", "Findings", "audit"]

SUBMIT = "submit"
"""The inbox of `submit`; while a command fills a claim, the claim's drop has it too."""
SUBMITTED = "submitted"
"""Folder with the files that were submitted, which stay there."""

_NAMES = ("image", "sidecar")


def audit(
    root: Path,
    dropped: Sequence[Dropped],
    batches: Sequence[DroppedBatch] = (),
    *,
    is_traced: bool = True,
    killed_commands: int = 0,
) -> Findings:
    """Look at a site whose daemon has come to rest.

    Args:
        root: holds `inbox/`, `outbox/` and `data/`.
        is_traced: the stages were `stand_in`'s.
        killed_commands: how many `submit` and `retry` were killed; each may have left one claim
            that it was filling.
    """
    found = Findings()
    ledger = _read_ledger(root)
    if ledger.damage != "ok":
        found.corrupt.append(f"the ledger: {ledger.damage}")
    _check_open_drops(ledger, killed_commands, found)
    _check_drops(root, dropped, ledger.jobs, found)
    _check_dropped_batches(root, batches, ledger.batches, found)
    check_outbox(root / "outbox", ledger.jobs, ledger.batches, found, is_traced=is_traced)
    _check_litter(root, ledger.abandoned, found)
    return found


class _Ledger:
    """What is read from the database."""

    def __init__(self) -> None:
        self.damage = "ok"
        self.jobs: list[dict[str, Any]] = []
        self.batches: list[dict[str, Any]] = []
        self.open_drops: list[str] = []
        self.abandoned: set[str] = set()


def _read_ledger(root: Path) -> _Ledger:
    module = sqlite_module()
    database = module.connect(root / "data/ledger.db")
    database.row_factory = module.Row
    ledger = _Ledger()
    try:
        ledger.damage = database.execute("PRAGMA integrity_check").fetchone()[0]
        rows = database.execute(
            """SELECT jobs.*, drops.sha256, drops.image, drops.sidecar, drops.sidecar_text,
                drops.originals, drops.bytes AS size, drops.state AS drop_state
            FROM jobs JOIN drops ON drops.id = jobs.drop_id"""
        )
        made = _artifacts(database)
        ledger.jobs = [
            dict(row) | _names(row) | {"path": _path(row), "made": made[row["id"]]} for row in rows
        ]
        ledger.batches = [dict(row) for row in database.execute("SELECT * FROM batches")]
        for drop, state, inbox in database.execute(
            "SELECT id, state, inbox FROM drops WHERE state <> 'gone'"
        ):
            if (state, inbox) == ("claiming", SUBMIT):
                ledger.abandoned.add(drop)
            else:
                ledger.open_drops.append(drop)
    finally:
        database.close()
    return ledger


def _artifacts(database: Any) -> defaultdict[str, set[tuple[str, str]]]:
    """Name and hash of the files of each job's finished stages."""
    made: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for job, path, sha256 in database.execute("SELECT job_id, path, sha256 FROM artifacts"):
        made[job].add((path, sha256))
    return made


def _names(row: Any) -> dict[str, str | None]:
    """File names, which the ledger keeps as the file system has them."""
    return {key: None if row[key] is None else os.fsdecode(row[key]) for key in _NAMES}


def _path(row: Any) -> str:
    """Where a job's input lay, below its inbox."""
    return f"{row['folder']}/{row['name']}" if row["folder"] else row["name"]


def _check_open_drops(ledger: _Ledger, killed_commands: int, found: Findings) -> None:
    found.unfinished_claims = len(ledger.abandoned)
    found.half_written += [f"drop {drop} is still open" for drop in ledger.open_drops]
    if len(ledger.abandoned) > killed_commands:
        text = f"{len(ledger.abandoned)} claims are unfinished, but {killed_commands} commands"
        found.half_written.append(f"{text} were killed")
    for job in ledger.jobs:
        if job["drop_id"] in ledger.abandoned:
            found.half_written.append(f"job {job['name']} has a claim that is unfinished")


# --- inputs ---


def _check_drops(
    root: Path, dropped: Sequence[Dropped], jobs: list[dict[str, Any]], found: Findings
) -> None:
    made: defaultdict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for job in jobs:
        if job["image"]:
            made[job["inbox"], job["path"], job["sha256"]].append(job)
    allowed: Counter[tuple[str, str, str]] = Counter()
    for item in dropped:
        key = (item.inbox, item.name, item.sha256)
        allowed |= Counter({key: item.jobs})
        allowed |= Counter({(item.inbox, item.name, sha256): 1 for sha256 in item.older})
        _check_drop(item, made[key], found)
        _check_kept(root, item, found)
    for key, group in made.items():
        if group and not allowed[key]:
            found.corrupt.append(f"{key[0]}/{key[1]} was taken in as it never was")
        elif len(group) > allowed[key]:
            found.doubled.append(f"{key[0]}/{key[1]} has {len(group)} jobs, not {allowed[key]}")


def _check_drop(item: Dropped, jobs: list[dict[str, Any]], found: Findings) -> None:
    where = f"{item.inbox}/{item.name}"
    if item.is_certain and len(jobs) < item.jobs:
        found.lost.append(f"{where} has {len(jobs)} jobs, not {item.jobs}")
    for job in jobs if item.sidecar is not None and item.jobs == 1 else ():
        if job["sidecar_text"] not in (item.sidecar, mend(item.sidecar or "")):
            found.lost.append(f"{where}: its sidecar was not read")
    for job in jobs:
        text = own_text(job)
        if job["status"] == "completed" and text is not None and mend(text) != text:
            found.corrupt.append(f"{where} was completed although its YAML asks for a failure")


def _check_kept(root: Path, item: Dropped, found: Findings) -> None:
    if item.inbox == SUBMIT:
        path = root / SUBMITTED / item.name
    elif item.inbox.startswith("keep"):
        path = root / "inbox" / item.inbox / item.name
    else:
        return
    if not path.is_file() or sha256_of(path.read_bytes()) != item.sha256:
        found.lost.append(f"{item.inbox}/{item.name} is not where it was left any more")


def _check_dropped_batches(
    root: Path,
    dropped: Sequence[DroppedBatch],
    batches: list[dict[str, Any]],
    found: Findings,
) -> None:
    """Each job file and table has become one batch, and is where the contract says."""
    for item in dropped:
        where = f"{item.inbox}/{item.name}"
        folder, _, name = item.name.rpartition("/")
        key = (item.inbox, folder, name)
        own = [b for b in batches if (b["inbox"], b["folder"], b["name"]) == key]
        if not own:
            found.lost.append(f"{where} has become no batch")
        if len(own) > 1:
            found.doubled.append(f"{where} has become {len(own)} batches")
        for batch in own:
            if batch["rows"] != item.rows or batch["wrong"]:
                text = f"{batch['rows']} rows, {batch['wrong']} wrong, not {item.rows} right ones"
                found.lost.append(f"{where} has {text}")
            _check_batch_files(root, item, batch, found)


def _check_batch_files(
    root: Path, item: DroppedBatch, batch: dict[str, Any], found: Findings
) -> None:
    if item.inbox == "archive":
        homes = [p / "source" for p in (root / "outbox" / item.inbox).rglob(f"*-{batch['id'][:8]}")]
    elif item.inbox == "delete":
        return
    else:
        homes = [(root / "inbox" / item.inbox / item.name).parent]
    for name, sha256 in item.files:
        paths = [home / name for home in homes if (home / name).is_file()]
        if not any(sha256_of(path.read_bytes()) == sha256 for path in paths):
            found.lost.append(f"{item.inbox}/{item.name}: {name} is not where it should be")


# --- leftovers ---


def _check_litter(root: Path, abandoned: set[str], found: Findings) -> None:
    places = ["inbox/*/.dna", "outbox/.dna", "data/work", "data/claims", "data/recovered"]
    litter = [path for place in places for top in root.glob(place) for path in top.rglob("*")]
    litter = [path for path in litter if path.is_file() or path.parent.name in ("work", "claims")]
    litter += [path for top in ("outbox", "data") for path in (root / top).rglob("*.tmp")]
    for inbox in ("archive", "delete"):
        litter += dropped_files(root / "inbox" / inbox)
    claims = {root / "data/claims" / drop for drop in abandoned}
    left = sorted(path for path in set(litter) if not claims & {path, *path.parents})
    found.half_written += [f"left over: {path.relative_to(root)}" for path in left]
