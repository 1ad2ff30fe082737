"""The turning mesh: framed once, seamless, and the same by OpenGL as by numpy."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from dna_pipeline.media.meshes import gl, gl_drawing
from dna_pipeline.media.meshes.drawing import Subject, draw, on_white, sample
from dna_pipeline.media.meshes.mesh import Mesh, TexturedMesh, is_watertight
from dna_pipeline.media.meshes.preview import render_preview
from dna_pipeline.media.meshes.turntable import Turntable
from tests.meshes import signpost, textured


def pictures(mesh: Mesh | TexturedMesh, views: int = 4, size_px: int = 96) -> np.ndarray:
    """(views, size, size, 3), by numpy."""
    return np.stack(list(Turntable(mesh, views, size_px, software=True))).astype(int)


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Mean difference of 8-bit values, and the part of them that differs by more than two."""
    apart = np.abs(ours.astype(int) - theirs)
    return float(apart.mean()), float((apart > 2).mean())


def ball(paint: str) -> Mesh:
    solid = trimesh.creation.icosphere(subdivisions=4)
    colors = np.random.default_rng(1).random((len(solid.vertices), 3)).astype(np.float32)
    faces = solid.faces if paint == "closed" else solid.faces[solid.triangles_center[:, 2] < 0.3]
    vertices = (
        solid.vertices * (1, 0.7, 1.3) @ trimesh.transformations.euler_matrix(1, 2, 3)[:3, :3]
    )
    return Mesh(vertices.astype(np.float32), np.asarray(faces, np.int32), colors)


def painted() -> TexturedMesh:
    """A sheet with a noisy picture, both of whose sides are seen in a turn."""
    steps = np.linspace(-0.5, 0.5, 9)
    y, z = np.meshgrid(steps, steps)
    vertices = np.stack([0.3 * y**2, y, z], axis=-1).reshape(-1, 3)
    corner = (np.arange(8)[:, None] * 9 + np.arange(8)).ravel()
    faces = np.concatenate([corner[:, None] + [0, 1, 10], corner[:, None] + [0, 10, 9]])
    normals = np.stack([np.ones(81), -0.6 * y.ravel(), np.zeros(81)], axis=1)
    return TexturedMesh(
        vertices.astype(np.float32),
        faces.astype(np.int32),
        (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        np.stack([y + 0.5, 0.5 - z], axis=-1).reshape(-1, 2).astype(np.float32),
        np.random.default_rng(2).integers(0, 256, (23, 31, 3), np.uint8),
    )


MESHES = {
    "closed": lambda: ball("closed"),
    "open": lambda: ball("open"),
    "textured": painted,
    "signpost": signpost,
    "seams": textured,
}


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("mesh", MESHES)
def test_opengl_draws_what_numpy_draws(mesh: str) -> None:
    made = MESHES[mesh]()
    turntable = Turntable(made, 4, 96)
    drawn = np.stack(list(turntable))
    assert (turntable.renderer, turntable.fault) == ("gl", None)
    mean, part = difference(drawn, pictures(made))
    assert mean < 0.05
    assert part < 0.001


@pytest.mark.usefixtures("opengl")
def test_what_is_drawn_on_is_out_of_the_meshs_reach() -> None:
    """Its sampler reads unit 0, even if only in name; what it draws on must not be there."""
    library = ctypes.CDLL("libEGL.so.1")
    library.eglGetProcAddress.restype = ctypes.c_void_p
    activate = ctypes.CFUNCTYPE(None, ctypes.c_uint)(library.eglGetProcAddress(b"glActiveTexture"))
    get = ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.POINTER(ctypes.c_int))(
        library.eglGetProcAddress(b"glGetIntegerv")
    )
    (view,) = Turntable(signpost(), 1, 16)._views
    with gl_drawing.renderer(Subject.of(signpost()), 16) as drawn:
        drawn.draw(view)
        assert drawn._program["picture"].value == 0
        activate(0x84C0)  # GL_TEXTURE0
        bound = ctypes.c_int(-1)
        get(0x8069, ctypes.byref(bound))  # GL_TEXTURE_BINDING_2D
        assert bound.value not in (-1, drawn._samples.glo)


