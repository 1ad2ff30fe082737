"""Read published folders, and build from them the rows of jobs for a ledger that lost them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from dna_pipeline.base.errors import Cancelled, Failure
from dna_pipeline.base.layout import CANCELLED, FAILED, SOURCE
from dna_pipeline.base.naming import printable, safe_stem
from dna_pipeline.intake.discovery.mask_names import is_mask_name
from dna_pipeline.intake.discovery.scan import is_sidecar_name
from dna_pipeline.intake.planning.job_rows import as_text
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

_time = datetime.fromisoformat
_ROLE_STAGES = {"image": "img2img", "matte": "remove_background"}


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """A published folder, with the content of its manifest file.

    Attributes:
        name: path of the folder below the outbox.
        sha256: hash of the manifest file.
        manifest: content of manifest.json or error.json.
        source: names of the files in the folder's `source`.
        sidecar: text of the YAML; None if there was none or it is unknown.
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


def read_result(outbox: Path, path: Path) -> PublishedResult | str:
    """Read a manifest file; give a sentence for people if it cannot be used."""
    folder, name = path.parent, path.name
    relative = folder.relative_to(outbox).as_posix()
    try:
        data = (folder / name).read_bytes()
        manifest = _model(name).model_validate_json(data)
        names, sidecar = _sources(path, manifest)
        _check(manifest.job)
    except (OSError, ValueError) as error:
        return f"{relative}/{name}: {str(error).splitlines()[0]}"
    return PublishedResult(relative, hashlib.sha256(data).hexdigest(), manifest, names, sidecar)


def _model(name: str) -> type[Manifest | ErrorReport]:
    if name == NAME:
        return Manifest
    return ErrorReport if name == ERROR_NAME else cancelled_rows.CancelledRow


def _sources(path: Path, manifest: Manifest | ErrorReport) -> tuple[tuple[str, ...], str | None]:
    """Give the names of the originals that belong to a manifest file, and the text of its YAML."""
    if isinstance(manifest, cancelled_rows.CancelledRow):
        row = cancelled_rows.RowFiles(path, manifest)
        names = () if row.image is None else (row.image.name,)
        return names, as_text(row.request.read_bytes()) if row.request.is_file() else None
    source = path.parent / SOURCE
    names = tuple(sorted(p.name for p in source.iterdir())) if source.is_dir() else ()
    if isinstance(manifest, Manifest):
        return names, manifest.sidecar
    return names, _sidecar_text(source, names, manifest)


def _check(job: JobPart) -> None:
    """Reject ids and times that this program never writes: manifest files are untrusted input."""
    if not re.fullmatch("[0-9a-f]{32}", job.id):
        raise ValueError("the job's id is none of ours")
    for text in (job.created_at, job.started_at, job.finished_at):
        if text is not None and _time(text).tzinfo is None:
            raise ValueError("a time without a zone")


def image_of(names: Sequence[str], recorded_name: str | None) -> str | None:
    """Find the image among the files of a drop; None if that is not clear.

    A submitted image may have any name, and one from standard input has no suffix. So the image is
    the file with the recorded name, else the only file that is no YAML and no
    mask.

    Args:
        recorded_name: name of the image in ledger or manifest, perhaps in printable form.
    """
    matches = [name for name in names if recorded_name in (name, printable(name))]
    others = [name for name in names if not is_sidecar_name(name)]
    candidates = matches or [name for name in others if not is_mask_name(name)] or others
    return candidates[0] if len(candidates) == 1 else None


def sidecar_of(
    names: Sequence[str], image: str | None, recorded_name: str | None = None
) -> str | None:
    """Find the YAML beside an image; the image's own name may end like that of a YAML."""
    candidates = sorted(name for name in names if name != image and is_sidecar_name(name))
    return recorded_name if recorded_name in candidates else next(iter(candidates), None)


def _recorded_sidecar(
    manifest: Manifest | ErrorReport, names: Sequence[str], image: str | None
) -> str | None:
    """Find the YAML of a published job. Files that people put beside the originals do not count,
    where the manifest names the job's own; those of earlier versions do not."""
    if not manifest.input.files:
        return sidecar_of(names, image)
    recorded = {file.name for file in manifest.input.files if file.role == "sidecar"}
    return next((name for name in names if recorded & {name, printable(name)}), None)


