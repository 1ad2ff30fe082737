"""The page in a real browser: dropping a photograph, and mending a failed job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dna_pipeline.base.errors import BlackImage
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.queries import Queries
from tests.conftest import load_script
from tests.guarded_server import guarded, wait_for
from tests.web_server import StandIn

pytestmark = pytest.mark.slow

chromium = load_script("chromium")
CONFIG = """\
version: 1
models: {{sd15: {{provider: diffusers, path: {models}/sd-v1-5-local}}}}
pipelines: {{restyle: [{{img2img: {{model: sd15, steps: 12}}}}]}}
inboxes: [{{path: in, pipeline: restyle}}]
"""


@pytest.fixture
def config(tmp_path: Path, models_dir: Path, quiet: None) -> Config:
    (tmp_path / "pipeline.yaml").write_text(CONFIG.format(models=models_dir))
    (tmp_path / "in").mkdir()
    (tmp_path / "outbox").mkdir()
    return load_config(tmp_path / "pipeline.yaml", {})


@pytest.fixture
def page(tmp_path: Path, lacking: Callable[[str], None]) -> Iterator[Any]:
    """A browser as narrow as a phone."""
    program = chromium.find_chromium()
    if program is None:
        lacking("there is no Chromium; on Debian and Ubuntu: apt-get install chromium")
    with chromium.Chromium(program, tmp_path / "profile") as browser:
        browser.show_as(360, 900)
        yield browser


def go(page: Any, address: str) -> None:
    page.send("Page.navigate", url=address)
    page.wait("document.readyState === 'complete' && !!window.htmx")


def choose(page: Any, selector: str, file: Path) -> None:
    """Put a file into a field, as a drag onto it does."""
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    node = page.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
    page.send("DOM.setFileInputFiles", nodeId=node, files=[str(file)])


def press(page: Any, value: str) -> None:
    page.run(f"document.querySelector('button[value={value}]').click()")


def is_narrow(page: Any) -> bool:
    return page.run("document.documentElement.scrollWidth <= innerWidth")


def jobs(config: Config) -> list[dict[str, Any]]:
    with closing(Queries(config.ledger_path)) as queries:
        return [queries.job(row["id"]) for row in queries.jobs()]


def test_photograph_is_dropped_and_its_failure_mended(
    page: Any, config: Config, tmp_path: Path
) -> None:
    photograph = tmp_path / "photo.jpg"
    Image.effect_noise((640, 480), 60).convert("RGB").save(photograph)
    with guarded(config) as address, StandIn(config).running() as daemon:
        daemon.fails = lambda _: BlackImage("all black").failure()
        go(page, f"{address}/drop")
        assert is_narrow(page)
        choose(page, "#files", photograph)
        page.run("document.querySelector('[name=\"img2img.strength\"]').value = '7'")
        press(page, "check")
        page.wait("!!document.querySelector('[aria-invalid=true]')")
        assert page.run("document.getElementById('files').files.length") == 1
        page.run("document.querySelector('[name=\"img2img.strength\"]').value = '0.4'")
        press(page, "check")
        page.wait("document.getElementById('outcome').innerText.includes('would run img2img')")
        assert is_narrow(page)
        press(page, "queue")
        page.wait("!!document.querySelector('#outcome a[href^=\"/results/\"]')")
        (job,) = wait_for(lambda: [each for each in jobs(config) if each["publish"] == "done"])
        assert (job["name"], job["status"]) == ("photo.jpg", "failed")

        daemon.gate.clear()
        go(page, f"{address}/results/{job['id']}/retry")
        assert is_narrow(page)
        page.run("document.getElementById('failure-text').value = 'img2img: {strenght: 1}'")
        press(page, "retry")
        page.wait("document.getElementById('failure').innerText.includes('line 1')")
        page.run("document.getElementById('failure-text').value = 'img2img: {strength: 0.9}'")
        assert page.complaints == []
        press(page, "retry")
        (job,) = wait_for(lambda: [each for each in jobs(config) if each["status"] == "queued"])
        assert job["stages"][0]["params"]["strength"] == 0.9
        page.wait(f"location.pathname === '/results/{job['id']}'")