def test_what_a_closed_mesh_hides_need_not_be_drawn() -> None:
    subject = replace(Subject.of(ball("closed")), closed=True)
    (view,) = Turntable(ball("closed"), 1, 96)._views
    whole = replace(subject, closed=False)
    front = draw(subject, view, 96, 2)
    assert front[..., 3].mean() > 0.3
    np.testing.assert_array_equal(front, draw(whole, view, 96, 2))


def test_of_an_open_mesh_the_inside_is_drawn() -> None:
    bowl = ball("open")
    assert not is_watertight(bowl.faces)
    assert not Turntable(bowl, 1, 64)._subject.closed
    assert Turntable(ball("closed"), 1, 64)._subject.closed


def test_it_turns_on_by_equal_steps() -> None:
    """The camera moves towards +y, so the mesh turns the other way."""
    turntable = Turntable(signpost(), 8, 96, software=True)
    found, subject = list(turntable), turntable._subject
    for step in (0, 1, 3, 6):
        turn = trimesh.transformations.rotation_matrix(-2 * np.pi * step / 8, (0, 0, 1))[:3, :3].T
        turned = replace(subject, vertices=subject.vertices @ turn, normals=subject.normals @ turn)
        alone = on_white(draw(turned, turntable._views[0], 96, 2))
        assert difference(found[step], alone)[0] < 0.02


def test_it_begins_at_the_input_view() -> None:
    (picture,) = pictures(signpost(), views=1)
    red = (picture[..., 0] > 120) & (picture[..., 1] < 60)
    green = picture[..., 1] > 2 * picture[..., 0] + 20
    rows, columns = np.nonzero(red)
    assert rows.mean() < 45  # the nose is high up, in the middle
    assert abs(columns.mean() - np.nonzero((picture < 250).any(axis=-1))[1].min() - 9) < 6
    assert np.nonzero(green)[1].mean() > columns.mean() + 10  # the arm at the picture's right


