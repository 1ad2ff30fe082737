"""Names that senders give their images."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna_pipeline.base.naming import NAME_BYTES
from dna_pipeline.operations.serving.submissions import safely_named
from dna_pipeline.operations.submit import Submission


def name(text: str) -> str:
    return safely_named(Submission(text, io.BytesIO())).name


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("cat.png", "cat.png"),
        ("../../cat.png", "cat.png"),
        ("C:\\pictures\\cat.PNG", "cat.PNG"),
        ("a\0b\n.png", "a_b_.png"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("/", "unnamed"),
        (".png", "png"),
        ("con.png", "_con.png"),
        ("cat.png\0.exe", "cat.png_.exe"),
        ("a.b c", "a.b c"),
        ("\ud800.png", "_.png"),
        ("x" * 500 + ".png", "x" * 120 + ".png"),
    ],
)
def test_a_name_is_no_path(sent: str, kept: str):
    assert name(sent) == kept


@given(st.text())
def test_any_name_becomes_one_that_every_file_system_takes(text: str):
    result = name(text)
    assert result not in ("", ".", "..")
    assert not {"/", "\\", "\0"} & set(result)
    assert len(f"{result}.yaml".encode()) <= NAME_BYTES
    assert name(result) == result
