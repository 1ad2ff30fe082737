"""The demo, from its picture to the mesh, with the stand-ins that it makes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.io import imread

from tests.conftest import SCRIPTS, load_script

pytestmark = pytest.mark.slow

FILES = SCRIPTS / "demo_files"


@dataclass
class Demo:
    """What a run of the demo made and printed."""

    result: Path
    lines: list[str]

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.result / "manifest.json").read_bytes())

    def artifact(self, role: str) -> dict[str, Any]:
        (found,) = (one for one in self.manifest["artifacts"] if one["role"] == role)
        return found

    def picture(self, name: str) -> np.ndarray[Any, Any]:
        return np.asarray(Image.open(self.result / name), np.float64)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo without its first step, which makes the environment of these tests."""
    folder = tmp_path_factory.mktemp("demo")
    script = load_script("demo")
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "venv_python", lambda: Path(sys.executable))
        patch.setattr(script, "REAL_MODELS", folder / "none")
        patch.setattr(script, "print", lambda *words, **_: lines.append(" ".join(map(str, words))),
                      raising=False)  # fmt: skip
        script.lay_out(folder, script.models(folder / "models"))
        assert script.show(folder) == 0
    (result,) = (folder / "outbox/pictures").glob("rocket-*")
    yield Demo(result, lines)


def psnr_db(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return load_script("psnr").psnr_db(one, other)


def edges(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    luma = picture[..., :3] @ [0.299, 0.587, 0.114]
    return np.hypot(ndimage.sobel(luma, 0), ndimage.sobel(luma, 1))


def silhouette() -> np.ndarray[Any, Any]:
    return imread(FILES / "rocket.silhouette.png") >= 128


def test_the_restyled_picture_keeps_colours_and_edges(demo: Demo):
    before, after = imread(FILES / "rocket.png"), demo.picture("rocket.png")
    assert before.shape == after.shape
    assert psnr_db(after, before) >= 24
    likeness = np.corrcoef(edges(before).ravel(), edges(after).ravel())[0, 1]
    assert likeness >= 0.8


def test_the_restyled_picture_has_the_tint_of_the_prompt(demo: Demo):
    before, after = imread(FILES / "rocket.png"), demo.picture("rocket.png")
    red, _, blue = (after - before).mean((0, 1))
    assert red > 2
    assert blue < -2


def test_the_matte_is_the_rocket(demo: Demo):
    matte = demo.picture("rocket.matte.png")[..., 3] >= 128
    exact = silhouette()
    assert (matte & exact).sum() / (matte | exact).sum() >= 0.97


def test_the_mesh_is_one_closed_textured_piece(demo: Demo):
    mesh = demo.artifact("mesh")
    assert mesh["components"] == 1
    assert mesh["watertight"]
    import trimesh

    (loaded,) = trimesh.load(demo.result / "rocket.glb", process=False).geometry.values()
    texture = np.asarray(loaded.visual.material.baseColorTexture.convert("RGB"))
    assert texture.shape == (1024, 1024, 3)
    assert texture.std() > 20


def test_the_mesh_is_about_as_deep_as_wide_and_is_as_high_as_in_the_picture(demo: Demo):
    import trimesh

    (loaded,) = trimesh.load(demo.result / "rocket.glb", process=False).geometry.values()
    width, height, depth = loaded.extents
    rows, columns = (np.flatnonzero(silhouette().any(axis)) for axis in (1, 0))
    assert width / height == pytest.approx(np.ptp(columns) / np.ptp(rows), rel=0.15)
    assert 0.4 < depth / width < 1


def test_preview_and_film_are_there(demo: Demo):
    assert demo.picture("rocket.preview.png")[..., 3].mean() > 30
    assert demo.artifact("turntable")["frames"] == 24


def test_nothing_is_to_be_warned_of(demo: Demo):
    assert [stage["warnings"] for stage in demo.manifest["stages"]] == [[], [], []]
    assert not [line for line in demo.lines if "Warning" in line]


def test_the_last_line_is_the_path_of_a_page_with_the_result(demo: Demo):
    page = Path(demo.lines[-1])
    assert page == demo.result.parents[2] / "sheet/index.html"
    assert demo.result.name in "".join(path.read_text() for path in page.parent.rglob("*.js"))


def test_stand_ins_are_made_once(demo: Demo):
    script = load_script("demo")
    models = demo.result.parents[2] / "models"
    before = (models / ".made-by").stat().st_mtime_ns
    script.make_stand_ins(models)
    assert (models / ".made-by").stat().st_mtime_ns == before
