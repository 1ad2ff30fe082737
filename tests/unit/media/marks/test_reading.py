"""How a file was made, read from the file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from dna_pipeline.media.marks.embed import embed
from dna_pipeline.media.marks.packet import Marks, xmp
from dna_pipeline.media.marks.reading import FileRecipe, read_recipe
from dna_pipeline.media.picture_writer import Encoding, save_picture

RECIPE = {
    "version": "1.2",
    "input": {"sha256": "0" * 64},
    "stages": [{"id": "img2img", "type": "img2img", "params": {"prompt": 'ein „Kätzchen" <&>'}}],
}
MARKS = Marks("tool 1", source_type="a", recipe=json.dumps(RECIPE, ensure_ascii=False))


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_of_a_picture(tmp_path: Path, kind: str) -> None:
    encoding = Encoding(kind, 80)  # type: ignore[arg-type]
    path = tmp_path / f"cat{encoding.kind.suffix}"
    save_picture(Image.new("RGB", (8, 8)), path, encoding, "a cat\nSteps: 5, ä")
    assert read_recipe(path) == FileRecipe(None, "a cat\nSteps: 5, ä")
    marked = embed(path.read_bytes(), encoding.kind.media_type, MARKS)
    assert marked is not None
    path.write_bytes(marked)
    assert read_recipe(path) == FileRecipe(RECIPE, "a cat\nSteps: 5, ä")


def test_of_a_film(tmp_path: Path) -> None:
    path = tmp_path / "cat.mp4"
    film = b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x0cmdatabcd"
    path.write_bytes(embed(film, "video/mp4", MARKS) or b"")
    assert read_recipe(path) == FileRecipe(RECIPE)


def test_of_a_mesh(tmp_path: Path) -> None:
    import numpy as np

    from dna_pipeline.media.meshes.gltf import glb

    triangle = np.eye(3, dtype=np.float32)
    data = glb(triangle, triangle, np.array([[0, 1, 2]], np.int32), name="a",
               extras={"dna_pipeline": RECIPE})  # fmt: skip
    path = tmp_path / "cat.glb"
    path.write_bytes(embed(data, "model/gltf-binary", MARKS) or b"")
    assert read_recipe(path) == FileRecipe(RECIPE)


def test_of_what_lies_beside(tmp_path: Path) -> None:
    path = tmp_path / "cat.obj"
    path.write_text("v 0 0 0\n")
    assert read_recipe(path) == FileRecipe()
    path.with_name("cat.obj.xmp").write_bytes(xmp(MARKS))
    assert read_recipe(path) == FileRecipe(RECIPE)
    assert read_recipe(path.with_name("cat.obj.xmp")) == FileRecipe(RECIPE)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"glTF", b"glTF" + b"\xff" * 40, b"\0\0\0\1ftypisom", b"\0\0\0\0ftyp" * 9, b"PK\3\4",
        b"<x:xmpmeta <!DOCTYPE", b"<?xpacket?><x:xmpmeta></x:xmpmeta>",
        b"\x89PNG\r\n\x1a\n" + b"a" * 90,
    ],
)  # fmt: skip
def test_of_what_is_damaged(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "cat"
    path.write_bytes(data)
    assert read_recipe(path) == FileRecipe()


@pytest.mark.parametrize(
    "recipe",
    ["[]", '{"stages": 5}', '{"stages": [5]}', '{"stages": [{"id": 1}]}', "nonsense",
     '{"stages": [{"id": "a", "type": "b", "params": []}]}'],
)  # fmt: skip
def test_a_recipe_in_another_form_is_none(tmp_path: Path, recipe: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    path = tmp_path / "cat.png"
    path.write_bytes(embed(buffer.getvalue(), "image/png", Marks("t", recipe=recipe)) or b"")
    assert read_recipe(path) == FileRecipe()
