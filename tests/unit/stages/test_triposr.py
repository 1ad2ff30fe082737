"""The stage from picture to .glb, with the small golden model and with fields made to order."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch
import trimesh
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image, ImageDraw
from pydantic import ValidationError

from dna_pipeline.errors import (
    Cancelled,
    EmptyForeground,
    EmptyMesh,
    ImageUnreadable,
    NonFiniteOutput,
    UnwrapFailed,
    VideoFailed,
    WeightsMissing,
)
from dna_pipeline.imaging import load_image
from dna_pipeline.providers.base import Device, ModelCache, Provider
from dna_pipeline.providers.triposr import TripoSRModel
from dna_pipeline.registry import stage_class
from dna_pipeline.spec.params import rename_aliases
from dna_pipeline.stages import triposr
from dna_pipeline.stages.base import StageContext
from dna_pipeline.stages.triposr import TripoSR
from dna_pipeline.tsr import bake, decimate, surface, unwrap
from dna_pipeline.tsr.field import Field
from dna_pipeline.tsr.mesh import is_watertight
from dna_pipeline.tsr.orientation import to_gltf

pytestmark = pytest.mark.usefixtures("one_thread")

GOLDEN = Path(__file__).parents[2] / "golden"
TINY = GOLDEN / "triposr-tiny"

Make = Callable[..., StageContext]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a context that reads the golden picture, or the one given."""
    monkeypatch.setattr(triposr, "NETWORK_WORK", 0)  # a small network takes no time

    def context(image: Image.Image | None = None, provider: Provider | None = None) -> StageContext:
        source = tmp_path / "robot.png"
        if image is None:
            shutil.copy(TINY / "input.png", source)
        else:
            image.save(source)
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        model = provider or TripoSRModel(path=TINY)
        cache = ModelCache({"triposr": model}, Device("cpu", "float32"))
        return StageContext("triposr", "robot", source, work, cache, lambda step, steps: None)

    return context


def stage(**params: Any) -> TripoSR:
    return TripoSR.model_validate({"model": "triposr", "resolution": 24, **params})


def names(ctx: StageContext) -> list[str]:
    """All that lies in the folder, hidden files too."""
    return sorted(path.name for path in ctx.work_dir.iterdir())


def load(data: bytes) -> trimesh.Trimesh:
    (mesh,) = trimesh.load(io.BytesIO(data), file_type="glb", process=False).geometry.values()
    return mesh


def colors(mesh: trimesh.Trimesh) -> np.ndarray:
    """Linear light in [0, 1], (n, 3)."""
    return np.asarray(mesh.visual.vertex_attributes["color"])[:, :3] / 65535


# --- parameters ----------------------------------------------------------------------------------


def test_it_is_registered() -> None:
    assert stage_class("triposr") is TripoSR
    assert (TripoSR.consumes, TripoSR.produces) == ("image", "mesh")


