"""The bench of the page: what it counts, and what it refuses to count."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.conftest import load_script

page = load_script("benches.page")


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    page.add_arguments(parser)
    return parser.parse_args(words)


def test_a_gap_or_a_double_in_the_gallery_is_refused() -> None:
    page._check_order(["a", "b", "c"], ["a", "b", "c"])
    for shown in (["a", "c"], ["a", "b", "b"], ["a", "b"], ["b", "a", "c"]):
        with pytest.raises(ValueError, match="not the 3 newest"):
            page._check_order(shown, ["a", "b", "c"])


def test_nothing_to_measure_is_refused() -> None:
    for words in (("--results", "2"), ("--seconds", "0")):
        with pytest.raises(ValueError, match="something to measure"):
            page.run(arguments(*words))


@pytest.mark.slow
def test_the_pages_files_are_counted(tmp_path: Path) -> None:
    report = page.run(arguments("--part", "bytes", "--folder", str(tmp_path)))
    counted = report["bytes"]
    assert 0 < counted["first_view"] < counted["view_with_mesh"] < counted["all"]
    assert counted["all"] <= counted["limit"] == 1_500_000
    assert list(tmp_path.iterdir()) == []
