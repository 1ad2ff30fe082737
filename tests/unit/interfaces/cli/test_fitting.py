"""Texts and tables that fit a width."""

from __future__ import annotations

import pytest

from dna_pipeline.base.terminal_text import width
from dna_pipeline.interfaces.cli.fitting import cut_end, cut_middle, fit_columns, wrapped


@pytest.mark.parametrize(
    "text", ["photos/a chair-0d3a987e", "赤い椅子の写真_最終版.png", "e\u0301" * 30]
)
@pytest.mark.parametrize("columns", range(3, 30))
def test_a_cut_text_fits(text: str, columns: int):
    for cut in (cut_middle(text, columns, "…"), cut_end(text, columns, "..")):
        assert width(cut) <= columns
        assert cut == text or "…" in cut or ".." in cut


def test_a_path_keeps_its_end():
    assert cut_middle("photos/a very long name-0d3a987e", 20, "…") == "photos/a…me-0d3a987e"
    assert cut_middle("short", 20, "…") == "short"


def test_texts_break_at_blanks():
    assert wrapped("one two  three", 7) == ["one two", "three"]
    assert wrapped("a" * 10, 4) == ["aaaa", "aaaa", "aa"]
    assert wrapped("赤い椅子の写真", 5) == ["赤い", "椅子", "の写", "真"]
    assert wrapped("", 5) == [""]
    assert wrapped("fits", 4) == ["fits"]


def test_columns_are_cut_before_one_is_left_out():
    widths = {"job": 8, "name": 40, "folder": 40}
    least = {"name": 16, "folder": 16}
    assert fit_columns(widths, 100, least, ["folder"]) == widths
    fitted = fit_columns(widths, 60, least, ["folder"])
    assert sum(fitted.values()) + 4 == 60
    assert fit_columns(widths, 40, least, ["folder"]) == {"job": 8, "name": 30}


def test_what_may_not_be_cut_stays_whole():
    assert fit_columns({"job": 8, "name": 40}, 10, {}, []) == {"job": 8, "name": 40}
