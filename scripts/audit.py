"""Counts what became of files that were dropped: whether any was lost, doubled or halved.

Looks only at what is left when nothing is under way: the ledger, the outbox, the inboxes and the
data folder. It shares no code with what it judges, but for opening the database.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stand_in import trace

from dna_pipeline.ledger.engine import sqlite_module

_NAMES = ("image", "sidecar")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file's last version that was dropped, and the older ones that it may have overtaken."""

    inbox: str
    name: str
    """With its folder below the inbox, if any: `a/cat.png`."""
    sha256: str
    sidecar: str | None = None
    """Its text, where it certainly lay there before the image."""
    older: tuple[str, ...] = ()


@dataclass(slots=True)
class Findings:
    """Numbers, and sentences about each thing that should not be."""

    jobs: int = 0
    results: int = 0
    failures: int = 0
    lost: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])
    corrupt: list[str] = field(default_factory=list[str])
    half_written: list[str] = field(default_factory=list[str])

    @property
    def is_well(self) -> bool:
        return not (self.lost or self.doubled or self.corrupt or self.half_written)

    def numbers(self) -> dict[str, int]:
        """The lists as their lengths."""
        return {
            "jobs": self.jobs, "results": self.results, "failures": self.failures,
            "lost": len(self.lost), "doubled": len(self.doubled), "corrupt": len(self.corrupt),
            "half_written": len(self.half_written),
        }  # fmt: skip

    def sentences(self) -> list[str]:
        return [
            f"{kind}: {what}"
            for kind in ("lost", "doubled", "corrupt", "half_written")
            for what in getattr(self, kind)
        ]


def audit(root: Path, dropped: list[Dropped], *, is_traced: bool = True) -> Findings:
    """Look at a site whose daemon has come to rest.

    Args:
        root: holds `inbox/`, `outbox/` and `data/`.
        is_traced: the stages were `stand_in`'s.
    """
    found = Findings()
    jobs = _jobs(root, found)
    _check_drops(root, dropped, jobs, found)
    _check_folders(root, jobs, found, is_traced)
    _check_litter(root, found)
    return found


