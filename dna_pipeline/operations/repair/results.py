"""Jobs as their folders in the outbox tell of them: rows for a ledger that has lost its own."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from dna_pipeline.base.errors import Cancelled, Failure
from dna_pipeline.base.naming import safe_stem
from dna_pipeline.intake.discovery.scan import is_yaml_name
from dna_pipeline.intake.planning.job_rows import printable
from dna_pipeline.ledger import model_sets
from dna_pipeline.ledger.store import new_id
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.manifest import (
    ERROR_NAME,
    NAME,
    ArtifactPart,
    ErrorReport,
    InputPart,
    JobPart,
    Manifest,
    StagePart,
)
from dna_pipeline.publish.outbox import CANCELLED, FAILED, SOURCE

_ROLE_STAGES = {"image": "img2img", "matte": "remove_background"}


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """A published folder: its path below the outbox, and what its manifest or error.json says.

    Attributes:
        source: names of the files in the folder's `source`.
        sidecar: the YAML as written, where that is known.
    """

    name: str
    sha256: str
    manifest: Manifest | ErrorReport
    source: tuple[str, ...]
    sidecar: str | None

    @property
    def job(self) -> JobPart:
        return self.manifest.job

    @property
    def input(self) -> InputPart:
        return self.manifest.input

    @property
    def status(self) -> str:
        if isinstance(self.manifest, Manifest):
            return "completed"
        return "cancelled" if self.manifest.code == Cancelled.code else "failed"


def find_results(outbox: Path) -> Iterator[Path]:
    """The manifest.json or error.json of all published folders, and the accounts of cancelled rows.

    What lies in a published folder's `source` is what was dropped, whatever it is called.
    """
    for folder, below, names in os.walk(outbox):
        found = [Path(folder, name) for name in sorted({NAME, ERROR_NAME} & set(names))]
        if cancelled_rows.is_shared(folder):
            found += cancelled_rows.manifests(Path(folder))
        passed_over = {SOURCE} if found else set[str]()
        below[:] = sorted(n for n in below if not n.startswith(".") and n not in passed_over)
        yield from found


def read_result(outbox: Path, path: Path) -> PublishedResult | str:
    """What that file tells; in words why it tells nothing."""
    folder, name = path.parent, path.name
    relative = folder.relative_to(outbox).as_posix()
    try:
        data = (folder / name).read_bytes()
        told = _model(name).model_validate_json(data)
        names, sidecar = _sources(path, told)
        _check(told.job)
    except (OSError, ValueError) as error:
        return f"{relative}/{name}: {str(error).splitlines()[0]}"
    return PublishedResult(relative, hashlib.sha256(data).hexdigest(), told, names, sidecar)


def _model(name: str) -> type[Manifest | ErrorReport]:
    if name == NAME:
        return Manifest
    return ErrorReport if name == ERROR_NAME else cancelled_rows.CancelledRow


def _sources(path: Path, told: Manifest | ErrorReport) -> tuple[tuple[str, ...], str | None]:
    """Names of the originals that belong to an account, and the text of its YAML."""
    if isinstance(told, cancelled_rows.CancelledRow):
        row = cancelled_rows.RowFiles(path, told)
        names = () if row.image is None else (row.image.name,)
        return names, _text(row.request) if row.request.is_file() else None
    source = path.parent / SOURCE
    names = tuple(sorted(p.name for p in source.iterdir())) if source.is_dir() else ()
    return names, told.sidecar if isinstance(told, Manifest) else _sidecar_text(source, names, told)


def _check(job: JobPart) -> None:
    """What anyone may have written must not make rows that nothing else could."""
    if not re.fullmatch("[0-9a-f]{32}", job.id):
        raise ValueError("the job's id is none of ours")
    for text in (job.created_at, job.started_at, job.finished_at):
        if text is not None and _time(text).tzinfo is None:
            raise ValueError("a time without a zone")


def image_of(names: Sequence[str], known: str | None) -> str | None:
    """The name of the image among the files of a drop; None where it cannot be told.

    What is submitted may have any name, and standard input has none with a suffix: so it is the
    one that is known, as printed, else the one file that is no YAML.
    """
    named = [name for name in names if known is not None and known in (name, printable(name))]
    found = named or [name for name in names if not is_yaml_name(name)]
    return found[0] if len(found) == 1 else None


def sidecar_of(names: Sequence[str], image: str | None, known: str | None = None) -> str | None:
    """The name of the YAML beside an image, which may itself be called like one."""
    found = sorted(name for name in names if name != image and is_yaml_name(name))
    return known if known in found else next(iter(found), None)


def _sidecar_text(source: Path, names: tuple[str, ...], told: Manifest | ErrorReport) -> str | None:
    sidecar = sidecar_of(names, image_of(names, told.input.name))
    return None if sidecar is None else _text(source / sidecar)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Rows:
    """What one account becomes, by table."""

    drop: dict[str, Any]
    job: dict[str, Any]
    stages: list[dict[str, Any]]
    artifacts: list[dict[str, Any]]
    events: list[dict[str, Any]]


def rows_of(account: PublishedResult, originals: str, drop_id: str | None = None) -> Rows:
    """The rows of a job that has ended and whose drop is gone."""
    drop = _drop(account, originals, drop_id or new_id())
    stages = [_stage_run(account.manifest, stage) for stage in account.manifest.stages]
    artifacts = [_artifact(account.manifest, file) for file in account.manifest.artifacts]
    return Rows(drop, _job(account, drop["id"]), stages, artifacts, _events(account))


def _drop(account: PublishedResult, originals: str, drop_id: str) -> dict[str, Any]:
    image = image_of(account.source, account.input.name) or account.input.name
    sidecar = sidecar_of(account.source, image)
    facts = account.input
    return {
        "id": drop_id, "inbox": account.job.inbox, "state": "gone", "originals": originals,
        "folder": _folder(account), "claim": "", "image": image, "sidecar": sidecar, "stat": {},
        "error": None, "sha256": facts.sha256, "bytes": facts.bytes, "width": facts.width,
        "height": facts.height, "sidecar_text": account.sidecar,
        "created_at": _time(account.job.created_at),
    }  # fmt: skip


def _folder(account: PublishedResult) -> str:
    """The subfolder that was mirrored, a batch's for its results; failures do not tell theirs."""
    above = account.name.split("/")[1:-1]  # a copy may lie anywhere in the outbox
    if above[:1] in ([FAILED], [CANCELLED]):
        return ""
    if account.job.batch is None:
        return "/".join(above)
    if isinstance(account.manifest, cancelled_rows.CancelledRow):
        below = PurePosixPath(account.manifest.source or SOURCE).parent.parts[1:]
        return "/".join([*above[:-1], *below])
    if above[-1:] == [CANCELLED]:
        above.pop()  # a cancelled row with a folder of its own
    return "/".join(above[:-1])


