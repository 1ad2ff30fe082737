"""Fewer faces and textures, as the `triposr` stage makes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.base.errors import (
    Cancelled,
    UnwrapFailed,
)
from dna_pipeline.media.meshes import decimate, gl, gl_drawing, texels, unwrap
from dna_pipeline.providers.triposr import bake
from tests.triposr_stage import TINY, Given, Landmarks, Make, colors, load, names, stage

pytestmark = pytest.mark.usefixtures("one_thread")


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


@pytest.mark.slow
def test_a_mesh_of_few_faces_is_left_alone(make: Make) -> None:
    plain = stage(preview=False).run(make())[0]
    before = plain.path.read_bytes()
    mesh = stage(preview=False, target_faces=10**6).run(make())[0]
    assert "faces_before" not in mesh.facts
    assert load(mesh.path.read_bytes()).faces.tolist() == load(before).faces.tolist()


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_preview_shows_the_texture(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The field is white, red, green and blue; the texture is replaced by a plain blue one."""
    bake_it = bake.bake

    def blue(*given: Any, **more: Any) -> bake.Baked:
        baked = bake_it(*given, **more)
        texture = np.zeros_like(baked.mesh.texture)
        texture[..., 2] = 255
        return replace(baked, mesh=replace(baked.mesh, texture=texture))

    monkeypatch.setattr(bake, "bake", blue)
    for is_baked in (True, False):
        ctx = make(provider=Given(path=TINY))
        made = stage(bake_texture=is_baked, texture_resolution=64).run(ctx)
        (preview,) = [file for file in made if file.role == "preview"]
        with Image.open(preview.path) as image:
            pixels = np.asarray(image)
        solid = pixels[pixels[..., 3] == 255]
        assert len(solid) > 10_000
        assert (solid[:, :2].max() == 0) == is_baked
        assert solid[:, 2].max() > 150


@pytest.mark.slow
def test_a_texture_too_small_for_its_charts_is_told(make: Make) -> None:
    """Noise in many small pieces."""
    ctx = make()
    mesh = stage(bake_texture=True, texture_resolution=64, preview=False).run(ctx)[0]
    assert mesh.facts["texture"]["gap"] < 1
    assert "64 × 64 is too small for" in ctx.warnings[-1]


@pytest.mark.slow
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


@pytest.mark.slow
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
    monkeypatch.setattr(
        bake, "bake", lambda *given, **more: (baked.append(1), bake_it(*given, **more))[1]
    )
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


@pytest.mark.slow
@pytest.mark.parametrize("error", [gl.OpenGLError("out of memory"), gl.NoOpenGL("none")])
def test_opengl_that_fails_is_told(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """There is nothing to tell of a machine without it."""

    def fails(*given: object) -> None:
        raise error

    monkeypatch.setattr(texels, "context", fails)
    monkeypatch.setattr(gl_drawing, "opengl", fails)
    ctx = make()
    film = {"turntable": True, "turntable_views": 1, "turntable_size": 16}
    stage(bake_texture=True, texture_resolution=64, preview=False, **film).run(ctx)
    told = [warning for warning in ctx.warnings if "OpenGL" in warning]
    expected = [
        "OpenGL failed, the texture was baked without it: out of memory",
        "OpenGL failed, the turntable was drawn without it: out of memory",
    ]
    assert told == (expected if isinstance(error, gl.OpenGLError) else [])
    for alone in ({"bake_texture": True, "texture_resolution": 64}, film):
        ctx = make()
        stage(preview=False, **alone).run(ctx)
        assert ctx.is_degraded == isinstance(error, gl.OpenGLError)
