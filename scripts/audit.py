"""Audit of a site: finds dropped files that were lost, doubled, corrupted or left half written.

The daemon must be at rest. The audit reads the ledger, the outbox, the inboxes and the data folder.
It shares no code with the program that it judges, except for opening the database.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audit_outbox import check_outbox, own_text
from findings import Dropped, DroppedBatch, Findings, dropped_files, mend, sha256_of
from masks import NAMED, companions_of, mask_name, named_mask

from dna_pipeline.ledger.engine import sqlite_module

__all__ = ["Dropped", "DroppedBatch", "Findings", "audit"]

SUBMIT = "submit"
"""Inbox of `submit`; also that of a drop while a command fills the drop's claim."""
SUBMITTED = "submitted"
"""Folder with the files that were submitted; they stay there."""

_NAMES = ("image", "sidecar")


def audit(
    root: Path,
    dropped: Sequence[Dropped],
    batches: Sequence[DroppedBatch] = (),
    *,
    is_traced: bool = True,
    killed_commands: int = 0,
) -> Findings:
    """Audit a site whose daemon is at rest.

    Args:
        root: folder with `inbox/`, `outbox/` and `data/`.
        is_traced: True if the stages were those of `stand_in`.
        killed_commands: number of `submit` and `retry` commands that were killed; each may have
            left one unfinished claim.
    """
    findings = Findings()
    ledger = _read_ledger(root)
    if ledger.damage != "ok":
        findings.corrupt.append(f"the ledger: {ledger.damage}")
    _check_open_drops(ledger, killed_commands, findings)
    _check_drops(root, dropped, ledger.jobs, findings)
    _check_named_masks(root, ledger.jobs, findings)
    _check_dropped_batches(root, batches, ledger.batches, findings)
    check_outbox(root / "outbox", ledger.jobs, ledger.batches, findings, is_traced=is_traced)
    _check_litter(root, ledger.abandoned, dropped, findings)
    return findings


class _LedgerContent:
    """Rows that the audit reads from the database."""

    def __init__(self) -> None:
        self.damage = "ok"
        self.jobs: list[dict[str, Any]] = []
        self.batches: list[dict[str, Any]] = []
        self.open_drops: list[str] = []
        self.abandoned: set[str] = set()


