"""How an OBJ, an MTL and a PLY name the files beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.media.meshes import obj_names


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("my chair", "my_chair"),
        ("a \t b", "a_b"),
        ("a\u00a0b\u3000c\u2028d", "a_b_c_d"),
        ('shot #3 "hero" it\'s `x`', "shot_3_hero_it_s_x_"),
        ("a\\b\x00\x1f\x85c", "a_b_c"),
        ("--help", "_help"),
        ("a-b", "a-b"),
        ("椅子 é", "椅子_é"),
        (" ", "_"),
        ("", "mesh"),
    ],
)
def test_what_an_obj_can_say(name: str, word: str):
    assert obj_names.word(name) == word
    assert obj_names.word(word) == word


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"# x\nmtllib a.mtl\no a\nv 1 2 3\n", b"# x\nmtllib b.mtl\no a\nv 1 2 3\n"),
        (b"newmtl a\nmap_Kd a.texture.png\n", b"newmtl a\nmap_Kd b.texture.png\n"),
        (b"ply\ncomment TextureFile a.texture.png\nend\n\xff\r\n",
         b"ply\ncomment TextureFile b.texture.png\nend\n\xff\r\n"),
        (b"mtllib other.mtl\n# map_Kd a.texture.png\n",) * 2,
    ],
)  # fmt: skip
def test_a_copy_calls_what_lies_beside_it_by_its_new_name(
    tmp_path: Path, before: bytes, after: bytes
):
    rest = b"v 1 2 3\n" * 10_000 + b"mtllib a.mtl\n"
    (tmp_path / "a").write_bytes(before + rest)
    names = {"a.mtl": "b.mtl", "a.texture.png": "b.texture.png"}
    obj_names.copy_renamed(tmp_path / "a", tmp_path / "b", names)
    assert (tmp_path / "b").read_bytes() == after + rest
    assert (tmp_path / "a").read_bytes() == before + rest