def _jobs(root: Path, found: Findings) -> list[dict[str, Any]]:
    module = sqlite_module()
    database = module.connect(root / "data/ledger.db")
    database.row_factory = module.Row
    try:
        if (said := database.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            found.corrupt.append(f"the ledger: {said}")
        rows = database.execute(
            """SELECT jobs.*, drops.sha256, drops.image, drops.sidecar, drops.sidecar_text,
                drops.originals, drops.bytes AS size, drops.state AS drop_state
            FROM jobs JOIN drops ON drops.id = jobs.drop_id"""
        )
        jobs = [dict(row) | _names(row) | {"path": _path(row)} for row in rows]
        for (drop,) in database.execute("SELECT id FROM drops WHERE state <> 'gone'"):
            found.half_written.append(f"drop {drop} is still open")
    finally:
        database.close()
    return jobs


def _names(row: Any) -> dict[str, str | None]:
    """File names, which the ledger keeps as the file system has them."""
    return {key: None if row[key] is None else os.fsdecode(row[key]) for key in _NAMES}


def _path(row: Any) -> str:
    """Where a job's input lay, below its inbox."""
    return f"{row['folder']}/{row['name']}" if row["folder"] else row["name"]


# --- inputs ---


def _check_drops(
    root: Path, dropped: list[Dropped], jobs: list[dict[str, Any]], found: Findings
) -> None:
    made = Counter((job["inbox"], job["path"], job["sha256"]) for job in jobs if job["image"])
    sidecars = {(job["inbox"], job["path"], job["sha256"]): job["sidecar_text"] for job in jobs}
    expected: set[tuple[str, str, str]] = set()
    for item in dropped:
        key = (item.inbox, item.name, item.sha256)
        expected.update((item.inbox, item.name, sha) for sha in (item.sha256, *item.older))
        if not made[key]:
            found.lost.append(f"{item.inbox}/{item.name} has no job")
        elif item.sidecar is not None and sidecars[key] != item.sidecar:
            found.lost.append(f"{item.inbox}/{item.name}: its sidecar was not heard")
        if item.inbox.startswith("keep"):
            _check_kept(root / "inbox" / item.inbox / item.name, item, found)
    for key, number in made.items():
        if number > 1:
            found.doubled.append(f"{key[0]}/{key[1]} has {number} jobs")
        if key not in expected:
            found.corrupt.append(f"{key[0]}/{key[1]} was taken in as it never was")


def _check_kept(path: Path, item: Dropped, found: Findings) -> None:
    if not path.is_file() or _sha256(path.read_bytes()) != item.sha256:
        found.lost.append(f"{item.inbox}/{item.name} is not in its inbox any more")


# --- results ---


def _check_folders(
    root: Path, jobs: list[dict[str, Any]], found: Findings, is_traced: bool
) -> None:
    outbox = root / "outbox"
    folders = {
        path.parent.relative_to(outbox).as_posix()
        for name in ("manifest.json", "error.json")
        for path in outbox.rglob(name)
        if ".dna" not in path.parts
    }
    found.jobs = len(jobs)
    for job in jobs:
        name = job["publish_name"]
        if job["publish"] != "done" or name not in folders:
            found.lost.append(f"job {job['name']} ({job['status']}) has no folder")
            continue
        folders.discard(name)
        if job["status"] == "completed":
            found.results += 1
            _check_result(outbox / name, job, found, is_traced)
        else:
            found.failures += 1
            _check_account(outbox / name / "error.json", job, found)
        if job["status"] != "completed" or job["originals"] == "archive":
            _check_source(outbox / name / "source", job, found)
    found.doubled += [f"{name} is nobody's folder" for name in sorted(folders)]


def _check_account(path: Path, job: dict[str, Any], found: Findings) -> dict[str, Any]:
    data = path.read_bytes() if path.is_file() else b""
    if _sha256(data) != job["manifest_sha256"]:
        found.corrupt.append(f"{path.parent.name}/{path.name} is not as it was committed")
        return {}
    account = json.loads(data)
    if account["job"]["id"] != job["id"]:
        found.doubled.append(f"{path.parent.name} is another job's")
    return account


def _check_result(folder: Path, job: dict[str, Any], found: Findings, is_traced: bool) -> None:
    account = _check_account(folder / "manifest.json", job, found)
    if not account:
        return
    if account["input"]["sha256"] != job["sha256"]:
        found.corrupt.append(f"{folder.name}: made of other bytes than were taken in")
    for artifact in account["artifacts"]:
        path = folder / artifact["path"]
        if not path.is_file() or _sha256(path.read_bytes()) != artifact["sha256"]:
            found.corrupt.append(f"{folder.name}/{path.name} is not what its manifest says")
        elif is_traced:
            _check_trace(path, artifact["path"], job, found)


def _check_trace(path: Path, name: str, job: dict[str, Any], found: Findings) -> None:
    """The image itself, and after it the ids of the stages so far, each once and in order."""
    data = path.read_bytes()
    ids = [stage["id"] for stage in json.loads(job["stages"])]
    upto = next((i for i, stage_id in enumerate(ids) if f".{stage_id}." in name), len(ids) - 1)
    traces = b"".join(trace(stage_id) for stage_id in ids[: upto + 1])
    if _sha256(data[: job["size"]]) != job["sha256"] or data[job["size"] :] != traces:
        found.corrupt.append(f"{path.parent.name}/{name} did not go through each stage once")


def _check_source(folder: Path, job: dict[str, Any], found: Findings) -> None:
    if job["image"] is not None and job["sha256"] is not None:
        path = folder / job["image"]
        if not path.is_file() or _sha256(path.read_bytes()) != job["sha256"]:
            found.lost.append(f"{folder.parent.name}: its source is not in it")
    if job["sidecar"] is not None:
        path = folder / job["sidecar"]
        if not path.is_file() or path.read_text() != job["sidecar_text"]:
            found.lost.append(f"{folder.parent.name}: its sidecar is not in it")


# --- leftovers ---


def _check_litter(root: Path, found: Findings) -> None:
    places = ["inbox/*/.dna", "outbox/.dna", "data/work", "data/claims"]
    litter = [path for place in places for top in root.glob(place) for path in top.rglob("*")]
    litter = [path for path in litter if path.is_file() or path.parent.name in ("work", "claims")]
    litter += [path for top in ("outbox", "data") for path in (root / top).rglob("*.tmp")]
    litter += [
        path
        for inbox in ("archive", "delete")
        for path in (root / "inbox" / inbox).rglob("*")
        if path.is_file() and ".dna" not in path.parts
    ]
    found.half_written += [f"left over: {path.relative_to(root)}" for path in sorted(set(litter))]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