def test_defaults_are_those_of_the_contract() -> None:
    assert TripoSR(model=None).params() == {
        "model": None,
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


def test_importing_the_stage_and_the_provider_loads_nothing_heavy() -> None:
    code = (
        "import sys, dna_pipeline.stages.triposr, dna_pipeline.providers.triposr\n"
        "heavy = {'torch', 'numpy', 'trimesh', 'skimage', 'scipy', 'moderngl', 'imageio_ffmpeg'}\n"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# --- the golden run ------------------------------------------------------------------------------


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


def test_each_format_and_its_facts(make: Make) -> None:
    """In the order asked for; the first is what a next stage would read."""
    ctx = make()
    files = stage(formats=["stl", "glb", "ply", "obj"], preview=False).run(ctx)
    assert [file.path.name for file in files] == [
        "robot.stl", "robot.glb", "robot.ply", "robot.obj",
    ]  # fmt: skip
    assert names(ctx) == sorted(file.path.name for file in files)
    assert {file.role for file in files} == {"mesh"}
    for file in files:
        found = trimesh.load(file.path, process=False, force="mesh")
        assert len(found.faces) == file.facts["faces"]
        np.testing.assert_allclose(found.bounds, file.facts["bounds"], atol=2e-6)


def test_by_default_a_mesh_stands_on_the_ground_one_metre_long(make: Make) -> None:
    (mesh,) = stage(preview=False).run(make())
    found = load(mesh.path.read_bytes())
    low, high = np.asarray(found.bounds)
    assert low[1] == 0
    np.testing.assert_allclose((low + high)[[0, 2]], 0, atol=1e-6)
    assert (high - low).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(mesh.facts["bounds"], found.bounds, atol=1e-6)


@pytest.mark.parametrize("origin", ["base", "center", None])
def test_size_and_origin(make: Make, origin: str | None) -> None:
    (own,) = stage(preview=False, scale=None, origin=None).run(make())
    raw = load(own.path.read_bytes())
    (mesh,) = stage(preview=False, scale=1.8, origin=origin).run(make())
    found = load(mesh.path.read_bytes())
    assert found.extents.max() == pytest.approx(1.8, rel=1e-6)
    placement = mesh.facts["placement"]
    expected = raw.vertices * placement["scale"] + placement["offset"]
    np.testing.assert_allclose(found.vertices, expected, atol=3e-6)
    middle = found.bounds.mean(axis=0) if origin else placement["offset"]
    if origin == "base":
        middle[1] = found.bounds[0][1]
    np.testing.assert_allclose(middle, 0, atol=1e-6)


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


# --- the turntable -------------------------------------------------------------------------------


def film_of(path: Path, size_px: int) -> np.ndarray:
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, size_px, size_px, 3).astype(int)


def test_a_turntable_of_the_mesh(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNA_OPENGL", "off")  # so that this runs everywhere
    ctx = make()
    seen: list[int] = []
    ctx.on_step = lambda step, steps: seen.append(step)
    size = {"turntable_views": 5, "turntable_size": 64, "turntable_fps": 10}
    _, film = stage(turntable=True, preview=False, chunk_size=24**3 // 4, **size).run(ctx)
    assert names(ctx) == ["robot.glb", "robot.turntable.mp4"]
    assert (film.path, film.role, film.media_type) == (
        ctx.work_dir / "robot.turntable.mp4",
        "turntable",
        "video/mp4",
    )
    assert film.facts == {
        "width": 64, "height": 64, "frames": 5, "fps": 10, "renderer": "software",
    }  # fmt: skip
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    assert seen[-1] == 100
    assert not any("OpenGL" in warning for warning in ctx.warnings)
    pictures = film_of(film.path, 64)
    assert len(pictures) == 5
    assert (pictures[:, 0] > 225).all()
    assert 0.1 < (pictures < 240).any(axis=-1).mean() < 0.95


def test_a_turntable_of_the_field(make: Make) -> None:
    """As the original renders it: the golden views, where their size and number are asked for."""
    with np.load(TINY / "expected.npz") as arrays:
        views = arrays["views"]
    ctx = make()
    steps: list[int] = []
    ctx.on_step = lambda step, steps_: steps.append(step)
    size = {"turntable_views": len(views), "turntable_size": views.shape[1]}
    _, film = stage(turntable="nerf", preview=False, **size).run(ctx)
    assert film.facts["renderer"] == "volume"
    found = film_of(film.path, views.shape[1])
    assert len(found) == len(views)
    apart = np.abs(found[:, None] - 255 * views[None]).mean(axis=(2, 3, 4))
    assert apart.argmin(axis=1).tolist() == [0, 1, 2, 3]
    assert apart.diagonal().max() < 12  # noise, of which a film's coarser colours lose much
    assert steps == sorted(steps)
    assert steps[-1] == 100
    assert len(set(steps)) >= 4


def test_cancelling_a_turntable_leaves_no_film(make: Make) -> None:
    ctx = make()

    def stop(step: int, steps: int) -> None:
        if step > 60:  # of the mesh, 58 are the last
            raise Cancelled(f"at {step} of {steps}")

    ctx.on_step = stop
    with pytest.raises(Cancelled, match=r"at (6|7|8)\d of 100"):
        stage(turntable="mesh", preview=False, turntable_views=5, turntable_size=64).run(ctx)
    assert names(ctx) == ["robot.glb"]


def test_no_ffmpeg_is_a_failure_of_its_own(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    with pytest.raises(VideoFailed, match="/nowhere/ffmpeg cannot be run") as caught:
        stage(turntable="mesh", preview=False, turntable_views=1, turntable_size=32).run(make())
    assert caught.value.code == "video_failed"


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


# --- up and front ----------------------------------------------------------------------------


class Landmarks(Field):
    """A white ball with a red nose at +x, a green hat at +z and a blue hand at +y."""

    PARTS = ((0.6, 0, 0), (0, 0.5, 0), (0, 0, 0.7))
    RADII = (0.4, 0.12, 0.12, 0.12)
    PAINT = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))

    def __init__(self) -> None:
        field = Field.from_npz(GOLDEN / "scenes" / "robot.npz")
        super().__init__(field.scene_code, field.decoder, field.renderer)

    def distances(self, points: torch.Tensor) -> torch.Tensor:
        """To the surfaces of the ball and of the three parts, (N, 4)."""
        centres = torch.tensor([(0.0, 0.0, 0.0), *self.PARTS])
        return torch.cdist(points, centres) - torch.tensor(self.RADII)

    def density(self, points: torch.Tensor) -> torch.Tensor:
        return 25 - 100 * self.distances(points).amin(dim=1)

    def density_and_color(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nearest = self.distances(points).argmin(dim=1)
        return self.density(points), torch.tensor([(1.0, 1.0, 1.0), *self.PAINT])[nearest]


class Given(TripoSRModel):
    """Gives the landmarks for any picture."""

    def load(self, device: Device) -> Any:
        class Network:
            def field(self, image: Image.Image, *, foreground_ratio: float) -> Field:
                return Landmarks()

        return Network()


def test_the_front_looks_along_z_and_up_is_y(make: Make) -> None:
    """The nose faces the viewer at +Z; the hat is up; what the picture has right is at +X."""

    ctx = make(provider=Given(path=TINY))
    own = stage(resolution=64, preview=False, scale=None, origin=None)
    found = load(own.run(ctx)[0].path.read_bytes())
    paint = colors(found)
    for color, tip in (
        ((1, 0, 0), (0, 0, 0.72)),
        ((0, 1, 0), (0, 0.82, 0)),
        ((0, 0, 1), (0.62, 0, 0)),
    ):
        part = found.vertices[(paint == color).all(axis=1)]
        assert len(part) > 20
        axis = int(np.argmax(tip))
        assert part[:, axis].max() == pytest.approx(max(tip), abs=0.01)
        np.testing.assert_allclose(np.delete(part.mean(axis=0), axis), 0, atol=0.02)
    assert found.volume > 4 / 3 * np.pi * 0.39**3


def test_what_the_picture_has_right_and_up_is_so_from_the_front(
    models_dir: Path, make: Make
) -> None:
    """A red head, a blue foot, and a green arm on the right of the picture."""
    picture = Image.new("RGBA", (300, 300))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((130, 90, 170, 220), fill=(128, 128, 128, 255))
    draw.ellipse((110, 20, 190, 100), fill=(230, 20, 20, 255))
    draw.rectangle((170, 130, 270, 165), fill=(20, 200, 20, 255))
    draw.rectangle((120, 200, 180, 280), fill=(20, 20, 230, 255))
    ctx = make(picture, TripoSRModel(path=models_dir / "triposr-base"))
    mesh, _ = stage(resolution=64, origin="center").run(ctx)
    assert mesh.facts["watertight"] is True
    found = load(mesh.path.read_bytes())
    assert found.volume > 0
    strongest, paint = colors(found).argmax(axis=1), colors(found)
    vivid = paint.max(axis=1) > 4 * np.sort(paint, axis=1)[:, 1]
    front = found.vertices[:, 2] > 0.02
    red, green, blue = (
        found.vertices[vivid & front & (strongest == channel)].mean(axis=0) for channel in range(3)
    )
    assert red[1] > 0.2 > -0.2 > blue[1]
    assert green[0] > 0.1 > -0.1 > red[0]
    assert red[0] == pytest.approx(blue[0], abs=0.05)


@pytest.mark.parametrize(
    ("change", "closed"),
    [
        (lambda f: f, True),
        (lambda f: f[:, ::-1], True),
        (lambda f: np.vstack([f, f + 42]), True),
        (lambda f: f[1:], False),
        (lambda f: np.vstack([f, f]), False),
        (lambda f: np.vstack([f[1:], f[:1, ::-1]]), False),
        (lambda f: f[:1], False),
    ],
)
def test_watertight(change: Callable[[np.ndarray], np.ndarray], closed: bool) -> None:
    ball = trimesh.creation.icosphere(subdivisions=1)
    faces = change(np.asarray(ball.faces)).astype(np.int32)
    assert is_watertight(faces) is closed


# --- memory --------------------------------------------------------------------------------------


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
    ctx.thrift = thrift
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


# --- fewer faces, and textures -------------------------------------------------------------------


def test_target_faces_and_colours_where_the_vertices_are_then(make: Make) -> None:
    ctx = make(provider=Given(path=TINY))
    mesh, *_ = stage(resolution=40, target_faces=500, preview=False).run(ctx)
    found = load(mesh.path.read_bytes())
    assert 400 < len(found.faces) == mesh.facts["faces"] <= 500 < mesh.facts["faces_before"]
    assert mesh.facts["watertight"] is True
    assert ((colors(found) == 0) | (colors(found) == 1)).all()  # no mixtures of the landmarks'


def test_cancelling_while_faces_are_taken_out(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = make(provider=Given(path=TINY))

    def cancelled(step: int, steps: int) -> None:
        raise Cancelled("now")

    start = decimate._joined
    monkeypatch.setattr(
        decimate, "_joined", lambda *mesh: (setattr(ctx, "on_step", cancelled), start(*mesh))[1]
    )
    with pytest.raises(Cancelled):
        stage(resolution=32, target_faces=100).run(ctx)
    assert names(ctx) == []


def test_pieces_that_vanish_and_faces_too_many_are_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ball with three beads around it."""
    monkeypatch.setattr(Landmarks, "PARTS", ((0.7, 0, 0), (0, 0.7, 0), (0, 0, 0.7)))
    monkeypatch.setattr(Landmarks, "RADII", (0.4, 0.07, 0.07, 0.07))
    ctx = make(provider=Given(path=TINY))
    few = stage(resolution=32, preview=False, target_faces=100)
    facts = few.run(ctx)[0].facts
    assert facts["components"] < 4
    assert ctx.warnings[1:] == [  # the first is of the picture
        f"The mesh was of 4 separate pieces, and is of {facts['components']} "
        f"with {facts['faces']} faces."
    ]
    monkeypatch.setattr(decimate, "_AGGRESSIVENESS", ())
    ctx = make(provider=Given(path=TINY))
    facts = few.run(ctx)[0].facts
    assert facts["components"] == 4
    assert ctx.warnings[1:] == [  # the first is of the picture
        f"The mesh has {facts['faces']} faces, not 100: no way to fewer left it whole."
    ]


def test_a_mesh_of_few_faces_is_left_alone(make: Make) -> None:
    plain = stage(preview=False).run(make())[0]
    before = plain.path.read_bytes()
    mesh = stage(preview=False, target_faces=10**6).run(make())[0]
    assert "faces_before" not in mesh.facts
    assert load(mesh.path.read_bytes()).faces.tolist() == load(before).faces.tolist()


def test_a_texture_in_the_glb_and_beside_the_obj(make: Make) -> None:
    files: list[list[bytes]] = []
    for _ in range(2):
        ctx = make(provider=Given(path=TINY))
        seen: list[int] = []
        ctx.on_step = lambda step, steps, seen=seen: seen.append(100 * step // steps)
        baked = stage(
            resolution=32, bake_texture=True, texture_resolution=128, formats=["glb", "obj"]
        )
        made = baked.run(ctx)
        files.append([file.path.read_bytes() for file in made])
        assert seen == sorted(seen)
        assert seen[-1] == 100
    assert files[0] == files[1]
    roles = {file.role: file for file in made}
    assert set(roles) >= {"mesh", "texture", "preview"}
    assert roles["texture"].path.name == "robot.texture.png"
    facts = made[0].facts
    assert facts["watertight"] is True
    assert facts["texture"]["size"] == 128
    assert 0.3 < facts["texture"]["used"] < 1
    assert facts["texture"]["gap"] >= 3
    assert not any("too small" in warning for warning in ctx.warnings)
    found = load(files[0][0])
    picture = np.asarray(found.visual.material.baseColorTexture.convert("RGB"))
    with Image.open(roles["texture"].path) as image:
        assert (np.asarray(image) == picture).all()
    # trimesh counts v upwards. The nose, the hat and the hand have their colours where they are.
    place = np.clip(found.visual.uv * (128, -128) + (0, 128), 0, 127).astype(int)
    paint = picture[place[:, 1], place[:, 0]]
    for axis, color in ((2, (255, 0, 0)), (1, (0, 255, 0)), (0, (0, 0, 255))):
        tip = found.vertices[:, axis] > found.vertices[:, axis].max() - 0.03
        assert (paint[tip] == color).all(axis=1).mean() > 0.9


def test_a_texture_too_small_for_its_charts_is_told(make: Make) -> None:
    """Noise in many small pieces."""
    ctx = make()
    mesh = stage(bake_texture=True, texture_resolution=64, preview=False).run(ctx)[0]
    assert mesh.facts["texture"]["gap"] < 1
    assert "64 × 64 is too small for" in ctx.warnings[-1]


def test_cancelling_while_the_texture_is_laid_out(make: Make) -> None:
    ctx = make(provider=Given(path=TINY))

    def stop(step: int, steps: int) -> None:
        if step > 55:
            raise Cancelled("now")

    ctx.on_step = stop
    with pytest.raises(Cancelled):
        stage(resolution=32, bake_texture=True, texture_resolution=128).run(ctx)
    assert names(ctx) == []


def test_a_mesh_that_cannot_be_laid_out(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unwrap, "__name__", "nowhere_at_all")
    with pytest.raises(UnwrapFailed, match=r"ended with exit status 1: .*nowhere_at_all"):
        stage(bake_texture=True, texture_resolution=64).run(make())


@pytest.mark.parametrize(
    ("shown", "made"),
    [
        ({"formats": ["stl"]}, False),
        ({"formats": ["stl"], "turntable": "nerf"}, False),
        ({"formats": ["stl"], "turntable": "mesh"}, True),
        ({"formats": ["stl", "ply"]}, True),
    ],
)
def test_a_texture_that_nothing_shows_is_not_made(
    make: Make, monkeypatch: pytest.MonkeyPatch, shown: dict[str, Any], made: bool
) -> None:
    baked: list[int] = []
    bake_it = bake.bake
    monkeypatch.setattr(bake, "bake", lambda *given: (baked.append(1), bake_it(*given))[1])
    ctx = make(provider=Given(path=TINY))
    asked = {"bake_texture": True, "texture_resolution": 64, "preview": False, **shown}
    small = {"turntable_views": 1, "turntable_size": 16}
    textured, plain = (stage(**asked | small | more) for more in ({}, {"bake_texture": False}))
    textured.run(ctx)
    assert bool(baked) == made
    assert ("No texture was made: an STL holds none." in ctx.warnings) != made
    assert (textured.disk_bytes(1, 1) > plain.disk_bytes(1, 1)) == made
    assert (textured.work(1, 1) > plain.work(1, 1)) == made


def test_a_texture_takes_disk_and_time() -> None:
    plain, baked = stage(), stage(bake_texture=True)
    assert baked.disk_bytes(64, 64) > plain.disk_bytes(64, 64) + 2048**2
    assert baked.work(64, 64) > plain.work(64, 64) + 2048**2
    assert stage(resolution=256, target_faces=1000).disk_bytes(1, 1) < stage(
        resolution=256
    ).disk_bytes(1, 1)
