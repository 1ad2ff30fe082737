"""Estimates and the dry run know which results are kept already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.kept_requests import JobRequests, ReuseForecast
from dna_pipeline.execution.result_store import ResultStore

CUT = {"id": "cut", "type": "remove_background", "params": {"model": "matte"}}


def mesh(**params: Any) -> dict[str, Any]:
    return {"id": "mesh", "type": "triposr", "params": {"model": "triposr", **params}}


IMAGE = ["1" * 64]


@pytest.fixture
def store(site: Any) -> ResultStore:
    return ResultStore(site.config.kept_results, free_bytes=0)


def answer(store: ResultStore, request: str, folder: Path) -> None:
    """Keep something that answers a request."""
    file = folder / "file"
    file.write_bytes(b"file")
    key = request[::-1]
    store.keep(key, {}, [(file, sha256_file(file))])
    store.note_request(request, key)


def test_what_the_store_has(site: Any, store: ResultStore, tmp_path: Path) -> None:
    stages = [CUT, mesh(resolution=64)]
    cut, first = JobRequests(site.config).of(stages, IMAGE, "cat", [])

    def forecast(stages: list[Any], inputs: list[str] = IMAGE, **more: Any) -> list[str]:
        values = {"stem": "cat", "tags": []} | more
        return ReuseForecast(site.config).of(stages, inputs, **values)

    assert forecast(stages) == ["", ""]
    answer(store, cut.whole, tmp_path)
    answer(store, first.part, tmp_path)
    assert forecast(stages) == ["all", "scene"]
    assert forecast([CUT, mesh(resolution=128)]) == ["all", "scene"]
    assert forecast([CUT, mesh(foreground_ratio=0.5)]) == ["all", ""]
    assert forecast(stages, ["2" * 64]) == ["", ""]
    assert forecast(stages, stem="dog") == ["", "scene"]
    assert forecast(stages, tags=["hero"]) == ["", "scene"]
    answer(store, first.whole, tmp_path)
    assert forecast(stages) == ["all", "all"]
    off = [CUT, mesh(resolution=64, reuse="off")]
    assert forecast(off) == ["all", ""]
    assert forecast([CUT, mesh(resolution=64, reuse="on")]) == ["all", "all"]
    for entry in list(store.entries()):
        store.remove(entry.path)
    assert forecast(stages) == ["", ""]


def test_what_jobs_before_it_will_have_made(site: Any) -> None:
    forecast = ReuseForecast(site.config)
    jobs = [[CUT, mesh(resolution=n)] for n in (32, 64, 64)]
    assert [forecast.of(stages, IMAGE, "cat", []) for stages in jobs] == [
        ["", ""], ["all", "scene"], ["all", "all"],
    ]  # fmt: skip


def test_other_files_of_a_model_are_other_requests(site: Any, tmp_path: Path) -> None:
    requests = JobRequests(site.config)
    requests._identity = {"matte": "a"}.get  # type: ignore[assignment]
    other = JobRequests(site.config)
    other._identity = {"matte": "b"}.get  # type: ignore[assignment]
    assert requests.of([CUT], IMAGE, "cat", []) != other.of([CUT], IMAGE, "cat", [])


def test_the_notes_of_results_that_are_gone_go_too(
    site: Any, store: ResultStore, tmp_path: Path
) -> None:
    from dataclasses import replace

    from dna_pipeline.config.file_parts import RetentionSpec
    from dna_pipeline.operations.daemon.kept_results import KeptResults

    answer(store, "a" * 64, tmp_path)
    results = KeptResults(replace(site.config, retention=RetentionSpec(reuse_bytes=0)))
    for _ in results.round():
        pass
    assert list(store.entries()) == []
    assert list(store.requests()) == []
