"""The server's own pages in a browser, which must not complain."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.config.loader import load_config
from dna_pipeline.interfaces.web.server import Options, Server
from tests.serving import PIPELINE_YAML

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-sixteen-signs"
METRICS = "document.querySelector('[data-path=\"/metrics\"]').closest('.opblock')"
SHOWN = "!!document.querySelector('.opblock-tag-section .opblock')"


@contextmanager
def serving(folder: Path) -> Generator[str]:
    """The address of a server while the block runs."""
    file = folder / "pipeline.yaml"
    file.write_text(PIPELINE_YAML)
    server, started = Server(load_config(file, {}), Options(port=0)), threading.Event()
    thread = threading.Thread(target=server.run, args=(started.set,))
    thread.start()
    try:
        assert started.wait(20)
        yield server.url
    finally:
        server.stop()
        thread.join(20)


@pytest.fixture(autouse=True)
def own_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)


def test_the_docs_are_shown_and_tried_out(page: Any, tmp_path: Path):
    with serving(tmp_path) as url:
        page.visit(f"{url}/docs", SHOWN.replace(" .opblock", ""))
        page.run("document.querySelectorAll('.opblock-tag').forEach(tag => tag.click())")
        page.wait(SHOWN)
        page.run(f"{METRICS}.querySelector('.opblock-summary-control').click()")
        page.wait("!!document.querySelector('.btn.execute')")
        page.run("document.querySelector('.btn.execute').click()")
        page.wait("!!document.querySelector('.live-responses-table .highlight-code')")
        assert "dna_pipeline_up" in page.run("document.body.textContent")


def test_people_log_in_and_see_the_page_that_they_came_for(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DNA_SERVE_TOKEN", TOKEN)
    with serving(tmp_path) as url:
        page.visit(f"{url}/docs", "document.forms.length")
        assert page.run("location.pathname + location.search") == "/login?next=%2Fdocs"
        page.run(f"document.querySelector('#token').value = '{TOKEN}'; null")
        page.run("document.querySelector('button').click()")
        page.wait("location.pathname === '/docs' && !!document.querySelector('.swagger-ui')")
        assert page.run("document.cookie") == ""