def _job(account: PublishedResult, drop_id: str) -> dict[str, Any]:
    told, job = account.manifest, account.job
    is_result = isinstance(told, Manifest)
    stages = told.stages if is_result else []
    models = [stage.model.name for stage in stages if stage.model is not None]
    return {
        "id": job.id, "drop_id": drop_id, "batch": job.batch, "inbox": job.inbox,
        "folder": _folder(account), "name": account.input.name,
        "stem": safe_stem(account.input.name), "pipeline": job.pipeline, "priority": job.priority,
        "status": account.status, "stages": [_stage(stage) for stage in stages],
        "models": model_sets.text_of(models), "tags": job.tags, "meta": job.meta,
        "attempt": job.attempt,
        "stage": None if is_result else told.stage, "error": None if is_result else _error(told),
        "publish": "done", "publish_name": account.name, "manifest_sha256": account.sha256,
        "original_place": getattr(told, "source", None),
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at) if job.started_at else None,
        "finished_at": _time(job.finished_at),
    }  # fmt: skip


def _stage(stage: StagePart) -> dict[str, Any]:
    return {"id": stage.id, "type": stage.type, "params": stage.params}


def _error(told: ErrorReport) -> dict[str, Any]:
    names = ("code", "message", "detail", "hint", "retryable")
    return Failure.from_dict({name: getattr(told, name) for name in names}).to_dict()


def _stage_run(manifest: Manifest | ErrorReport, stage: StagePart) -> dict[str, Any]:
    facts = stage.model_dump(mode="json")
    return {
        "job_id": manifest.job.id, "stage_id": facts.pop("id"), "attempt": manifest.job.attempt,
        "environment": manifest.environment, "finished_at": _time(manifest.job.finished_at),
        **facts,
    }  # fmt: skip


def _artifact(manifest: Manifest | ErrorReport, file: ArtifactPart) -> dict[str, Any]:
    facts = file.model_dump(mode="json")
    plain = {name: facts.pop(name) for name in ("path", "role", "media_type", "bytes", "sha256")}
    stage_id = _made_by(manifest, file)
    return {"job_id": manifest.job.id, "stage_id": stage_id, "facts": facts, **plain}


def _made_by(manifest: Manifest | ErrorReport, file: ArtifactPart) -> str:
    """The stage that made a file: its id follows the stem where types repeat, else the role tells.
    A stem may hold dots, and words that are ids too."""
    rest = file.path.removeprefix(f"{safe_stem(manifest.input.name)}.").split(".")
    kinds = Counter(stage.type for stage in manifest.stages)
    repeated = [stage.id for stage in manifest.stages if kinds[stage.type] > 1]
    named = [stage_id for stage_id in repeated if rest[0] == stage_id]
    kind = _ROLE_STAGES.get(file.role, "triposr")
    typed = [stage.id for stage in manifest.stages if stage.type == kind]
    return next(iter([*named, *typed]), kind)


def _events(account: PublishedResult) -> list[dict[str, Any]]:
    job, told = account.job, account.manifest
    queued = {"inbox": job.inbox, "name": account.input.name, "pipeline": job.pipeline}
    ended = {} if isinstance(told, Manifest) else {"code": told.code, "detail": told.detail}
    return [
        {"job_id": job.id, "at": _time(at), "kind": kind, "data": {**data, "rebuilt": True}}
        for at, kind, data in (
            (job.created_at, "queued", queued),
            (job.finished_at, account.status, ended),
        )
    ]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
