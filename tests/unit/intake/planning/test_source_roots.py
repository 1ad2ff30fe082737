"""Files by the paths that job files and tables name."""

from pathlib import Path

import pytest

from dna_pipeline.intake.planning.source_roots import is_file


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "\ud800", "none.png"])
def test_what_no_file_system_takes_is_no_file(tmp_path: Path, name: str) -> None:
    assert not is_file(tmp_path / name)
    assert not is_file(f"{tmp_path}/{name}")
