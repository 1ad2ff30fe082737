"""The executor that pipeline.yaml asks for, with no cluster there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.local_workers import LocalWorkers
from dna_pipeline.operations import obstacles
from dna_pipeline.operations.daemon import executors
from dna_pipeline.operations.daemon.executors import has_same_executor, make_executor

CONFIG = """\
version: 1
runtime: {%s}
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
"""
RAY = "executor: ray, device: cpu"

Load = Callable[[str], Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(runtime: str) -> Config:
        (tmp_path / "pipeline.yaml").write_text(CONFIG % runtime)
        return load_config(tmp_path / "pipeline.yaml", {})

    return load


def test_workers_are_on_this_machine_unless_ray_is_asked_for(load: Load):
    executor = make_executor(load(""), lambda: None)
    assert isinstance(executor, LocalWorkers)
    executor.close(0)


def test_a_missing_package_is_named_with_the_command(load: Load, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(executors, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install 'dna-pipeline\\[ray\\]'"):
        make_executor(load(RAY), lambda: None)
    assert [entry["code"] for entry in obstacles._executor(load(RAY))] == ["ray_missing"]
    assert obstacles._executor(load("")) == []


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("", "preload: [matte]", True),
        ("device: cpu", RAY, False),
        (RAY, RAY, True),
        (RAY, f"{RAY}, ray: {{workers: 2}}", False),
        (RAY, f"{RAY}, ray: {{work_dir: transfer}}", False),
        ("device: cpu", "device: cpu, ray: {workers: 2}", True),
    ],
)
def test_the_executor_begins_anew_if_its_settings_change(
    load: Load, one: str, other: str, is_same: bool
):
    assert has_same_executor(load(one), load(other)) == is_same
