"""How far receivers are, and a message that tries them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.reachability import look_directly
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.operations import obstacles
from dna_pipeline.operations.receivers import (
    metrics_problem,
    of_config,
    problem_sentence,
    try_receivers,
)

TEXT = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
"""
NOTIFY = """\
notify:
  - {name: good, command: ["true"]}
  - {name: bad, command: ["false"]}
  - {name: chat, url: {env: NO_SUCH_ADDRESS}, format: slack}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "pipeline.yaml").write_text(TEXT + NOTIFY)
    return load_config(tmp_path / "pipeline.yaml", {})


def test_each_receiver_is_tried(config: Config):
    results = {one["name"]: one["problem"] for one in try_receivers(config, None)}
    assert results == {
        "good": None,
        "bad": "false ended with 1",
        "chat": "`url`: $NO_SUCH_ADDRESS is not set for the daemon",
    }


def test_one_receiver_is_tried(config: Config):
    assert [one["name"] for one in try_receivers(config, "bad")] == ["bad"]


def test_a_name_that_is_none_and_a_file_without_receivers(config: Config, tmp_path: Path):
    with pytest.raises(ConfigError, match="no receiver is called 'god'; there are: good, bad"):
        try_receivers(config, "god")
    (tmp_path / "pipeline.yaml").write_text(TEXT)
    with pytest.raises(ConfigError, match="no receivers; add a list `notify:`"):
        try_receivers(load_config(tmp_path / "pipeline.yaml", {}), None)


def test_check_says_which_address_cannot_be_read(config: Config):
    assert [name for name, _ in of_config(config, None)] == ["chat"]
    (remark,) = obstacles._receivers(config, None)
    assert remark["text"].startswith("receiver chat of `notify:`: `url`: $NO_SUCH_ADDRESS")
    assert not remark["stops"]


def test_sentences():
    row: dict[str, Any] = {"state": "active", "behind": 1, "attempts": 1, "problem": "no answer"}
    assert problem_sentence(row) == "lacks 1 message after 1 attempt: no answer"
    assert problem_sentence(row | {"problem": None}) is None


def test_a_missing_program_and_a_missing_folder_are_said(tmp_path: Path):
    """They stop no job."""
    notify = 'notify: [{name: desk, command: [no-such-program-here, "{line}"]}]\n'
    metrics = "metrics: textfiles/dna.prom\n"
    (tmp_path / "pipeline.yaml").write_text(TEXT + notify + metrics)
    config = load_config(tmp_path / "pipeline.yaml", {})
    remarks = obstacles.of_surroundings(config, None, look_directly)
    said = {remark["code"]: remark["text"] for remark in remarks if not remark["stops"]}
    assert "no program no-such-program-here is found" in said["receiver_behind"]
    folder = tmp_path / "textfiles"
    assert said["metrics_not_written"].startswith(f"`metrics:`: the folder {folder} is missing")
    folder.mkdir()
    assert metrics_problem(config, look_directly) is None
