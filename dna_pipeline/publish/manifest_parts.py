"""Parts of manifest.json and error.json, built from rows of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dna_pipeline import __version__
from dna_pipeline.base.files import INTERMEDIATE, sha256_file
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Job, StageRun
from dna_pipeline.publish.manifest import (
    ArtifactPart,
    InputFilePart,
    InputPart,
    JobPart,
    ModelPart,
    ReusedPart,
    StagePart,
)
from dna_pipeline.stages import companions

StageFiles = list[tuple[StageRun, list[ArtifactRow]]]
"""Finished stages of a job, each with its files."""


def job_part(job: Job) -> JobPart:
    return JobPart(
        id=job.id, batch=job.batch, inbox=job.inbox, pipeline=job.pipeline, priority=job.priority,
        attempt=job.attempt, tags=job.tags, meta=job.meta,
        created_at=format_time(job.created_at),
        started_at=format_time(job.started_at) if job.started_at else None,
        finished_at=format_time(job.finished_at or utcnow()),
    )  # fmt: skip


def input_part(job: Job, drop: Drop) -> InputPart:
    return InputPart(
        name=job.name, sha256=drop.sha256, bytes=drop.bytes, width=drop.width, height=drop.height,
        files=[InputFilePart(**file) for file in _input_files(job, drop)],
    )  # fmt: skip


def _input_files(job: Job, drop: Drop) -> Iterator[Mapping[str, Any]]:
    if drop.image is not None:
        facts = {"sha256": drop.sha256, "bytes": drop.bytes}
        yield {"role": "image", "name": drop.image} | facts
    if drop.sidecar is not None:
        facts = {"sha256": None, "bytes": None}
        with suppress(OSError):  # its inbox may be out of reach
            path = Path(drop.claim, drop.sidecar)
            facts = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        yield {"role": "sidecar", "name": drop.sidecar} | facts
    yield from companions.of_job(drop.companions, job.stages)


def originals_of(drop: Drop, stages: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """List the names of a drop's files; with a job's stages, without the companions that only
    other jobs of the drop name."""
    others = [file["name"] for file in companions.of_job(drop.companions, stages)]
    return [name for name in (drop.image, drop.sidecar, *others) if name is not None]


def stage_part(run: StageRun) -> StagePart:
    return StagePart(
        id=run.stage_id, type=run.type, provider=run.provider,
        model=ModelPart(**run.model) if run.model else None, params=run.params, device=run.device,
        dtype=run.dtype, batch_size=run.batch_size, seconds=run.seconds, warnings=run.warnings,
        stage_key=run.stage_key,
        reused_from=ReusedPart(**run.reused_from) if run.reused_from else None,
    )  # fmt: skip


def published(stages: StageFiles) -> StageFiles:
    """Leave out the files that belong in no result: those for the next stage alone."""
    return [(run, [file for file in files if file.role != INTERMEDIATE]) for run, files in stages]


def artifact_part(file: ArtifactRow) -> ArtifactPart:
    facts: dict[str, Any] = file.facts
    return ArtifactPart(
        path=file.path, role=file.role, media_type=file.media_type, bytes=file.bytes,
        sha256=file.sha256, **facts,
    )  # fmt: skip


def makes_parts(run: StageRun, files: list[ArtifactRow]) -> bool:
    """True if a stage's rows form valid parts of a manifest."""
    try:
        stage_part(run)
        for file in files:
            artifact_part(file)
    except (ValueError, TypeError):
        return False
    return True


def environment(stages: StageFiles) -> dict[str, Any]:
    values: dict[str, Any] = {"dna_pipeline": __version__}
    for run, _ in stages:
        values |= run.environment
    return values
