"""Orders for the jobs of the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dna_pipeline.execution.kept_requests import JobRequests
from dna_pipeline.execution.protocol import FileRecord, Order, OrderInput, StageOrder
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Job, StageRun
from dna_pipeline.stages import companions


def order_of(
    job: Job,
    drop: Drop,
    done: Iterable[tuple[StageRun, list[ArtifactRow]]],
    work_dir: Path,
    requests: JobRequests,
) -> Order:
    """The order for the next attempt at a job.

    Args:
        done: the stages that have run before, with their files.
        requests: names what its stages ask for.
    """
    runs = {run.stage_id: (run, files) for run, files in done}
    stems = stage_stems(job)
    stages = tuple(
        _done(order, *runs[order.id]) if order.id in runs else order
        for order in (
            StageOrder(
                s["id"], s["type"], s["params"], stems[s["id"]],
                request=request.whole, part_request=request.part,
            )
            for s, request in zip(job.stages, requests.of_job(job, drop), strict=True)
        )
    )  # fmt: skip
    return Order(
        job=job.id,
        attempt=job.attempt,
        stages=stages,
        inputs=_inputs(job, drop),
        work_dir=str(work_dir),
        tags=tuple(job.tags),
        priority=job.priority,
    )


def stage_stems(job: Job) -> dict[str, str]:
    """The start of its files' names for each stage's id. It holds the id where types repeat, so
    that two stages of one type write different names."""
    kinds = Counter(stage["type"] for stage in job.stages)
    return {
        stage["id"]: f"{job.stem}.{stage['id']}" if kinds[stage["type"]] > 1 else job.stem
        for stage in job.stages
    }


def _done(order: StageOrder, run: StageRun, files: Iterable[ArtifactRow]) -> StageOrder:
    """The order of a stage that has run before."""
    records = tuple(
        FileRecord(f.path, f.role, f.media_type, f.bytes, f.sha256, f.facts) for f in files
    )
    return replace(order, done=records, done_key=run.stage_key, done_model=run.model)


def _inputs(job: Job, drop: Drop) -> tuple[OrderInput, ...]:
    image = {"role": "image", "name": drop.image or "", "sha256": drop.sha256 or ""}
    return tuple(
        OrderInput(
            file["role"],
            str(Path(drop.claim, file["name"])),
            file["sha256"],
            file.get("reference") or "",
        )
        for file in (image, *companions.of_job(drop.companions, job.stages))
    )