def box(picture: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((picture < 250).any(axis=-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


SOLIDS = {
    "cube": lambda: trimesh.creation.box((1, 1, 1)),
    "tower": lambda: trimesh.creation.box((1, 1, 1.6)),
    "pole": lambda: trimesh.creation.box((0.3, 0.2, 4)),
    "plank": lambda: trimesh.creation.box((5, 1, 0.1)),
    "hat": lambda: trimesh.creation.cone(1, 0.8),
    "needle": lambda: trimesh.creation.cone(1, 2.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLIDS)
def test_one_frame_for_the_whole_turn(name: str) -> None:
    solid = SOLIDS[name]()
    solid.apply_translation([3, -2, 7])
    grey = np.full((len(solid.vertices), 3), 0.5, np.float32)
    mesh = Mesh(solid.vertices.astype(np.float32), solid.faces.astype(np.int32), grey)
    boxes = np.array([box(picture) for picture in pictures(mesh, views=24, size_px=128)])
    top, bottom, left, right = (
        boxes[:, 0].min(), boxes[:, 1].max(), boxes[:, 2].min(), boxes[:, 3].max()
    )  # fmt: skip
    assert max(bottom - top, right - left) == pytest.approx(0.92 * 128, abs=3)
    assert abs(top + bottom - 128) <= 3
    assert abs(left + right - 128) <= 3


def test_the_ground_is_white_and_light_comes_from_above() -> None:
    (picture,) = pictures(replace_colors(ball("closed"), 0.7), views=1)
    assert (picture[0] == 255).all()
    assert (picture[:, 0] == 255).all()
    top, bottom, left, right = box(picture)
    middle = picture[:, (left + right) // 2].mean(axis=-1)
    assert middle[top + 12] > middle[bottom - 8] + 40


def replace_colors(mesh: Mesh, grey: float) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces, np.full_like(mesh.colors, grey))


def test_edges_are_smooth() -> None:
    (picture,) = pictures(replace_colors(ball("closed"), 0.1), views=1)
    light = on_white(np.array([[[0.0, 0.0, 0.0, 0.5]]], np.float32))
    assert light[0, 0, 0] == 188  # half the light, not half the value
    between = (picture > 150) & (picture < 250)
    assert between.any(axis=-1).sum() > 60


# --- where OpenGL is not there, or fails ---------------------------------------------------------


def test_without_opengl_numpy_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gl.SWITCH, "off")
    turntable = Turntable(signpost(), 3, 48)
    drawn = np.stack(list(turntable))
    assert (turntable.renderer, turntable.fault) == ("software", None)
    np.testing.assert_array_equal(drawn, pictures(signpost(), 3, 48))


@pytest.mark.usefixtures("opengl")
def test_where_opengl_fails_in_the_middle_numpy_draws_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import moderngl

    real, calls = gl_drawing.Renderer.draw, list[int]()

    def fails(self, view):
        calls.append(1)
        if len(calls) == 3:
            raise moderngl.Error("out of memory")
        return real(self, view)

    monkeypatch.setattr(gl_drawing.Renderer, "draw", fails)
    turntable = Turntable(signpost(), 5, 48)
    drawn = np.stack(list(turntable))
    assert (turntable.renderer, turntable.fault) == ("software", "out of memory")
    assert len(drawn) == 5
    assert difference(drawn, pictures(signpost(), 5, 48))[0] < 0.1


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("shape", [(1, 70_000), (70_000, 1)])
def test_what_opengl_fails_at_in_silence_is_noticed(shape: tuple[int, int]) -> None:
    """No device holds a texture so long, and moderngl does not say so."""
    mesh = replace(painted(), texture=np.full((*shape, 3), 200, np.uint8))
    turntable = Turntable(mesh, 2, 48)
    drawn = np.stack(list(turntable))
    assert (turntable.renderer, turntable.fault) == ("software", "GL_INVALID_VALUE")
    np.testing.assert_array_equal(drawn, pictures(mesh, 2, 48))


@pytest.mark.usefixtures("opengl")
def test_memory_that_runs_out_while_it_draws_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import moderngl

    errors = iter(["GL_NO_ERROR"] * 3 + ["GL_OUT_OF_MEMORY"])
    monkeypatch.setattr(moderngl.Context, "error", property(lambda _: next(errors)))
    turntable = Turntable(signpost(), 3, 48)
    drawn = np.stack(list(turntable))
    assert (turntable.renderer, turntable.fault) == ("software", "GL_OUT_OF_MEMORY")
    assert difference(drawn, pictures(signpost(), 3, 48))[0] < 0.1


def test_no_faces() -> None:
    nothing = Mesh(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="without faces"):
        Turntable(nothing, 3, 48)


# --- textures ------------------------------------------------------------------------------------


def test_texels_lie_at_their_middles_and_mix_as_light() -> None:
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 1] = 255
    places = np.array([[0.25, 0.25], [0.75, 0.25], [0.5, 0.25], [0.75, 0.5], [1.2, -0.1]])
    light = sample(texture, places.astype(np.float32))
    np.testing.assert_allclose(light[:, 0], [0, 1, 0.5, 0.5, 1], atol=1e-6)


def test_a_texture_looks_as_the_same_colours_on_vertices() -> None:
    mean, part = difference(pictures(textured()), pictures(signpost()))
    assert mean < 0.5
    assert part < 0.02
    previews = [
        np.asarray(render_preview(mesh, 96)).astype(int) for mesh in (textured(), signpost())
    ]
    assert difference(*previews)[0] < 0.5
