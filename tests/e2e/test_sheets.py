"""A contact sheet as people get it, and the recipes in the files of a result."""

import shutil
from pathlib import Path

import pytest
from conftest import Studio, product_shot
from PIL import Image

from dna_pipeline.config.yaml12 import loads

pytestmark = pytest.mark.slow

SIDECAR = """\
pipeline: restyle_to_mesh
img2img: {prompt: "a {{clay}} figurine"}
triposr:
  {resolution: 40, turntable: mesh, turntable_views: 4, turntable_size: 64, formats: [glb, obj]}
matrix: {img2img.seed: [7, 8]}
"""


def test_a_matrix_is_looked_through_and_made_again(studio: Studio, tmp_path: Path):
    product_shot().save(studio.inbox("mesh") / "egg.png")
    (studio.inbox("mesh") / "egg.yaml").write_text(SIDECAR)

    done = studio.cli("run")

    assert done.returncode == 0, done.stderr
    (batch,) = studio.outbox.glob("mesh/egg-*")
    assert (batch / "index.html").is_file()
    assert len([*batch.glob("sheet/thumbnails/*.webp")]) == 2
    assert len([*batch.glob("sheet/meshes/*.glb.js")]) == 2
    with Image.open(batch / "sheet.png") as sheet:
        sheet.load()
    assert studio.leftovers() == []
    (result,) = batch.glob("egg-7-*")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stages = {"egg.png": 1, "egg.matte.png": 2}
    for path in result.iterdir():
        if not path.is_file() or path.suffix in (".json", ".mtl", ".xmp"):
            continue
        copy = elsewhere / f"copy of {path.name}"
        shutil.copy(path, copy)
        if path.suffix == ".obj":
            shutil.copy(f"{path}.xmp", f"{copy}.xmp")
        shown = studio.cli("show", str(copy))
        assert shown.returncode == 0, (path.name, shown.stderr)
        recipe = loads(shown.stdout.encode()).value
        assert recipe["img2img"]["seed"] == 7
        assert recipe["img2img"]["prompt"] == "a {{clay}} figurine"
        assert len(recipe) == stages.get(path.name, 3), path.name

    again = studio.cli("show", str(elsewhere / "copy of egg.glb"))
    product_shot().save(studio.inbox("mesh") / "again.png")
    (studio.inbox("mesh") / "again.yaml").write_text(f"pipeline: restyle_to_mesh\n{again.stdout}")
    assert studio.cli("run").returncode == 0
    (second,) = studio.outbox.glob("mesh/again-*")
    assert (second / "again.png").read_bytes() == (result / "egg.png").read_bytes()
