"""Where pipeline.yaml is looked for, and what a stage may be called."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.config.schema import find_config, is_valid_id


def test_where_the_configuration_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DNA_CONFIG", raising=False)
    assert find_config(None) == tmp_path / "pipeline.yaml"
    monkeypatch.setenv("DNA_CONFIG", "")
    assert find_config(None) == tmp_path / "pipeline.yaml"
    monkeypatch.setenv("DNA_CONFIG", "other.yaml")
    assert find_config(None) == tmp_path / "other.yaml"
    assert find_config(Path("this.yaml")) == tmp_path / "this.yaml"
    assert find_config(Path("/etc/dna.yaml")) == Path("/etc/dna.yaml")


@pytest.mark.parametrize("text", ["a", "img2img", "Pass_2", "x" * 40])
def test_ids(text: str):
    assert is_valid_id(text)


@pytest.mark.parametrize("text", ["", "2nd", "_a", "a-b", "a.b", "a b", "ä", "a\n", "x" * 41])
def test_no_ids(text: str):
    assert not is_valid_id(text)
