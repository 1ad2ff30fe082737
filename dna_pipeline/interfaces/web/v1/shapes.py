"""Rows of the ledger in the shapes of `/api/v1`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from fastapi import Response
from pydantic import BaseModel

from dna_pipeline.base.layout import batch_folder
from dna_pipeline.interfaces.web.texts import PathHider, hide_in
from dna_pipeline.interfaces.web.v1 import models
from dna_pipeline.interfaces.web.v1.errors import ROOT
from dna_pipeline.operations.serving.drops import PlannedJob
from dna_pipeline.operations.serving.result_files import REPORTS, list_files

Record = Mapping[str, Any]


def job_url(job_id: str) -> str:
    return f"{ROOT}/jobs/{job_id}"


def batch_url(batch_id: str) -> str:
    return f"{ROOT}/batches/{batch_id}"


def json_answer(answer: BaseModel) -> Response:
    """Write an answer that is asked for often: FastAPI itself would validate it once more."""
    return Response(answer.model_dump_json(), media_type="application/json")


class Shapes:
    """Makes answers from rows of the ledger, without paths of the server."""

    def __init__(self, hide: PathHider) -> None:
        self._hide = hide

    def jobs(
        self, rows: Iterable[Record], progress: Record, warnings: Mapping[str, int]
    ) -> list[models.Job]:
        """Jobs of a list.

        Args:
            progress: data of the last event of progress of running jobs, by id.
            warnings: numbers of warnings, by id.
        """
        return [
            models.Job(**self._job(row, progress.get(row["id"]), warnings.get(row["id"], 0)))
            for row in rows
        ]

    def job(self, row: Record, progress: Record | None) -> models.JobDetail:
        """All about one job, as `Queries.job` gives it."""
        drop: Record = row["drop"]
        warnings = sum(len(run["warnings"]) for run in row["stage_runs"])
        sidecar: str | None = drop["sidecar_text"] or row["request"]
        return models.JobDetail(
            **self._job(row, progress, warnings),
            tags=row["tags"],
            meta=hide_in(row["meta"], self._hide.below_folders),
            input=models.Input(
                name=row["name"], sha256=drop["sha256"], bytes=drop["bytes"], width=drop["width"],
                height=drop["height"],
            ),
            sidecar=None if sidecar is None else self._hide.below_folders(sidecar),
            stages=self._stages(row),
            files=files_of(row),
            folder_name=row["publish_name"] if row["publish"] == "done" else None,
        )  # fmt: skip

    def _job(self, row: Record, progress: Record | None, warnings: int) -> dict[str, Any]:
        is_running = row["status"] == "running"
        return {
            "id": row["id"], "url": job_url(row["id"]), "batch": row["batch"],
            "inbox": row["inbox"], "folder": row["folder"], "name": row["name"],
            "pipeline": row["pipeline"], "priority": row["priority"], "status": row["status"],
            "is_published": row["publish"] == "done", "hold": self._hold(row),
            "attempt": row["attempt"], "progress": _progress(progress) if is_running else None,
            "error": self._failure(row["error"]), "warnings": warnings,
            "created_at": row["created_at"], "started_at": row["started_at"],
            "finished_at": row["finished_at"],
        }  # fmt: skip

    def _hold(self, row: Record) -> models.Hold | None:
        if row["hold"] is None:
            return None
        return models.Hold(code=row["hold"], detail=self._hide(row["hold_detail"] or ""))

    def _failure(self, error: Record | None) -> models.Failure | None:
        if error is None:
            return None
        texts = {key: self._hide(str(error.get(key) or "")) for key in _TEXTS}
        return models.Failure(**texts, retryable=bool(error.get("retryable")))

    def _stages(self, row: Record) -> list[models.Stage]:
        runs: dict[str, Record] = {run["stage_id"]: run for run in row["stage_runs"]}
        return [self._stage(stage, runs.get(stage["id"])) for stage in row["stages"]]

    def _stage(self, stage: Record, run: Record | None) -> models.Stage:
        params = hide_in((run or stage)["params"], self._hide.below_folders)
        facts: dict[str, Any] = {}
        if run is not None:
            facts = {key: run[key] for key in ("provider", "device", "dtype", "seconds")}
            facts["model"] = run["model"]["name"] if run["model"] else None
            facts["warnings"] = [self._hide(text) for text in run["warnings"]]
        return models.Stage(
            id=stage["id"], type=stage["type"], params=params, is_done=run is not None, **facts
        )

    def planned(self, job: PlannedJob) -> models.PlannedJob:
        spec = job.spec
        stages = [{"id": s.id, "type": s.type, "params": s.params} for s in spec.stages]
        return models.PlannedJob(
            name=job.name, pipeline=spec.pipeline, priority=spec.priority,
            not_before=spec.not_before, stages=[self._stage(stage, None) for stage in stages],
            tags=list(spec.tags), meta=spec.meta, seconds=job.seconds,
        )  # fmt: skip

    def batch(self, row: Record) -> models.Batch:
        keys = (
            "id", "inbox", "folder", "name", "kind", "state", "rows", "wrong", "created_at",
            "finished_at",
        )  # fmt: skip
        return models.Batch(
            **{key: row[key] for key in keys},
            url=batch_url(row["id"]),
            jobs=models.BatchJobs(**row["jobs"]),
            paused=None if row["paused"] is None else self._hide(row["paused"]),
            folder_name=batch_folder(row["inbox"], row["folder"], row["stem"], row["id"]),
        )

    def holds(self, rows: Iterable[Record]) -> list[models.QueueHold]:
        return [
            models.QueueHold(
                code=row["code"], detail=self._hide(row["detail"] or ""), jobs=row["jobs"]
            )
            for row in rows
        ]


_TEXTS = ("code", "message", "detail", "hint")


def _progress(data: Record | None) -> models.Progress | None:
    if data is None or data.get("fraction") is None:
        return None
    return models.Progress.model_validate(data)


def files_of(job: Record) -> list[models.File]:
    """The files of a job's folder, each with its address."""
    return [
        models.File(
            path=file.path, role=file.role, stage=file.stage, media_type=file.media_type,
            # The bytes of a report change where paths of the server are shortened in it.
            bytes=None if file.role in REPORTS else file.bytes,
            sha256=None if file.role in REPORTS else file.sha256 or None,
            facts=dict(file.facts),
            url=f"{job_url(job['id'])}/files/{quote(file.path)}",
        )
        for file in list_files(job)
    ]  # fmt: skip
