"""The `triposr` stage from picture to mesh: parameters, the golden run, failures, memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image, ImageDraw
from pydantic import ValidationError

from dna_pipeline.base.errors import (
    Cancelled,
    EmptyForeground,
    EmptyMesh,
    ImageUnreadable,
    NonFiniteOutput,
    WeightsMissing,
)
from dna_pipeline.config.parameters import rename_aliases
from dna_pipeline.media.images import load_image
from dna_pipeline.media.meshes.orientation import to_gltf
from dna_pipeline.providers.triposr import surface
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages.registry import stage_class
from dna_pipeline.stages.triposr.stage import TripoSR
from tests.triposr_stage import TINY, Given, Landmarks, Make, load, names, stage

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_is_registered() -> None:
    assert stage_class("triposr") is TripoSR
    assert (TripoSR.consumes, TripoSR.produces) == ("image", "mesh")


def test_defaults_are_those_of_the_contract() -> None:
    assert TripoSR(model=None).params() == {
        "model": None,
        "metadata": "full",
        "reuse": "on",
        "foreground_ratio": 0.85,
        "resolution": 256,
        "threshold": 25.0,
        "level_set": "density",
        "chunk_size": 0,
        "turntable": False,
        "turntable_views": 30,
        "turntable_size": 256,
        "turntable_fps": 12,
        "preview": True,
        "formats": ["glb"],
        "scale": 1.0,
        "origin": "base",
        "min_component": 0.0,
        "target_faces": None,
        "bake_texture": False,
        "texture_resolution": 2048,
    }


def test_the_other_names() -> None:
    given = {
        "mc_resolution": 320,
        "render_video": True,
        "render_n_views": 24,
        "render_resolution": 512,
    }
    own = {"resolution": 320, "turntable": True, "turntable_views": 24, "turntable_size": 512}
    assert rename_aliases(TripoSR, given) == (own, [])


@pytest.mark.parametrize(
    ("given", "meant"), [(False, False), (True, "mesh"), ("mesh", "mesh"), ("nerf", "nerf")]
)
def test_what_a_turntable_may_be(given: Any, meant: Any) -> None:
    made = stage(turntable=given)
    assert made.turntable is meant or made.turntable == meant
    assert made.params()["turntable"] == meant
    assert TripoSR.model_validate(made.params()) == made


def test_a_turntable_takes_time_and_room() -> None:
    none, mesh, nerf = (stage(turntable=mode) for mode in (False, "mesh", "nerf"))
    assert none.work(9, 9) < mesh.work(9, 9) < nerf.work(9, 9)
    assert mesh.disk_bytes(9, 9) == none.disk_bytes(9, 9) + 2 * 30 * 256**2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("foreground_ratio", 0.0),
        ("foreground_ratio", 1.01),
        ("foreground_ratio", float("nan")),
        ("resolution", 15),
        ("resolution", 1025),
        ("resolution", 64.0),
        ("resolution", True),
        ("resolution", "256"),
        ("threshold", 0),
        ("threshold", -1.0),
        ("threshold", float("inf")),
        ("threshold", float("nan")),
        ("level_set", "linear"),
        ("chunk_size", -1),
        ("preview", 1),
        ("turntable", 1),
        ("turntable", 0),
        ("turntable", "film"),
        ("turntable_views", 0),
        ("turntable_views", True),
        ("turntable_size", 255),
        ("turntable_size", 14),
        ("turntable_size", 2050),
        ("turntable_fps", 0),
        ("turntable_fps", 61),
        ("mc_resolution", 64),
        ("formats", "glb"),
        ("formats", []),
        ("formats", ["glb", "obj", "glb"]),
        ("scale", 0.0),
        ("scale", 1e-44),
        ("scale", float("inf")),
        ("scale", "1"),
        ("origin", "middle"),
        ("target_faces", 99),
        ("target_faces", 10_000_001),
        ("bake_texture", "yes"),
        ("texture_resolution", 63),
        ("texture_resolution", 4097),
        ("texture_resolution", 512.0),
        ("min_component", -0.1),
        ("min_component", 1.1),
        ("min_component", float("nan")),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        TripoSR.model_validate({name: value})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


@pytest.mark.slow
def test_importing_the_stage_and_the_provider_loads_nothing_heavy() -> None:
    code = (
        "import sys, dna_pipeline.stages.triposr.stage, dna_pipeline.providers.triposr.provider\n"
        "heavy = {'torch', 'numpy', 'trimesh', 'skimage', 'scipy', 'moderngl', 'imageio_ffmpeg'}\n"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# --- the golden run ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_golden_mesh(make: Make) -> None:
    ctx = make()
    seen: list[tuple[int, int]] = []
    ctx.on_step = lambda step, steps: seen.append((step, steps))
    ctx.recipe = {"input": {"sha256": "0" * 64}, "stages": [{"id": "triposr"}]}
    own = {"scale": None, "origin": None}  # TripoSR's, as the golden numbers are
    mesh, preview = stage(resolution=40, chunk_size=5000, **own).run(ctx)
    assert names(ctx) == ["robot.glb", "robot.preview.png"]
    assert (mesh.path, mesh.role, mesh.media_type) == (
        ctx.work_dir / "robot.glb",
        "mesh",
        "model/gltf-binary",
    )
    assert (preview.path, preview.role, preview.media_type) == (
        ctx.work_dir / "robot.preview.png",
        "preview",
        "image/png",
    )
    assert seen == [(step, 100) for step in (7, 15, 23, 31, 39, 46, 54, 62, 70, 78, 85, 93, 100)]
    with np.load(TINY / "expected.npz") as arrays:
        expected = dict(arrays)
    vertices = to_gltf(expected["mesh_vertices_xyz"])
    found = load(mesh.path.read_bytes())
    assert mesh.facts["vertices"] == len(found.vertices) == int(expected["mesh_vertices"])
    assert mesh.facts["faces"] == len(found.faces) == int(expected["mesh_faces"])
    np.testing.assert_allclose(found.vertices, vertices, rtol=0, atol=1e-4 * np.abs(vertices).max())
    np.testing.assert_allclose(
        mesh.facts["bounds"], to_gltf(expected["mesh_bounds"]), rtol=1e-4, atol=1e-6
    )
    assert mesh.facts["watertight"] is False  # noise that fills the box
    assert mesh.facts["placement"] == {"scale": 1.0, "offset": [0.0, 0.0, 0.0]}
    assert (mesh.facts["up"], mesh.facts["front"]) == ("+Y", "+Z")
    assert found.metadata["dna_pipeline"] == ctx.recipe
    with Image.open(preview.path) as picture:
        assert (picture.size, picture.mode) == ((512, 512), "RGBA")
        assert preview.facts == {"width": 512, "height": 512}
        alpha = np.asarray(picture)[..., 3]
    assert alpha[0].max() == alpha[:, 0].max() == 0
    assert (alpha == 255).mean() > 0.2


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(make: Make) -> None:
    ctx = make()
    everything = stage(formats=["glb", "obj", "ply", "stl"])
    first = [file.path.read_bytes() for file in everything.run(ctx)]
    again = [file.path.read_bytes() for file in everything.run(make())]
    assert len(first) == 5
    assert first == again


def test_no_preview(make: Make) -> None:
    ctx = make()
    (mesh,) = stage(preview=False).run(ctx)
    assert mesh.role == "mesh"
    assert names(ctx) == ["robot.glb"]


@pytest.mark.slow
def test_the_ratio_is_the_part_of_the_frame(models_dir: Path, make: Make) -> None:
    disc = Image.new("RGBA", (100, 100))
    ImageDraw.Draw(disc).ellipse((20, 20, 80, 80), fill=(200, 60, 40, 255))
    heights: list[float] = []
    for ratio in (0.45, 0.9):
        ctx = make(disc, TripoSRModel(path=models_dir / "triposr-base"))
        sized = stage(foreground_ratio=ratio, resolution=64, preview=False, scale=None)
        (mesh,) = sized.run(ctx)
        low, high = mesh.facts["bounds"]
        heights.append(high[1] - low[1])
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.15)


@pytest.mark.slow
def test_a_picture_without_transparency_is_cropped(make: Make) -> None:
    """What lies beside the middle square changes nothing."""
    with Image.open(TINY / "conditioned.png") as image:
        wide = Image.new("RGB", (700, 224), (255, 0, 0))
        wide.paste(image, (238, 0))
    other = wide.copy()
    other.paste((0, 255, 0), (0, 0, 200, 224))
    files = [stage(preview=False).run(make(image))[0] for image in (wide, other)]
    assert files[0].facts["faces"] > 100
    data = [file.path.read_bytes() for file in files]
    assert data[0] == data[1]


def test_the_logarithm_of_the_density_sets_other_vertices(make: Make) -> None:
    """Between the same points of the grid."""
    own = {"preview": False, "scale": None, "origin": None}
    one, other = (
        load(stage(level_set=name, **own).run(make(None, Given(path=TINY)))[0].path.read_bytes())
        for name in ("density", "logit")
    )
    assert one.faces.shape == other.faces.shape
    apart = np.abs(one.vertices - other.vertices).max(axis=1)
    assert apart.mean() > 1e-3
    assert apart.max() < 2 * 0.87 / 23


def test_small_components_are_left_out_if_asked(make: Make) -> None:
    whole, *_ = stage(preview=False).run(make())
    assert "removed" not in whole.facts
    rest, *_ = stage(preview=False, min_component=1.0).run(make())
    assert whole.facts["components"] > 10  # random weights
    assert rest.facts["components"] == 1
    assert rest.facts["removed"] == {
        "components": whole.facts["components"] - 1,
        "faces": whole.facts["faces"] - rest.facts["faces"],
    }


def test_a_mesh_cut_by_the_box_is_told(make: Make) -> None:
    """Random weights fill the box."""
    ctx = make()
    (mesh,) = stage(preview=False).run(ctx)
    assert mesh.facts["cut_by_box"] is True
    sides = ["back", "front", "left", "right", "bottom", "top"]
    assert mesh.facts["cut_sides"] == sides
    assert "reaches the back, front, left, right, bottom and top of the box" in ctx.warnings[-1]


def test_a_picture_without_transparency_is_told(make: Make) -> None:
    ctx = make(Image.new("RGB", (64, 64), (200, 20, 20)))
    stage(preview=False).run(ctx)
    assert "no transparent background" in ctx.warnings[0]


# --- failures ------------------------------------------------------------------------------------


def test_cancelling_in_the_middle_leaves_no_file(make: Make) -> None:
    ctx = make()

    def stop(step: int, steps: int) -> None:
        if step >= 50:
            raise Cancelled(f"at {step} of {steps}")

    ctx.on_step = stop
    with pytest.raises(Cancelled, match="at 50 of 100"):
        stage(resolution=32, chunk_size=32**3 // 4).run(ctx)
    assert names(ctx) == []


def test_nothing_in_the_picture(make: Make) -> None:
    ctx = make(Image.new("RGBA", (40, 40)))
    with pytest.raises(EmptyForeground):
        stage().run(ctx)
    assert names(ctx) == []


def test_no_surface_tells_the_range_of_densities(make: Make) -> None:
    ctx = make()
    with pytest.raises(EmptyMesh, match=r"densities from [\d.e-]+ to [\d.e+]+ do not cross 1e\+06"):
        stage(threshold=1e6).run(ctx)
    assert names(ctx) == []


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        ("decoder.layers.0.bias", "13824 of 13824 densities are not finite"),
        ("backbone.proj_in.bias", "the scene codes are not finite, computed in float32"),
    ],
)
def test_weights_that_are_no_numbers(make: Make, tmp_path: Path, tensor: str, told: str) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "model"))
    state = torch.load(folder / "model.ckpt", weights_only=True)
    state[tensor].fill_(float("nan"))
    torch.save(state, folder / "model.ckpt")
    ctx = make(provider=TripoSRModel(path=folder))
    with pytest.raises(NonFiniteOutput, match=told):
        stage().run(ctx)
    assert names(ctx) == []


def test_colors_that_are_no_numbers(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = surface.extract

    def spoilt(*arguments: Any, **named: Any) -> Any:
        found = extract(*arguments, **named)
        found.mesh.colors[3:5] = np.nan
        return found

    monkeypatch.setattr(surface, "extract", spoilt)
    ctx = make()
    with pytest.raises(NonFiniteOutput, match=r"^2 of \d+ colors are not finite"):
        stage().run(ctx)
    assert names(ctx) == []


@pytest.mark.slow
@pytest.mark.parametrize("later", [{"target_faces": 200}, {"bake_texture": True}])
def test_colours_that_are_none_once_the_mesh_was_checked(
    make: Make, monkeypatch: pytest.MonkeyPatch, later: dict[str, Any]
) -> None:
    """Of the vertices of the decimated mesh, and of the texels."""
    both = surface.extract, Landmarks.density_and_color

    def then_spoilt(*arguments: Any, **named: Any) -> Any:
        found = both[0](*arguments, **named)
        monkeypatch.setattr(
            Landmarks, "density_and_color", lambda self, p: (both[1](self, p)[0], p * np.nan)
        )
        return found

    monkeypatch.setattr(surface, "extract", then_spoilt)
    ctx = make(provider=Given(path=TINY))
    with pytest.raises(NonFiniteOutput, match=r"colou?rs (of the texture )?are not finite"):
        stage(resolution=32, texture_resolution=64, formats=["obj"], **later).run(ctx)
    assert names(ctx) == []


def test_missing_weights_hold(make: Make, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"config\.yaml is not there; put"):
        stage().run(make(provider=TripoSRModel(path=tmp_path / "nowhere")))


def test_a_file_that_is_no_picture(make: Make) -> None:
    ctx = make()
    ctx.source.write_text("not a picture")
    with pytest.raises(ImageUnreadable):
        stage().run(ctx)


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chunk_size", "thrift", "expected"),
    [(0, 0, 16384), (0, 1, 4096), (0, 2, 1024), (9000, 1, 2250), (9000, 2, 1024), (500, 2, 500)],
)
def test_thrift_makes_the_chunks_smaller(
    make: Make, monkeypatch: pytest.MonkeyPatch, chunk_size: int, thrift: int, expected: int
) -> None:
    asked: list[int] = []
    extract = surface.extract

    def spy(field: Any, resolution: int, threshold: float, chunk: int, *rest: Any, **named: Any):
        asked.append(chunk)
        return extract(field, resolution, threshold, chunk, *rest, **named)

    monkeypatch.setattr(surface, "extract", spy)
    ctx = make()
    ctx.low_memory_level = thrift
    stage(chunk_size=chunk_size, preview=False).run(ctx)
    assert asked == [expected]
    assert len([w for w in ctx.warnings if "at a time" in w]) == (1 if thrift else 0)


def test_how_a_render_was_read_is_told(make: Make) -> None:
    ctx = make()
    image = np.asarray(load_image(ctx.source).convert("RGBA"), np.float32) / 255
    ctx.source = ctx.source.with_name("render.exr")
    planes = {name: np.ascontiguousarray(image[..., at]) for at, name in enumerate("RGBA")}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, planes).write(str(ctx.source))
    stage(preview=False).run(ctx)
    assert ["EXR" in warning for warning in ctx.warnings].count(True) == 1
