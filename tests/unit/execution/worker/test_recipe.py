"""What a file is told of how it came about, when the last of several stages makes it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import trimesh

from dna_pipeline import __version__
from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import FileRecord, JobDone, Order, OrderInput, StageOrder
from dna_pipeline.execution.worker import runner
from dna_pipeline.providers.base import Device, ModelCache, Provider
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages.remove_background import RemoveBackground
from dna_pipeline.stages.triposr.stage import TripoSR

TINY = Path(__file__).parents[3] / "golden" / "triposr-tiny"

pytestmark = pytest.mark.usefixtures("one_thread")


def recipe_of(folder: Path, weights: str | None) -> dict[str, Any]:
    """Of a mesh whose picture was cut out by an earlier attempt; weights: that model's hash."""
    picture = folder / "cut/robot.matte.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes((TINY / "input.png").read_bytes())
    size, sha256 = picture.stat().st_size, sha256_file(picture)
    record = FileRecord(picture.name, "matte", "image/png", size, sha256)
    cut = RemoveBackground(model="matte").params()
    mesh = TripoSR(model="triposr", resolution=16, preview=False).params()
    stages = (
        StageOrder("cut", "remove_background", cut, "robot", (record,)),
        StageOrder("mesh", "triposr", mesh, "robot"),
    )
    image = OrderInput("image", str(TINY / "input.png"), sha256)
    order = Order("a job", 2, stages, (image,), str(folder))
    models = {"matte": BorderKey(), "triposr": TripoSRModel(path=TINY)}

    def fingerprint(provider: Provider) -> tuple[str, str | None]:
        if isinstance(provider, TripoSRModel):
            return "/somewhere/triposr", "5" * 64
        if weights is None:
            raise FileNotFoundError("moved away")
        return "/somewhere/else", weights

    events: list[Any] = []
    bench = runner.WorkerContext(
        models=ModelCache(models, Device("cpu", "float32")),
        emit=events.append,
        is_cancelled=lambda job: False,
        must_yield=lambda job: False,
        stage_timeout_s=60,
        release_memory=lambda: None,
        fingerprint=fingerprint,
        environment={},
        licence=lambda provider: "MIT" if isinstance(provider, TripoSRModel) else None,
    )
    runner.run(order, bench)
    assert events[-1] == JobDone("a job")
    data = (folder / "mesh/robot.glb").read_bytes()
    (made,) = trimesh.load(io.BytesIO(data), file_type="glb").geometry.values()
    return made.metadata["dna_pipeline"]


@pytest.mark.parametrize("weights", ["4" * 64, None])
def test_the_recipe_of_all_stages_without_paths(tmp_path: Path, weights: str | None):
    """Also where the weights of a finished stage have gone."""
    found = recipe_of(tmp_path / "one", weights)
    assert found == {
        "version": __version__,
        "input": {"sha256": sha256_file(TINY / "input.png")},
        "stages": [
            {
                "id": "cut", "type": "remove_background", "provider": "border_key",
                "model": {"name": "matte", "sha256": weights, "license": BorderKey().license},
                "params": RemoveBackground(model="matte").params(),
            },
            {
                "id": "mesh", "type": "triposr", "provider": "triposr",
                "model": {"name": "triposr", "sha256": "5" * 64, "license": "MIT"},
                "params": TripoSR(model="triposr", resolution=16, preview=False).params(),
            },
        ],
    }  # fmt: skip