def _sidecar_text(
    source: Path, names: tuple[str, ...], manifest: Manifest | ErrorReport
) -> str | None:
    sidecar = _recorded_sidecar(manifest, names, image_of(names, manifest.input.name))
    return None if sidecar is None else as_text((source / sidecar).read_bytes())


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one published result, by table."""

    drop: dict[str, Any]
    job: dict[str, Any]
    stages: list[dict[str, Any]]
    artifacts: list[dict[str, Any]]
    events: list[dict[str, Any]]


def rows_of(result: PublishedResult, originals: str) -> Rows:
    """Build the rows of a job that has ended and whose drop is gone."""
    drop = _drop(result, originals)
    stages = [_stage_run(result.manifest, stage) for stage in result.manifest.stages]
    artifacts = [_artifact(result.manifest, file) for file in result.manifest.artifacts]
    return Rows(drop, _job(result, drop["id"]), stages, artifacts, _events(result))


def _drop(result: PublishedResult, originals: str) -> dict[str, Any]:
    image = image_of(result.source, result.input.name) or result.input.name
    sidecar = _recorded_sidecar(result.manifest, result.source, image)
    original = result.input
    return {
        "id": new_id(), "inbox": result.job.inbox, "state": "gone", "originals": originals,
        "folder": _folder(result), "claim": "", "image": image, "sidecar": sidecar, "stat": {},
        "error": None, "sha256": original.sha256, "bytes": original.bytes, "width": original.width,
        "height": original.height, "sidecar_text": result.sidecar,
        "companions": [
            file.model_dump() for file in original.files if file.role not in ("image", "sidecar")
        ] or None,
        "created_at": _time(result.job.created_at),
    }  # fmt: skip


def _folder(result: PublishedResult) -> str:
    """Give the mirrored subfolder; for a batch, that of its results. A failure folder's place does
    not show it, so "" is given."""
    above = result.name.split("/")[1:-1]  # a copy may lie anywhere in the outbox
    if above[:1] in ([FAILED], [CANCELLED]):
        return ""
    if result.job.batch is None:
        return "/".join(above)
    if isinstance(result.manifest, cancelled_rows.CancelledRow):
        below = PurePosixPath(result.manifest.source or SOURCE).parent.parts[1:]
        return "/".join([*above[:-1], *below])
    if above[-1:] == [CANCELLED]:
        above.pop()  # a cancelled row with a folder of its own
    return "/".join(above[:-1])


def _job(result: PublishedResult, drop_id: str) -> dict[str, Any]:
    manifest, job = result.manifest, result.job
    is_result = isinstance(manifest, Manifest)
    stages = manifest.stages if is_result else []
    specs = [stage.model_dump(include={"id", "type", "params"}) for stage in stages]
    models = [stage.model.name for stage in stages if stage.model is not None]
    return {
        "id": job.id, "drop_id": drop_id, "batch": job.batch, "inbox": job.inbox,
        "folder": _folder(result), "name": result.input.name,
        "stem": safe_stem(result.input.name), "pipeline": job.pipeline, "priority": job.priority,
        "status": result.status, "stages": specs,
        "models": model_sets.text_of(models), "tags": job.tags, "meta": job.meta,
        "attempt": job.attempt,
        "stage": None if is_result else manifest.stage,
        "error": None if is_result else Failure.from_dict(dict(manifest)).to_dict(),
        "publish": "done", "publish_name": result.name, "manifest_sha256": result.sha256,
        "original_place": getattr(manifest, "source", None),
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at) if job.started_at else None,
        "finished_at": _time(job.finished_at),
    }  # fmt: skip


def _stage_run(manifest: Manifest | ErrorReport, stage: StagePart) -> dict[str, Any]:
    fields = stage.model_dump(mode="json")
    return {
        "job_id": manifest.job.id, "stage_id": fields.pop("id"), "attempt": manifest.job.attempt,
        "environment": manifest.environment, "finished_at": _time(manifest.job.finished_at),
        "reused_from": None, **fields,
    }  # fmt: skip


def _artifact(manifest: Manifest | ErrorReport, file: ArtifactPart) -> dict[str, Any]:
    facts = file.model_dump(mode="json")
    plain = {name: facts.pop(name) for name in ("path", "role", "media_type", "bytes", "sha256")}
    stage_id = _made_by(manifest, file)
    return {"job_id": manifest.job.id, "stage_id": stage_id, "facts": facts, **plain}


def _made_by(manifest: Manifest | ErrorReport, file: ArtifactPart) -> str:
    """Find the stage that made a file: by the id behind the stem if stages of one type repeat, else
    by the file's role. The stem is removed first, since it may hold dots and words like ids."""
    rest = file.path.removeprefix(f"{safe_stem(manifest.input.name)}.").split(".")
    kinds = Counter(stage.type for stage in manifest.stages)
    repeated = [stage.id for stage in manifest.stages if kinds[stage.type] > 1]
    matches = [stage_id for stage_id in repeated if rest[0] == stage_id]
    kind = _ROLE_STAGES.get(file.role, "triposr")
    typed = [stage.id for stage in manifest.stages if stage.type == kind]
    return next(iter([*matches, *typed]), kind)


def _events(result: PublishedResult) -> list[dict[str, Any]]:
    job, manifest = result.job, result.manifest
    queued = {"inbox": job.inbox, "name": result.input.name, "pipeline": job.pipeline}
    is_result = isinstance(manifest, Manifest)
    ended = {} if is_result else {"code": manifest.code, "detail": manifest.detail}
    return [
        {
            "job_id": job.id,
            "at": _time(at),
            "kind": kind,
            "data": {**data, "rebuilt": True},
        }
        for at, kind, data in (
            (job.created_at, "queued", queued),
            (job.finished_at, result.status, ended),
        )
    ]
