"""Limits of the results that are kept for later jobs."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dna_pipeline.base.files import sha256_file, temporary_name
from dna_pipeline.config.file_parts import RetentionSpec, RuntimeSpec
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.result_store import ResultStore
from dna_pipeline.operations.daemon import kept_results
from dna_pipeline.operations.daemon.kept_results import KeptResults
from dna_pipeline.providers.checkpoints import Models

DAY_S = 86400.0


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        tmp_path / "pipeline.yaml", tmp_path / "data", tmp_path / "out", RuntimeSpec(),
        Models({}), {}, (),
    )  # fmt: skip


def limited(config: Config, **limits: float) -> KeptResults:
    retention = RetentionSpec.model_validate(limits)
    results = KeptResults(replace(config, retention=retention))
    results._store = ResultStore(config.kept_results, free_bytes=0)
    return results


def keep(config: Config, name: str, age_days: float = 0.0, size: int = 1000) -> None:
    path = config.data / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    key = name * 64
    ResultStore(config.kept_results, free_bytes=0).keep(key, {}, [(path, sha256_file(path))])
    used = time.time() - age_days * DAY_S
    os.utime(config.kept_results / key[:2] / key / "entry.json", (used, used))


def names(config: Config) -> str:
    store = ResultStore(config.kept_results)
    return "".join(sorted(entry.path.name[0] for entry in store.entries()))


def run(results: KeptResults) -> None:
    for _ in results.round():
        pass


def test_results_that_were_not_used_for_days_go(config: Config) -> None:
    for name, age_days in (("a", 3), ("b", 1), ("c", 2.5)):
        keep(config, name, age_days)
    run(limited(config, reuse_days=2.0))
    assert names(config) == "b"


def test_what_is_beyond_the_size_goes_by_its_last_use(config: Config) -> None:
    for name, age_days in (("a", 1), ("b", 3), ("c", 2), ("d", 0)):
        keep(config, name, age_days)
    run(limited(config, reuse_bytes=2500))
    assert names(config) == "ad"
    run(limited(config, reuse_bytes=0))
    assert names(config) == ""


def test_a_disk_with_too_little_space_gets_it_back(config: Config) -> None:
    keep(config, "a")
    results = limited(config)
    results._store = ResultStore(config.kept_results, free_bytes=1 << 62)
    run(results)
    assert names(config) == ""


def test_nothing_is_looked_at_while_nothing_changed(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = limited(config, reuse_bytes=2500)
    run(results)  # there is no folder yet
    keep(config, "a")
    run(results)
    rounds: list[str] = []
    monkeypatch.setattr(results._store, "entries", lambda: rounds.append("round") or iter(()))
    run(results)
    assert rounds == []
    keep(config, "b")
    run(results)
    assert rounds == ["round"]


def test_a_disk_that_others_fill_gets_space_although_nothing_was_kept(config: Config) -> None:
    keep(config, "a")
    results = limited(config)
    run(results)
    assert names(config) == "a"
    results._store = ResultStore(config.kept_results, free_bytes=1 << 62)
    run(results)
    assert names(config) == ""


def test_steps_are_small(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_results, "PORTION", 2)
    for name in "abcdef":
        keep(config, name)
    steps = sum(1 for _ in limited(config, reuse_bytes=2500).round())
    assert steps == 3 + 4


def test_leftovers_of_a_killed_worker_go_at_the_start(config: Config) -> None:
    left = config.kept_results / temporary_name()
    left.mkdir(parents=True)
    limited(config).at_start()
    assert not left.exists()
