"""The audit of the outbox: each job must have exactly one folder, with all its files."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path, PurePath
from typing import Any

from findings import Findings, mend, sha256_of
from masks import companions_of
from stand_in import trace

Job = dict[str, Any]


def check_outbox(
    outbox: Path, jobs: list[Job], batches: list[Job], findings: Findings, *, is_traced: bool
) -> None:
    """Compare every folder with the ledger, and the ledger with the folders."""
    _Outbox(outbox, jobs, findings, is_traced=is_traced).check()
    for batch in batches:
        _check_report(outbox, batch, jobs, findings)


def own_text(job: Job) -> str | None:
    """Give the YAML of this job alone: the request of a row, else the sidecar."""
    return job["request"] if job["request"] is not None else job["sidecar_text"]


class _Outbox:
    """The folders of one outbox."""

    def __init__(self, root: Path, jobs: list[Job], findings: Findings, *, is_traced: bool) -> None:
        self.root = root
        self.jobs = jobs
        self.findings = findings
        self.is_traced = is_traced
        self.unclaimed = self._folders("manifest.json") | self._folders("error.json")
        self.own_folders = frozenset(self.unclaimed)

    def _folders(self, file_name: str) -> set[str]:
        """List the folders with a file of that name, relative to the outbox."""
        return {
            path.parent.relative_to(self.root).as_posix()
            for path in self.root.rglob(file_name)
            if ".dna" not in path.parts
        }

    def check(self) -> None:
        self.findings.jobs = len(self.jobs)
        rows: defaultdict[str, list[Job]] = defaultdict(list)
        for job in self.jobs:
            name = job["publish_name"]
            if job["publish"] != "done" or name is None:
                self.findings.lost.append(f"job {job['name']} ({job['status']}) has no folder")
            elif PurePath(name).name == "cancelled":
                rows[name].append(job)
            else:
                self._check_own_folder(job, name)
        shared = self._folders("CANCELLED.txt")
        for name in sorted(shared | rows.keys()):
            self._check_shared(name, rows[name])
        self.findings.doubled += [f"{name} is nobody's folder" for name in sorted(self.unclaimed)]

    # --- folders of one job ---

    def _check_own_folder(self, job: Job, name: str) -> None:
        if name not in self.unclaimed:
            self.findings.lost.append(f"job {job['name']} ({job['status']}) has no folder")
            return
        self.unclaimed.discard(name)
        folder = self.root / name
        if not _is_in_place(job, PurePath(name)):
            self.findings.lost.append(f"{name} is no place for a job that is {job['status']}")
        self._count(job)
        is_result = job["status"] == "completed"
        manifest_name = "manifest.json" if is_result else "error.json"
        manifest = self._check_manifest(folder / manifest_name, job)
        keeps_source = not is_result or job["originals"] == "archive"
        sources = self._check_source(folder / "source", job) if keeps_source else set[Path]()
        if manifest:
            self._check_artifacts(folder, manifest, job)
            self._check_finished_stages(name, manifest, job)
            artifacts = {folder / artifact["path"] for artifact in manifest.get("artifacts", ())}
            self._check_extra(folder, artifacts | sources)

    def _count(self, job: Job) -> None:
        if job["status"] == "completed":
            self.findings.results += 1
        elif job["status"] == "cancelled":
            self.findings.cancelled += 1
        else:
            self.findings.failures += 1

    def _check_extra(self, folder: Path, files: set[Path]) -> None:
        """Check that no other file is in the folder of a job."""
        expected = files | {folder / n for n in ("manifest.json", "error.json", "ERROR.txt")}
        extra = {path for path in folder.rglob("*") if path.is_file()} - expected
        text = "is no part of it"
        self.findings.doubled += [f"{folder.name}/{p.name} {text}" for p in sorted(extra)]

    def _check_manifest(self, path: Path, job: Job) -> dict[str, Any]:
        data = path.read_bytes() if path.is_file() else b""
        if sha256_of(data) != job["manifest_sha256"]:
            self.findings.corrupt.append(
                f"{path.parent.name}/{path.name} is not as it was committed"
            )
            return {}
        manifest = json.loads(data)
        if manifest["job"]["id"] != job["id"]:
            self.findings.doubled.append(f"{path.parent.name} is another job's")
        source: dict[str, Any] = manifest.get("input") or {}
        if source.get("sha256") != job["sha256"]:
            text = "made of other bytes than were taken in"
            self.findings.corrupt.append(f"{path.parent.name}: {text}")
        listed = {(file["role"], file["sha256"]) for file in source.get("files", ())}
        for file in companions_of(job):
            if (file["role"], file["sha256"]) not in listed:
                self.findings.lost.append(f"{path.parent.name}: its {file['role']} is not listed")
        return manifest

    def _check_artifacts(self, folder: Path, manifest: dict[str, Any], job: Job) -> None:
        for artifact in manifest.get("artifacts", ()):
            path = folder / artifact["path"]
            if not path.is_file() or sha256_of(path.read_bytes()) != artifact["sha256"]:
                self.findings.corrupt.append(
                    f"{folder.name}/{path.name} is not what its account says"
                )
            elif self.is_traced:
                self._check_trace(path, artifact["path"], job)

    def _check_trace(self, path: Path, name: str, job: Job) -> None:
        """Check that a file is the image followed by the ids of the stages so far, in order.

        The marks that its job's tags put into it are looked at apart.
        """
        data, is_marked = _without_marks(path.read_bytes())
        if is_marked != bool(json.loads(job["tags"] or "[]")):
            self.findings.corrupt.append(f"{path.parent.name}/{name} has not the marks of its tags")
        ids = _stage_ids(job)
        upto = next((i for i, stage_id in enumerate(ids) if f".{stage_id}." in name), len(ids) - 1)
        traces = b"".join(trace(stage_id) for stage_id in ids[: upto + 1])
        if sha256_of(data[: job["size"]]) != job["sha256"] or data[job["size"] :] != traces:
            text = "did not go through each stage once"
            self.findings.corrupt.append(f"{path.parent.name}/{name} {text}")

    def _check_finished_stages(self, name: str, manifest: dict[str, Any], job: Job) -> None:
        """Check that the folder has all files in the ledger, of all stages before a failed one."""
        listed = {(a["path"], a["sha256"]) for a in manifest.get("artifacts", ())}
        for path, _ in sorted(job["artifacts"] - listed):
            self.findings.lost.append(f"{name}: {path}, which a stage made, is not in it")
        ids, finished = _stage_ids(job), [stage["id"] for stage in manifest.get("stages", ())]
        failed_stage = manifest.get("stage")
        needed = ids if job["status"] == "completed" else ids[: _index(ids, failed_stage)]
        if finished[: len(needed)] != needed:
            self.findings.lost.append(
                f"{name}: the stages {needed} had finished, it has {finished}"
            )
        if self.is_traced and manifest.get("code") == "empty_foreground":
            text = own_text(job) or ""
            if mend(text) == text:
                self.findings.corrupt.append(f"{name} failed, which its YAML does not ask for")

    def _check_source(self, folder: Path, job: Job) -> set[Path]:
        """Check the originals in the source folder; give the paths that belong there."""
        files: set[Path] = set()
        if job["image"] is not None and job["sha256"] is not None:
            path = folder / job["image"]
            files.add(path)
            if not path.is_file() or sha256_of(path.read_bytes()) != job["sha256"]:
                self.findings.lost.append(f"{folder.parent.name}: its source is not in it")
        for file in companions_of(job):
            files.add(path := folder / file["name"])
            if not path.is_file() or sha256_of(path.read_bytes()) != file["sha256"]:
                self.findings.lost.append(f"{folder.parent.name}: its {file['role']} is not in it")
        text = own_text(job)
        if job["status"] == "completed" and job["sidecar"] is not None:
            text = job["sidecar_text"]
        if text is not None:
            path = folder / (job["sidecar"] or f"{job['image']}.yaml")
            files.add(path)
            if not _says(path, text):
                self.findings.lost.append(f"{folder.parent.name}: its sidecar is not in it")
        return files

    # --- folders that cancelled rows share ---

    def _check_shared(self, name: str, rows: list[Job]) -> None:
        folder = self.root / name
        expected = {folder / "CANCELLED.txt"}
        places: defaultdict[tuple[str, str], set[Path]] = defaultdict(set)
        for job in rows:
            files, place = self._check_row(folder, job)
            expected |= files
            if place is not None:
                places[job["path"], job["sha256"]].add(place)
        for (path, _), copies in places.items():
            if len(copies) > 1:
                self.findings.doubled.append(f"{name} has {len(copies)} copies of {path}")
        for path in sorted(expected):
            if not path.is_file():
                self.findings.lost.append(f"{name}: {path.relative_to(folder)} is missing")
        existing = {path for path in folder.rglob("*") if path.is_file()}
        own = {self.root / own for own in self.own_folders}
        extra = {path for path in existing - expected if not own & set(path.parents)}
        self.findings.doubled += [f"{p.relative_to(self.root)} is nobody's" for p in sorted(extra)]

    def _check_row(self, folder: Path, job: Job) -> tuple[set[Path], Path | None]:
        """Check a cancelled row; give its files and the path of its original."""
        self.findings.cancelled += 1
        self.findings.shared += 1
        where = f"{folder.parent.name}/cancelled, row {job['id'][:8]}"
        if job["artifacts"] or not _is_in_place(job, PurePath(job["publish_name"], "row")):
            self.findings.lost.append(f"{where}: is no place for this job")
        manifest_path = folder / f"{job['stem']}-{job['id'][:8]}.json"
        files = {manifest_path}
        if job["request"] is not None:
            files.add(request := manifest_path.with_suffix(".yaml"))
            if not _says(request, job["request"]):
                self.findings.lost.append(f"{where}: its request is not in it")
        source = self._check_manifest(manifest_path, job).get("source")
        if source is None:
            self.findings.lost.append(f"{where}: its original is not in it")
            return files, None
        place = folder / source
        files.add(place)
        if place.is_file() and sha256_of(place.read_bytes()) != job["sha256"]:
            self.findings.corrupt.append(f"{where}: its original was changed")
        return files, place


def _without_marks(png: bytes) -> tuple[bytes, bool]:
    """Cut the packet of XMP out of a PNG; True if it had one. It stands behind the header."""
    at = 33  # length of the signature and the header
    size = int.from_bytes(png[at : at + 4], "big")
    if png[at + 4 : at + 8] != b"iTXt" or not png[at + 8 :].startswith(b"XML:com.adobe.xmp\0"):
        return png, False
    return png[:at] + png[at + 12 + size :], True


def _stage_ids(job: Job) -> list[str]:
    return [stage["id"] for stage in json.loads(job["stages"])]


def _index(ids: list[str], stage_id: str | None) -> int:
    return ids.index(stage_id) if stage_id in ids else 0


def _says(path: Path, text: str) -> bool:
    """True if a YAML is unchanged, or changed as the campaign mends it."""
    return path.is_file() and path.read_text() in (text, mend(text))


def _is_in_place(job: Job, name: PurePath) -> bool:
    """True if the contract puts the folder of such a job there."""
    above, batch = name.parent, job["batch"]
    in_batch = batch is not None and f"-{batch[:8]}"
    if job["status"] == "completed":
        return "cancelled" not in name.parts and (not in_batch or above.name.endswith(in_batch))
    if job["cancelled_while"] != "waiting":
        return above == PurePath(job["inbox"], "failed")
    if in_batch:
        return above.name == "cancelled" and above.parent.name.endswith(in_batch)
    return above == PurePath(job["inbox"], "cancelled")


# --- batch.csv ---


def _check_report(outbox: Path, batch: Job, jobs: list[Job], findings: Findings) -> None:
    name = f"{batch['inbox']}/{batch['stem']}-{batch['id'][:8]}"
    if batch["state"] != "done":
        findings.half_written.append(f"batch {name} is still {batch['state']}")
    reports = list((outbox / batch["inbox"]).rglob(f"{batch['stem']}-{batch['id'][:8]}/batch.csv"))
    if len(reports) != 1:
        findings.lost.append(f"batch {name} has {len(reports)} reports")
        return
    with reports[0].open(newline="") as file:
        lines = list(csv.DictReader(file))
    own = {job["id"][:8]: job for job in jobs if job["batch"] == batch["id"]}
    if len(lines) != batch["rows"] or {line["job"] for line in lines} != own.keys():
        findings.lost.append(f"batch {name}: its report has not the rows of the ledger")
    for line in lines:
        job = own.get(line["job"])
        place = reports[0].parent / line["result"]
        if job is not None and (line["status"] != job["status"] or not place.is_dir()):
            findings.corrupt.append(f"batch {name}: row {line['row']} differs from the ledger")
