"""No page of another origin can send anything to this server by a person's browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.access import Access
from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.interfaces.web.site import Site
from tests.guarded_server import guarded
from tests.page_client import Browser

CONFIG = """\
version: 1
models: {key: {provider: border_key}}
pipelines: {cut: [{remove_background: {model: key}}]}
inboxes: [{path: in, pipeline: cut}]
"""
PAGE = {
    "/login", "/logout", "/drop", "/queue/{change}", "/batches/{batch}/{change}",
    "/jobs/{job}/cancel", "/results/{job}/retry", "/results/{job}/cancel", "/models/load",
}  # fmt: skip
STRANGERS = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
)


@pytest.fixture
def config(tmp_path: Path, quiet: None) -> Config:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    (tmp_path / "in").mkdir()
    (tmp_path / "outbox").mkdir()
    return load_config(tmp_path / "pipeline.yaml", {})


@pytest.fixture
def changing(config: Config) -> dict[str, set[str]]:
    """The paths of all routes that change something, with their methods."""
    access = Access("a-token-of-sixteen", config.serve, is_loopback=True)
    routes: dict[str, set[str]] = {}
    for route in iter_route_contexts(make_app(Site(config), access).routes):
        if methods := set(route.methods or ()) - {"GET", "HEAD"}:
            routes.setdefault(str(route.path), set()).update(methods)
    assert set(routes) >= PAGE
    return routes


@pytest.fixture
def browser(config: Config) -> Iterator[Browser]:
    with guarded(config) as address:
        yield Browser(address)


def test_forms_of_other_origins_are_refused(browser: Browser, changing: dict[str, set[str]]):
    for path, methods in changing.items():
        address = re.sub(r"\{change\}", "pause", path)
        address = re.sub(r"\{[^}]*\}", "0" * 32, address)
        for method in methods:
            for headers in STRANGERS:
                answer = browser.request(method, address, b"", headers)
                assert (answer.status, method, path, headers) == (403, method, path, headers)


def test_own_forms_come_through(browser: Browser):
    for headers in ({"Origin": browser.base}, {"Sec-Fetch-Site": "same-origin"}, {}):
        answer = browser.request("POST", "/results/00000000/cancel", b"", headers)
        assert answer.status == 404
