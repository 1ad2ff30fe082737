"""The page of the API: files of this package, as their packages have them."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
from fastapi import FastAPI

from dna_pipeline.interfaces.web import docs_page
from dna_pipeline.interfaces.web.docs_page import ASSETS
from tests.asgi import call

ROOT = Path(__file__).parents[4]
VENDORED = ASSETS / "swagger-ui"


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(docs_url=None)
    app.include_router(docs_page.make_router())
    return app


def test_the_files_are_those_of_the_package():
    readme = (VENDORED / "README.md").read_text()
    listed = dict(re.findall(r"^\| (\S+) \| ([0-9a-f]{64}) \|$", readme, re.MULTILINE))
    assert len(listed) == 3
    for name, digest in listed.items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == digest


def test_their_licences_are_in_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    licences = {path for pattern in project["license-files"] for path in ROOT.glob(pattern)}
    own = {VENDORED / name for name in ("LICENSE.txt", "NOTICE.txt")}
    assert own | {VENDORED / "swagger-ui-bundle.js.LICENSE.txt"} <= licences


def test_the_page_names_files_of_this_server_alone(app: FastAPI):
    page = call(app, "/docs")
    assert page.status == 200
    named = re.findall(rb'(?:href|src)="([^"]*)"', page.body)
    assert len(named) == 5
    for path in named:
        answer = call(app, path.decode())
        assert answer.status == 200
        assert answer.header("cache-control") == "no-cache"
        assert (answer.header("content-type") or "").split(";")[0] in (
            "text/css", "text/javascript", "image/png",
        )  # fmt: skip
    assert b"<script>" not in page.body
    assert b"style=" not in page.body


@pytest.mark.parametrize(
    "name",
    ["docs.html", "login.css", "swagger-ui/README.md", "../docs_page.py", "/etc/passwd", "", "x"],
)
def test_nothing_else_is_there(app: FastAPI, name: str):
    assert call(app, f"/docs/{name}").status in (404, 307)


def test_it_is_no_part_of_the_api(app: FastAPI):
    assert call(app, "/openapi.json").body.count(b"/docs") == 0
