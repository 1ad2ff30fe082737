"""The OpenAPI document: one for all APIs of the server."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from dna_pipeline.interfaces.web.old_api import document as old_api
from dna_pipeline.interfaces.web.v1.models import Problem

DESCRIPTION = """\
Send images, follow their jobs, and fetch the results.

A drop is queued and its images are durable before the answer. With a `client_token`, a request that
is sent again after a lost answer makes nothing new. Errors have one shape: `code` for programs,
`message`, `detail` and `hint` for people.
"""

TAGS = [
    {"name": "drops", "description": "Images that clients send."},
    {"name": "jobs", "description": "Runs of a pipeline, each on one image."},
    {"name": "files", "description": "Files of results and failures."},
    {"name": "events", "description": "What happens, as it happens."},
    {"name": "batches", "description": "The jobs of one drop that made several."},
    {"name": "queue", "description": "The daemon, and why jobs wait."},
    {"name": "set-up", "description": "What pipeline.yaml has."},
    {
        "name": "sdapi",
        "description": "The API of AUTOMATIC1111's web UI, for programs that speak it.",
    },
    {"name": "service", "description": "For those who look after the server."},
]

_SECURITY = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "what `--token-file` holds; not asked for on this machine unless one is set",
    }
}


def use_document(app: FastAPI) -> None:
    """Have the application describe itself; the document is made when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _make(app)
        return app.openapi_schema

    app.openapi = document


def _make(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="dna-pipeline", version=app.version, description=DESCRIPTION, routes=app.routes,
        tags=[*TAGS, old_api.TAG],
    )  # fmt: skip
    document["paths"] |= old_api.paths()
    document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    document["components"]["securitySchemes"] = _SECURITY
    document["security"] = [{}, *({name: []} for name in _SECURITY)]
    return document
