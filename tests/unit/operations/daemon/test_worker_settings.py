"""The settings of each worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.config.loader import load_config
from dna_pipeline.execution.worker_child import THREAD_VARIABLES
from dna_pipeline.operations.daemon import worker_settings as module
from dna_pipeline.operations.daemon.worker_settings import worker_settings

CONFIG = """\
version: 1
runtime: {%s}
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
"""


@pytest.mark.parametrize(
    ("runtime", "devices", "threads"),
    [
        ("", ["auto"], None),
        ("device: cuda:1", ["cuda:1"], None),
        ("device: [cuda:1]", ["cuda:1"], None),
        ("device: [cuda:0, cuda:1]", ["cuda:0", "cuda:1"], 6),
        ("device: [cpu, cpu, cpu, cpu, cpu]", ["cpu"] * 5, 2),
        ("device: [cpu, cpu], threads_per_worker: 3", ["cpu"] * 2, 3),
        ("threads_per_worker: 3", ["auto"], 3),
        ("device: cuda, executor: ray, ray: {workers: 2}", ["cuda"] * 2, None),
    ],
)
def test_each_device_has_a_worker(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str,
    devices: list[str],
    threads: int | None,
):
    monkeypatch.setattr(module, "_cores", lambda: 12)
    file = tmp_path / "pipeline.yaml"
    file.write_text(CONFIG % runtime)
    settings = worker_settings(load_config(file, {}))
    assert [each.device for each in settings] == devices
    assert [each.number for each in settings] == list(range(1, len(devices) + 1))
    assert {each.threads for each in settings} == {threads}
    expected = {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
    assert settings[0].environment() == expected


def test_more_workers_than_cores_have_a_thread_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_cores", lambda: 2)
    file = tmp_path / "pipeline.yaml"
    file.write_text(CONFIG % "device: [cpu, cpu, cpu]")
    assert {each.threads for each in worker_settings(load_config(file, {}))} == {1}
