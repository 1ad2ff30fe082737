"""Two stages of one pipeline must not write one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.loader import load_config

TEXT = """\
version: 1
models:
  sd: {{provider: diffusers, path: sd}}
  key: {{provider: border_key}}
  tsr: {{provider: triposr, path: tsr}}
pipelines:
  p: [{{img2img: {{id: {}}}}}, {{img2img: {{id: b}}}}, {}]
"""
LAST = "{remove_background: {}}, {triposr: {}}"


def load(folder: Path, stage_id: str, last: str = LAST) -> None:
    (folder / "pipeline.yaml").write_text(TEXT.format(stage_id, last))
    load_config(folder / "pipeline.yaml", {})


@pytest.mark.parametrize("stage_id", ["matte", "Matte", "preview", "texture", "turntable"])
def test_an_id_that_makes_another_stage_s_file(tmp_path: Path, stage_id: str) -> None:
    with pytest.raises(ConfigError, match=r"p\[0\].img2img.id: files of .* are called so"):
        load(tmp_path, stage_id)


@pytest.mark.parametrize("stage_id", ["mattes", "a"])
def test_other_ids(tmp_path: Path, stage_id: str) -> None:
    load(tmp_path, stage_id)


def test_where_no_other_stage_writes_such_a_file(tmp_path: Path) -> None:
    load(tmp_path, "preview", "{remove_background: {}}")
    load(tmp_path, "a", "{remove_background: {id: matte}}, {remove_background: {id: c}}")
