"""Compressed meshes on the page, in a real browser, without another host."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.tables import Job
from tests.guarded_server import guarded, wait_for
from tests.integration.test_page_drop import jobs
from tests.page_client import Browser, picture
from tests.web_server import FACTS, StandIn

pytestmark = pytest.mark.slow

MESHES = Path(__file__).parents[1] / "golden" / "meshes"
EXTENSIONS = {
    "plain": None,
    "draco": "KHR_draco_mesh_compression",
    "meshopt": "EXT_meshopt_compression",
}
CONFIG = """\
version: 1
models: {{triposr: {{provider: triposr, path: {models}/triposr-base}}}}
pipelines: {{mesh: [{{triposr: {{resolution: 32}}}}]}}
inboxes: [{{path: in, pipeline: mesh}}]
"""


@pytest.fixture
def config(tmp_path: Path, models_dir: Path, quiet: None) -> Config:
    (tmp_path / "pipeline.yaml").write_text(CONFIG.format(models=models_dir))
    (tmp_path / "in").mkdir()
    (tmp_path / "outbox").mkdir()
    return load_config(tmp_path / "pipeline.yaml", {})


@pytest.fixture
def results(config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Addresses of the pages of results, each with the mesh of its name."""

    def data_of(job: Job, role: str) -> bytes:
        return (MESHES / f"{job.stem}.glb").read_bytes() if role == "mesh" else picture()

    monkeypatch.setitem(FACTS, "mesh", {})  # as of a stage that does not count the faces
    daemon = StandIn(config)
    daemon.data_of, daemon.steps = data_of, 0
    with guarded(config) as address, daemon.running():
        files = [(f"{name}.png", picture(colour)) for name, colour in _COLOURS]
        Browser(address).drop(files, {"pipeline": "mesh"})
        done = wait_for(lambda: all(j["publish"] == "done" for j in jobs(config)) and jobs(config))
        yield {job["stem"]: f"{address}/results/{job['id']}" for job in done}


_COLOURS = list(zip(EXTENSIONS, ("red", "green", "blue"), strict=True))


def canvas(page: Any) -> np.ndarray[Any, Any]:
    """The part of the page with the mesh, (height, width, 3) float."""
    box = page.run(
        "(({x, y, width, height}) => [x, y, x + width, y + height])"
        "(document.querySelector('model-viewer').getBoundingClientRect())"
    )
    image = Image.open(io.BytesIO(page.picture())).convert("RGB").crop(tuple(map(int, box)))
    return np.asarray(image, dtype=float)


def shown(page: Any, address: str) -> np.ndarray[Any, Any]:
    page.visit(address, "document.querySelector('model-viewer').loaded")
    page.wait("document.querySelector('model-viewer').modelIsVisible")
    time.sleep(1)  # the poster fades out
    return canvas(page)


def test_the_meshes_are_compressed_as_they_say() -> None:
    for name, extension in EXTENSIONS.items():
        data = (MESHES / f"{name}.glb").read_bytes()
        length = int.from_bytes(data[12:16], "little")
        required = json.loads(data[20 : 20 + length]).get("extensionsRequired", [])
        assert (extension in required) == (extension is not None)


def test_compressed_meshes_look_as_the_plain_one(page: Any, results: dict[str, str]) -> None:
    page.show_as(420, 500)  # pixels take long where no graphics card draws them
    plain = shown(page, results["plain"])
    # It has several colours, and so is no empty view.
    assert plain.reshape(-1, 3).std(axis=0).min() > 5
    for name in ("draco", "meshopt"):
        assert np.abs(shown(page, results[name]) - plain).mean() < 2, name
        host = results[name].partition("/results/")[0]
        names = page.run("performance.getEntriesByType('resource').map((each) => each.name)")
        assert [each for each in names if not each.startswith((host, "blob:", "data:"))] == []