def _read_ledger(root: Path) -> _LedgerContent:
    module = sqlite_module()
    database = module.connect(root / "data/ledger.db")
    database.row_factory = module.Row
    ledger = _LedgerContent()
    try:
        ledger.damage = database.execute("PRAGMA integrity_check").fetchone()[0]
        rows = database.execute(
            """SELECT jobs.*, drops.sha256, drops.image, drops.sidecar, drops.sidecar_text,
                drops.companions, drops.originals, drops.bytes AS size, drops.state AS drop_state
            FROM jobs JOIN drops ON drops.id = jobs.drop_id"""
        )
        artifacts = _artifacts(database)
        ledger.jobs = [
            dict(row) | _names(row) | {"path": _path(row), "artifacts": artifacts[row["id"]]}
            for row in rows
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
    """Read name and hash of the files of each job's finished stages."""
    artifacts: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for job, path, sha256 in database.execute("SELECT job_id, path, sha256 FROM artifacts"):
        artifacts[job].add((path, sha256))
    return artifacts


def _names(row: Any) -> dict[str, str | None]:
    """Decode the file names, which the ledger keeps as bytes of the file system."""
    return {key: None if row[key] is None else os.fsdecode(row[key]) for key in _NAMES}


def _path(row: Any) -> str:
    """Path of a job's input below its inbox."""
    return f"{row['folder']}/{row['name']}" if row["folder"] else row["name"]


def _check_open_drops(ledger: _LedgerContent, killed_commands: int, findings: Findings) -> None:
    findings.unfinished_claims = len(ledger.abandoned)
    findings.half_written += [f"drop {drop} is still open" for drop in ledger.open_drops]
    if len(ledger.abandoned) > killed_commands:
        text = f"{len(ledger.abandoned)} claims are unfinished, but {killed_commands} commands"
        findings.half_written.append(f"{text} were killed")
    for job in ledger.jobs:
        if job["drop_id"] in ledger.abandoned:
            findings.half_written.append(f"job {job['name']} has a claim that is unfinished")


# --- inputs ---


def _check_drops(
    root: Path, dropped: Sequence[Dropped], jobs: list[dict[str, Any]], findings: Findings
) -> None:
    jobs_of: defaultdict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for job in jobs:
        if job["image"]:
            jobs_of[job["inbox"], job["path"], job["sha256"]].append(job)
    allowed: Counter[tuple[str, str, str]] = Counter()
    for item in dropped:
        key = (item.inbox, item.name, item.sha256)
        allowed |= Counter({key: item.jobs})
        allowed |= Counter({(item.inbox, item.name, sha256): 1 for sha256 in item.older})
        _check_drop(item, jobs_of[key], findings)
        _check_kept(root, item, findings)
    for key, group in jobs_of.items():
        if group and not allowed[key]:
            findings.corrupt.append(f"{key[0]}/{key[1]} was taken in as it never was")
        elif len(group) > allowed[key]:
            findings.doubled.append(f"{key[0]}/{key[1]} has {len(group)} jobs, not {allowed[key]}")


def _check_drop(item: Dropped, jobs: list[dict[str, Any]], findings: Findings) -> None:
    where = f"{item.inbox}/{item.name}"
    if item.is_certain and len(jobs) < item.jobs:
        findings.lost.append(f"{where} has {len(jobs)} jobs, not {item.jobs}")
    for job in jobs if item.sidecar is not None and item.jobs == 1 else ():
        if job["sidecar_text"] not in (item.sidecar, mend(item.sidecar or "")):
            findings.lost.append(f"{where}: its sidecar was not read")
    for job in jobs if item.mask is not None else ():
        if [file["sha256"] for file in companions_of(job)] != [item.mask]:
            findings.lost.append(f"{where}: its mask was not taken in with it")
    for job in jobs:
        text = own_text(job)
        if job["status"] == "completed" and text is not None and mend(text) != text:
            findings.corrupt.append(f"{where} was completed although its YAML asks for a failure")


def _check_named_masks(root: Path, jobs: list[dict[str, Any]], findings: Findings) -> None:
    """Check that each job has the mask that it names, and that the mask is where it was."""
    for path in sorted(root.glob(f"inbox/*/{NAMED}")):
        if path.read_bytes() != named_mask():
            findings.corrupt.append(f"{path.relative_to(root)} is not as it was")
    sha256 = sha256_of(named_mask())
    for job in jobs:
        stages: list[dict[str, Any]] = json.loads(job["stages"])
        values = [value for stage in stages for value in stage.get("params", {}).values()]
        names_it = any(str(value).endswith(NAMED) for value in values)
        findings.named_masks += names_it
        if names_it and sha256 not in [file["sha256"] for file in companions_of(job)]:
            findings.lost.append(f"{job['inbox']}/{job['name']} lacks the mask that it names")


def _check_kept(root: Path, item: Dropped, findings: Findings) -> None:
    if item.inbox == SUBMIT:
        path = root / SUBMITTED / item.name
    elif item.inbox.startswith("keep"):
        path = root / "inbox" / item.inbox / item.name
    else:
        return
    files = {path: item.sha256}
    if item.mask is not None:
        files[path.with_name(mask_name(item.name))] = item.mask
    for path, sha256 in files.items():
        if not path.is_file() or sha256_of(path.read_bytes()) != sha256:
            findings.lost.append(f"{item.inbox}/{path.name} is not where it was left any more")


def _check_dropped_batches(
    root: Path,
    dropped: Sequence[DroppedBatch],
    batches: list[dict[str, Any]],
    findings: Findings,
) -> None:
    """Check that each job file and table became one batch, and is where the contract puts it."""
    for item in dropped:
        where = f"{item.inbox}/{item.name}"
        folder, _, name = item.name.rpartition("/")
        key = (item.inbox, folder, name)
        own = [b for b in batches if (b["inbox"], b["folder"], b["name"]) == key]
        if not own:
            findings.lost.append(f"{where} has become no batch")
        if len(own) > 1:
            findings.doubled.append(f"{where} has become {len(own)} batches")
        for batch in own:
            if batch["rows"] != item.rows or batch["wrong"]:
                text = f"{batch['rows']} rows, {batch['wrong']} wrong, not {item.rows} right ones"
                findings.lost.append(f"{where} has {text}")
            _check_batch_files(root, item, batch, findings)


def _check_batch_files(
    root: Path, item: DroppedBatch, batch: dict[str, Any], findings: Findings
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
            findings.lost.append(f"{item.inbox}/{item.name}: {name} is not where it should be")


# --- leftovers ---


def _check_litter(
    root: Path, abandoned: set[str], dropped: Sequence[Dropped], findings: Findings
) -> None:
    places = ["inbox/*/.dna", "outbox/.dna", "data/work", "data/claims", "data/recovered"]
    litter = [path for place in places for top in root.glob(place) for path in top.rglob("*")]
    litter = [path for path in litter if path.is_file() or path.parent.name in ("work", "claims")]
    litter += [path for top in ("outbox", "data") for path in (root / top).rglob("*.tmp")]
    for inbox in ("archive", "delete"):
        litter += dropped_files(root / "inbox" / inbox)
    own = {root / "data/claims" / drop for drop in abandoned} | _last_copies(root, dropped)
    leftovers = sorted(path for path in set(litter) if not own & {path, *path.parents})
    findings.half_written += [f"left over: {path.relative_to(root)}" for path in leftovers]


def _last_copies(root: Path, dropped: Sequence[Dropped]) -> set[Path]:
    """List the recovered folders with a version of an image that was overwritten in its inbox after
    it was copied. The daemon has to keep such a copy, since it is the last there is."""
    older = {sha256 for item in dropped for sha256 in item.older}
    files = [path for path in (root / "data/recovered").glob("*/*") if path.is_file()]
    return {path.parent for path in files if sha256_of(path.read_bytes()) in older}
