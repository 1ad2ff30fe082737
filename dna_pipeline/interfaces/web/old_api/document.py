"""The old endpoints in the OpenAPI document.

They read forms of any kind and JSON by themselves, so that the document cannot be made from their
functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

TAG = {
    "name": "web backend",
    "description": "The endpoints of the web backend that this program grew from, for the programs "
    "that call them. New programs have /api/v1.",
}

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_FILE: Schema = {"type": "string", "format": "binary"}
_BASE64: Schema = {"type": "string", "description": "base64, or a data URL"}


def _whole(least: int, most: int | None = None) -> Schema:
    return {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})


_PICTURE: dict[str, Schema] = {
    "positive_prompt": _TEXT, "negative_prompt": _TEXT,
    "seed": {"type": "integer", "description": "negative: drawn"},
    "steps": _whole(1, 1000), "cfg": {**_NUMBER, "minimum": 0, "maximum": 100},
    "sampler_name": _TEXT, "scheduler": _TEXT,
    "denoise": {**_NUMBER, "exclusiveMinimum": 0, "maximum": 1},
}  # fmt: skip
_MESH: dict[str, Schema] = {
    "remove_background": _FLAG, "foreground_ratio": _NUMBER, "mc_resolution": _whole(1),
    "chunk_size": _whole(0), "bake_texture": _FLAG, "texture_resolution": _whole(1),
    "render_video": _FLAG, "render_n_views": _whole(1), "render_resolution": _whole(1),
}  # fmt: skip
_FIELDS = {"img2img": _PICTURE, "triposr": _MESH}

_STATES = ("queued", "running", "completed", "failed", "cancelled")
_MODEL: Schema = {"type": "object", "required": ["loaded", "model_name", "device"]}
_LOADED: Schema = {"type": "object", "required": ["status", "model_name", "device"]}
_PICTURE_RESULT: Schema = {
    "type": "object",
    "properties": {
        "image": {"type": "string", "description": "a data URL"}, "output_path": _TEXT,
        "job_id": _TEXT, "warnings": {"type": "array", "items": _TEXT},
    },
    "required": ["image", "seed", "width", "height", "output_path", "job_id", "warnings"],
}  # fmt: skip
_MESH_RESULT: Schema = {
    "type": "object",
    "properties": {"mesh_url": _TEXT, "axes": _TEXT, "job_id": _TEXT},
    "required": ["mesh_url", "preview_url", "video_url", "vertices", "faces", "axes", "job_id"],
}
_RESULTS = {"img2img": _PICTURE_RESULT, "triposr": _MESH_RESULT}
_QUEUED: Schema = {
    "type": "object",
    "properties": {"job_id": _TEXT, "status": {"const": "queued"}},
    "required": ["job_id", "status"],
}
_JOB: Schema = {
    "type": "object",
    "properties": {
        "job_id": _TEXT, "status": {"enum": list(_STATES)},
        "progress": {**_NUMBER, "minimum": 0, "maximum": 1},
    },
    "required": ["job_id", "status", "progress", "result", "error"],
}  # fmt: skip
_ERROR: Schema = {
    "type": "object",
    "properties": {
        "detail": {"description": "a sentence, or a list of the fields that are wrong"},
        "code": _TEXT,
    },
    "required": ["detail"],
}

_MEANINGS = {
    400: "The image, the base64 or the JSON cannot be read; no such model; no pipeline does that.",
    404: "There is no such job or file.",
    409: "The job was cancelled while the client waited.",
    413: "The request is larger than `serve.max_upload_mib` allows.",
    422: "A field is missing or wrong, or the job failed for its input.",
    500: "The job failed for another reason.",
    503: "No daemon runs, the queue is paused, or the job is held; with `Retry-After`.",
}
_SENT = (400, 413, 422, 503)
"""Statuses of requests with an image."""


def paths() -> dict[str, Schema]:
    """The paths of the old API, as the document has them."""
    documents: dict[str, Schema] = {
        "/api/health": {
            "get": _of_server("health", "Say whether pictures can be made.", _object())
        },
        "/api/model/info": {
            "get": _of_server("model_info", "Describe the model of pictures.", _MODEL)
        },
        "/api/triposr/info": {
            "get": _of_server("triposr_info", "Describe the model of meshes.", _MODEL)
        },
        "/api/model/load": {"post": _load("load_model", {"model_path": _TEXT})},
        "/api/triposr/load": {"post": _load("load_triposr", {"chunk_size": _whole(0)})},
        "/api/jobs/{job_id}": {"get": _of_job("job_state", "Show a job.", _json(_JOB))},
        "/api/jobs/{job_id}/cancel": {
            "post": _of_job("cancel_job_of_old", "Cancel a job.", _json(_object()))
        },
        "/api/jobs/{job_id}/events": {
            "get": _of_job("job_events", "Follow a job.", _stream(), {204: {"description": "End."}})
        },
        "/data/output/{name}": {"get": _output()},
    }
    for kind in ("img2img", "triposr"):
        documents[f"/api/{kind}"] = {"post": _waits(kind, kind, _json(_RESULTS[kind]))}
        documents[f"/api/jobs/{kind}"] = {"post": _queues(kind)}
    documents["/api/img2img/base64"] = {
        "post": _waits("img2img", "img2img_base64", _json(_PICTURE_RESULT))
    }
    documents["/api/img2img/stream"] = {"post": _waits("img2img", "img2img_stream", _stream())}
    return documents


def _object() -> Schema:
    return {"type": "object"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _stream() -> Schema:
    return {"text/event-stream": {"schema": _object()}}


def _operation(
    name: str, about: str, content: Schema, errors: Sequence[int], **more: Any
) -> Schema:
    answers: dict[str, Schema] = {"200": {"description": "Done.", "content": content}}
    answers |= {
        str(status): {"description": _MEANINGS[status], "content": _json(_ERROR)}
        for status in errors
    }
    return {
        "operationId": f"old_{name}", "tags": [TAG["name"]], "description": about,
        "responses": answers, **more,
    }  # fmt: skip


def _of_server(name: str, about: str, schema: Schema) -> Schema:
    return _operation(name, about, _json(schema), (503,))


def _of_job(
    name: str, about: str, content: Schema, more: Mapping[int, Schema] | None = None
) -> Schema:
    operation = _operation(name, about, content, (404, 503), parameters=[_in_path("job_id")])
    operation["responses"] |= {str(status): answer for status, answer in (more or {}).items()}
    return operation


def _in_path(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _load(name: str, fields: dict[str, Schema]) -> Schema:
    about = "Load a configured model before the next job, and wait until it is loaded."
    body = {"content": _contents(fields, None)}
    return _operation(name, about, _json(_LOADED), (400, 422, 500, 503), requestBody=body)


def _waits(kind: str, name: str, content: Schema) -> Schema:
    about = f"Make a {'picture' if kind == 'img2img' else 'mesh'}, and wait for it."
    body = {"required": True, "content": _contents(_FIELDS[kind], _BASE64)}
    return _operation(name, about, content, (*_SENT, 409, 500), requestBody=body)


def _queues(kind: str) -> Schema:
    about = f"Queue a {'picture' if kind == 'img2img' else 'mesh'}, and answer at once."
    body = {"required": True, "content": _contents(_FIELDS[kind], _BASE64)}
    return _operation(f"queue_{kind}", about, _json(_QUEUED), _SENT, requestBody=body)


def _contents(fields: Mapping[str, Schema], image: Schema | None) -> Schema:
    """The kinds of a body: a form with a file, and JSON with base64."""
    kinds = {"multipart/form-data": _FILE, "application/json": image}
    return {
        kind: {"schema": _body(fields, None if image is None else of_kind)}
        for kind, of_kind in kinds.items()
    }


def _body(fields: Mapping[str, Schema], image: Schema | None) -> Schema:
    if image is None:
        return {"type": "object", "properties": dict(fields)}
    return {"type": "object", "properties": {"image": image, **fields}, "required": ["image"]}


def _output() -> Schema:
    content = {"*/*": {"schema": _FILE}}
    about = "Give a file of a result, by the name in an answer."
    operation = _operation("output", about, content, (404, 503), parameters=[_in_path("name")])
    operation["responses"] |= {
        "206": {"description": "A part of the file.", "content": content},
        "304": {"description": "The client has this very file."},
        "400": {"description": "The header Range cannot be read.", "content": _json(_object())},
        "416": {"description": "The file has no such part.", "content": _json(_object())},
    }
    return operation
