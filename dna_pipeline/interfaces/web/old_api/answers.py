"""Answers in the shapes of the old API, made from jobs."""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import datetime

from dna_pipeline.base.times import format_time
from dna_pipeline.interfaces.web.files import look_up
from dna_pipeline.interfaces.web.old_api.errors import encodable, failure_text
from dna_pipeline.interfaces.web.site import Record, Site
from dna_pipeline.interfaces.web.texts import hide_in
from dna_pipeline.interfaces.web.waiting import JobFailed
from dna_pipeline.operations.serving import old_names
from dna_pipeline.operations.serving.old_names import NamedFile
from dna_pipeline.operations.serving.pipelines import NoPipeline, img2img_pipeline
from dna_pipeline.operations.serving.result_files import NoSuchFile, ResultFile

OUTPUT = "/data/output/"
"""Start of the addresses of result files."""
AXES = "+Y up, +Z front"
"""Axes of all meshes, as glTF has them."""


async def result_answer(
    site: Site, job: Record, kind: str, remarks: list[str] | None = None
) -> Record:
    """The answer about a completed job, as that of a picture (`img2img`) or a mesh (`triposr`).

    Args:
        remarks: sentences to stand before the job's own warnings.

    Raises:
        NoSuchFile: it made none, or its picture is not in the outbox any more.
    """
    files = old_names.files_by_kind(job)
    is_mesh = kind == "triposr" and "mesh" in files
    body = mesh_body(job, files) if is_mesh else await image_body(site, job, files)
    warnings = [text for run in job["stage_runs"] for text in run["warnings"]]
    warnings = hide_in([*(remarks or []), *warnings], site.hide)
    return encodable(body | {"job_id": job["id"], "warnings": warnings})


async def image_body(site: Site, job: Record, files: dict[str, NamedFile]) -> Record:
    """Raises `NoSuchFile`."""
    if (named := files.get("image")) is None:
        raise NoSuchFile(f"job {job['id'][:8]} made no picture")
    file = await look_up(site, job["id"], path=named.file.path)
    facts = named.file.facts
    return {
        "image": await site.ask(_data_url, file),
        "seed": old_names.seed_of(job),
        "width": facts.get("width"),
        "height": facts.get("height"),
        "output_path": OUTPUT + named.name,
    }


def mesh_body(job: Record, files: dict[str, NamedFile]) -> Record:
    mesh = files["mesh"].file.facts
    stages = [stage for stage in job["stages"] if stage["type"] == "triposr"]
    params: Record = stages[-1]["params"] if stages else {}
    return {
        "mesh_url": _url(files, "mesh"),
        "preview_url": _url(files, "preview"),
        "video_url": _url(files, "video"),
        "vertices": mesh.get("vertices"),
        "faces": mesh.get("faces"),
        "output_path": _url(files, "mesh"),
        "axes": AXES,
        "scale": params.get("scale"),
        "origin": params.get("origin"),
    }


def _url(files: dict[str, NamedFile], kind: str) -> str | None:
    return OUTPUT + files[kind].name if kind in files else None


def _data_url(file: ResultFile) -> str:
    with file.open() as opened:
        data = opened.readall()
    return f"data:{file.media_type};base64,{base64.b64encode(data).decode('ascii')}"


# --- jobs ---


async def job_answer(site: Site, job: Record) -> Record:
    """The state of a job, with its result or error.

    Args:
        job: as `operations/serving/jobs.py: read` gives it.
    """
    body = _state(site, job)
    if job["status"] == "completed":
        try:
            body["result"] = await result_answer(site, job, kind_of(site, job))
        except NoSuchFile as error:
            body["result"] = {"job_id": job["id"], "warnings": [str(error)]}
    if job["error"] is not None:
        body |= error_keys(site, job)
    return encodable(body)


def error_keys(site: Site, job: Record) -> Record:
    failure = JobFailed(job["id"], job["error"])
    text = failure_text(failure) or failure.code
    return {"error": site.hide(text), "error_code": failure.code}


def _state(site: Site, job: Record) -> Record:
    hold = None
    if job["status"] == "queued" and job["hold"] is not None:
        detail = site.hide(job["hold_detail"] or "")
        hold = {"code": job["hold"], "detail": detail}
    return {
        "job_id": job["id"],
        "status": job["status"],
        **progress_keys(job),
        "result": None,
        "error": None,
        "type": kind_of(site, job),
        "hold": hold,
        "created_at": time_text(job["created_at"]),
        "started_at": time_text(job["started_at"]),
        "finished_at": time_text(job["finished_at"]),
    }


def kind_of(site: Site, job: Record) -> str:
    """`img2img` if the answer about a job is a picture, `triposr` if it is a mesh."""
    with suppress(NoPipeline):
        if job["pipeline"] == img2img_pipeline(site.config).name:
            return "img2img"
    return "triposr" if any(s["type"] == "triposr" for s in job["stages"]) else "img2img"


def progress_keys(job: Record) -> Record:
    """How much of a job is done, from 0 to 1, and the step of its stage."""
    if job["status"] == "completed" or job["publish"] == "pending":
        return {"progress": 1.0, "step": None, "steps": None}
    data: Record = job.get("progress") or {}
    keys = {
        "progress": data.get("fraction", 0.0), "step": data.get("step"), "steps": data.get("steps"),
    }  # fmt: skip
    return keys | ({"stage": data["stage"]} if "stage" in data else {})


def time_text(value: datetime | None) -> str | None:
    return None if value is None else format_time(value)
