"""Files that were damaged before they were hashed: only opening them tells."""

from __future__ import annotations

import io
import math
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import Artifact
from dna_pipeline.media import readers
from tests.artifacts import write_all
from tests.meshes import signpost
from tests.pictures import chunk

# imageio-ffmpeg leaves the pipes of an ffmpeg that has ended to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

MESHES = ("glb", "obj", "ply", "stl")
OUT_OF_REACH = 10_000


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    return write_all(tmp_path_factory.mktemp("originals"))


@pytest.fixture
def facts(originals: list[Artifact], tmp_path: Path) -> dict[str, dict[str, Any]]:
    """The facts of the files by their names; the test has copies of these in its folder."""
    for file in originals:
        shutil.copy(file.path, tmp_path)
    return {file.path.name: file.facts for file in originals}


def replace_float(data: bytes, at: int, value: float) -> bytes:
    return data[:at] + struct.pack("<f", value) + data[at + 4 :]


def first_number(name: str, data: bytes) -> int:
    """Where the first coordinate of a mesh's file lies."""
    if name.endswith(".stl"):
        return 80 + 4 + 12
    mark = b"BIN\0" if name.endswith(".glb") else b"end_header\n"
    return data.index(mark) + len(mark)


def without_number(name: str, data: bytes) -> bytes:
    if name.endswith(".obj"):
        return re.sub(rb"\nv \S+", b"\nv nan", data, count=1)
    return replace_float(data, first_number(name, data), math.nan)


def beyond_last_vertex(name: str, data: bytes) -> bytes:
    """The last corner of the last face is a vertex that is not there."""
    if name.endswith(".obj"):
        return data[: data.rindex(b"f ")] + b"f 1//1 2//2 %d//3\n" % OUT_OF_REACH
    if name.endswith(".ply"):
        return data[:-4] + struct.pack("<i", OUT_OF_REACH)
    indices = signpost().faces.astype("<u4").tobytes()
    end = data.index(indices) + len(indices)
    return data[: end - 4] + struct.pack("<I", OUT_OF_REACH) + data[end:]


