"""What a file is told of how it came about, when the last of several stages makes it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trimesh
from PIL import Image

from dna_pipeline import __version__
from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import FileRecord, JobDone, StageOrder
from dna_pipeline.providers.base import Provider
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.stages.remove_background import RemoveBackground
from dna_pipeline.stages.triposr.stage import TripoSR
from dna_pipeline.weights.embeddings import FOLDER
from tests import workers
from tests.image_models import Recording

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
    order = workers.order(TINY / "input.png", folder, *stages, attempt=2)
    models: dict[str, Provider] = {"matte": BorderKey(), "triposr": TripoSRModel(path=TINY)}

    def fingerprint(provider: Provider) -> tuple[str, str | None]:
        if isinstance(provider, TripoSRModel):
            return "/somewhere/triposr", "5" * 64
        if weights is None:
            raise FileNotFoundError("moved away")
        return "/somewhere/else", weights

    events = workers.run(
        order,
        models,
        fingerprint=fingerprint,
        licence=lambda provider: "MIT" if isinstance(provider, TripoSRModel) else None,
    )
    assert events[-1] == JobDone(workers.JOB)
    return recipe_in(folder / "mesh/robot.glb")


def recipe_in(mesh: Path) -> dict[str, Any]:
    (made,) = trimesh.load(io.BytesIO(mesh.read_bytes()), file_type="glb").geometry.values()
    return made.metadata["dna_pipeline"]


def with_inversion(image: Image.Image) -> Image.Image:
    """The picture as a model gives it back whose prompt used the textual inversion `ink`."""
    result = image.copy()
    result.info["embeddings"] = ["ink"]
    return result


@pytest.mark.parametrize("restarts", [False, True])
def test_the_textual_inversions_of_earlier_stages(tmp_path: Path, restarts: bool):
    """Only the run of a stage finds out which it used, and an attempt may go on behind it."""
    ink = tmp_path / FOLDER / "ink.pt"
    ink.parent.mkdir(parents=True)
    ink.write_bytes(b"vectors")
    models = {
        "sd": Recording.drawing(with_inversion),
        "matte": BorderKey(),
        "triposr": TripoSRModel(path=TINY),
    }
    mesh = TripoSR(model="triposr", resolution=16, preview=False)
    stages = [
        StageOrder("draw", "img2img", Img2Img(model="sd", prompt="ink").params(), "robot"),
        StageOrder("cut", "remove_background", RemoveBackground(model="matte").params(), "robot"),
        StageOrder("mesh", "triposr", mesh.params(), "robot"),
    ]

    def run() -> list[Any]:
        order = workers.order(TINY / "input.png", tmp_path / "work", *stages)
        return workers.run(order, models, data=tmp_path)

    first = run()
    assert first[-1] == JobDone(workers.JOB)
    if restarts:
        ends = workers.done(first)
        for place, end in enumerate(ends[:2]):
            stages[place] = replace(
                stages[place], done=tuple(end.artifacts), done_key=end.stage_key,
                done_model=end.model,
            )  # fmt: skip
        assert len(workers.done(run())) == 1
    recipe = recipe_in(tmp_path / "work/mesh/robot.glb")
    used = {"name": "ink", "sha256": sha256_file(ink)}
    assert [stage["model"].get("embeddings") for stage in recipe["stages"]] == [[used], None, None]
    assert recipe["stages"][0]["model"] == {
        "name": "sd", "sha256": workers.WEIGHTS_SHA256, "license": models["sd"].license,
        "embeddings": [used],
    }  # fmt: skip


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
                "params": RemoveBackground(model="matte").result_params(),
            },
            {
                "id": "mesh", "type": "triposr", "provider": "triposr",
                "model": {"name": "triposr", "sha256": "5" * 64, "license": "MIT"},
                "params": TripoSR(model="triposr", resolution=16, preview=False).result_params(),
            },
        ],
    }  # fmt: skip