def with_short_pixels(data: bytes) -> bytes:
    """A PNG of sound chunks, whose compressed pixels break off in the middle."""
    at = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[at - 4 : at])
    half = data[at + 4 : at + 4 + length // 2]
    return data[: at - 4] + chunk(b"IDAT", half) + chunk(b"IEND", b"")


def picture(side: int) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def damaged(
    folder: Path, facts: dict[str, dict[str, Any]], name: str, change: Callable[[bytes], bytes]
) -> str:
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    text = readers.damage(path, facts[name])
    assert text is not None
    return text


def test_what_the_program_writes_is_sound(facts: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    opened = {name for name in facts if readers.can_open(tmp_path / name)}
    assert facts.keys() - opened == {"painted.mtl"}
    assert {name: readers.damage(tmp_path / name, facts[name]) for name in opened} == dict.fromkeys(
        opened
    )


@pytest.mark.parametrize("name", ["cat.png", *(f"plain.{kind}" for kind in MESHES)])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_file_that_is_cut_off(
    facts: dict[str, dict[str, Any]], tmp_path: Path, name: str, part: float
) -> None:
    assert damaged(tmp_path, facts, name, lambda data: data[: int(part * len(data))])


@pytest.mark.slow
@pytest.mark.parametrize("lost", [1, 60, 1000])
def test_a_film_that_is_cut_off(
    facts: dict[str, dict[str, Any]], tmp_path: Path, lost: int
) -> None:
    text = damaged(tmp_path, facts, "cat.mp4", lambda data: data[:-lost])
    assert ("frames " in text and "in the manifest 7" in text) or "cannot be opened: " in text


def test_a_film_with_one_other_byte(facts: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    text = damaged(
        tmp_path, facts, "cat.mp4", lambda data: data[:-80] + bytes([data[-80] ^ 0x5A]) + data[-79:]
    )
    assert text == "frames 6, in the manifest 7"


def test_a_picture_whose_pixels_end_early(facts: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    text = damaged(tmp_path, facts, "cat.png", with_short_pixels)
    assert "cannot be opened: " in text
    assert "truncated" in text


@pytest.mark.parametrize("kind", MESHES)
def test_a_vertex_that_is_not_a_number(
    facts: dict[str, dict[str, Any]], tmp_path: Path, kind: str
) -> None:
    name = f"plain.{kind}"
    text = damaged(tmp_path, facts, name, lambda data: without_number(name, data))
    assert "1 of " in text
    assert text.endswith("vertices are not finite")


@pytest.mark.parametrize("kind", ["glb", "obj", "ply"])
def test_a_face_with_a_vertex_that_is_not_there(
    facts: dict[str, dict[str, Any]], tmp_path: Path, kind: str
) -> None:
    name = f"plain.{kind}"
    text = damaged(tmp_path, facts, name, lambda data: beyond_last_vertex(name, data))
    assert "a face names a vertex" in text or "out of bounds" in text


def test_a_face_too_few(facts: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    text = damaged(tmp_path, facts, "plain.obj", lambda data: data[: data.rindex(b"f ")])
    assert text == "faces 35, in the manifest 36"


def test_a_mesh_without_faces(facts: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    text = damaged(tmp_path, facts, "plain.obj", lambda data: data[: data.index(b"\nf ")])
    assert text == "cannot be opened: it has no faces"


@pytest.mark.parametrize(
    ("mesh", "gone"),
    [
        ("painted.obj", "painted.mtl"),
        ("painted.obj", "painted.texture.png"),
        ("painted.ply", "painted.texture.png"),
    ],
)
def test_a_file_that_a_mesh_names_is_gone(
    facts: dict[str, dict[str, Any]], tmp_path: Path, mesh: str, gone: str
) -> None:
    (tmp_path / gone).unlink()
    found = readers.damage(tmp_path / mesh, {})
    assert found == f"cannot be opened: {gone}, which it names, cannot be read"


@pytest.mark.parametrize("mesh", ["painted.obj", "painted.ply"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no picture", ", in the manifest 12"),
        (picture(12)[:200], "cannot be opened: "),
        (picture(16), "texture 16, in the manifest 12"),
    ],
    ids=["no-picture", "cut-off", "larger"],
)
def test_the_picture_of_a_mesh_is_opened(
    facts: dict[str, dict[str, Any]], tmp_path: Path, mesh: str, content: bytes, words: str
) -> None:
    (tmp_path / "painted.texture.png").write_bytes(content)
    assert words in str(readers.damage(tmp_path / mesh, facts[mesh]))


def test_the_picture_in_a_glb_is_opened(facts: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    def spoil(data: bytes) -> bytes:
        at = data.index(b"IDAT") + 8
        return data[:at] + bytes(8) + data[at + 8 :]

    assert damaged(tmp_path, facts, "painted.glb", spoil)


def test_a_material_of_another_name(facts: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "painted.mtl").write_text("newmtl other\nmap_Kd painted.texture.png\n")
    found = readers.damage(tmp_path / "painted.obj", facts["painted.obj"])
    assert str(found).endswith(", in the manifest 12")


@pytest.mark.parametrize(
    ("name", "fact", "value"),
    [
        ("cat.png", "width", 65),
        ("cat.png", "height", 1),
        ("cat.mp4", "width", 128),
        ("cat.mp4", "frames", 8),
        ("cat.mp4", "fps", 24),
        ("plain.glb", "vertices", 23),
        ("plain.ply", "faces", 37),
        ("plain.stl", "faces", 37),
    ],
)
def test_a_fact_that_is_another(
    facts: dict[str, dict[str, Any]], tmp_path: Path, name: str, fact: str, value: int
) -> None:
    found = readers.damage(tmp_path / name, {**facts[name], fact: value})
    assert found is not None
    assert found.startswith(f"{fact} {facts[name][fact]}")
    assert found.endswith(f", in the manifest {value}")


@pytest.mark.parametrize(
    "program", ["nowhere", RuntimeError("No ffmpeg exe could be found.")], ids=str
)
def test_without_an_ffmpeg_no_film_is_called_damaged(
    facts: dict[str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str | RuntimeError,
) -> None:
    def find() -> str:
        if isinstance(program, RuntimeError):
            raise program
        return program

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", find)
    with pytest.raises(ConfigError, match="films cannot be opened: "):
        readers.damage(tmp_path / "cat.mp4", facts["cat.mp4"])
