"""The memory of what ended, and its lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dna_pipeline.config.loader import load_config
from dna_pipeline.interfaces.cli.live.results import (
    KEPT,
    ResultLog,
    count_words,
    open_words,
    result_lines,
)
from dna_pipeline.interfaces.cli.live.signs import signs_for
from dna_pipeline.operations.overview import EndedJob, make_overview
from tests.overviews import busy_status, ended

CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
"""

SIGNS = signs_for("utf-8")


def job(name: str, second: int = 0, status: str = "completed", **more: Any) -> EndedJob:
    at = f"2026-11-29T16:{second // 60:02}:{second % 60:02}.000000Z"
    entry = ended(name, status, finished_at=at, **more)
    return EndedJob(**entry)


def lines(*jobs: EndedJob, width: int = 71) -> list[str]:
    return [line.plain for line in result_lines(jobs, width, SIGNS)]


def test_jobs_that_left_the_daemon_s_list_are_remembered():
    log = ResultLog()
    log.add([job("b.png", 2), job("a.png", 1)])
    log.add([job("d.png", 4), job("c.png", 3)])
    assert [entry.name for entry in log.newest()] == ["d.png", "c.png", "b.png", "a.png"]
    assert [entry.name for entry in log.since_begin()] == ["c.png", "d.png"]


def test_a_retried_job_ends_twice():
    log = ResultLog()
    log.add([])
    log.add([job("a.png", 1, "failed")])
    log.add([job("a.png", 9)])
    assert count_words(log.counts) == "1 completed, 1 failed"


def test_the_memory_is_bounded():
    log = ResultLog()
    for second in range(KEPT + 50):
        log.add([job(f"{second}.png", second)])
    assert len(log.newest()) == KEPT
    assert log.counts.total() == KEPT + 49, "the first one was there before"
    assert log.newest()[0].name == f"{KEPT + 49}.png"


def test_a_failure_says_its_cause_and_its_mend():
    one = job(
        "a.png", 5, "failed", code="empty_foreground", message="Nothing is left.",
        detail="the whole picture is white", hint="use a subject;",
    )  # fmt: skip
    assert lines(one)[1:] == ["        The whole picture is white. Use a subject."]


def test_a_failure_without_a_detail_says_its_sentence():
    one = job("a.png", 5, "failed", code="worker_crashed", message="It ended.", detail="", hint="")
    assert lines(one)[1:] == ["        It ended."]


def test_a_cancelled_job_needs_no_mend():
    one = job("a.png", 5, "cancelled", code="cancelled", message="By a person.", detail="by you")
    assert len(lines(one)) == 1
    assert count_words({"cancelled": 1_000}) == "1,000 cancelled"
    assert count_words({}) == "0 jobs ended"


def test_jobs_that_are_left_at_the_end_are_counted(tmp_path: Path):
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "pipeline.yaml", {})
    idle = busy_status() | {"queue": {}, "running": None, "workers": []}
    assert open_words(None) == open_words(make_overview(config, idle)) == ""
    one = idle | {"queue": {"queued": {"photos": 1}}}
    assert open_words(make_overview(config, one)) == "; 1 goes on at the next start"
    assert open_words(make_overview(config, busy_status())) == "; 8 go on at the next start"


def test_a_long_cause_is_cut():
    one = job("a.png", 5, "failed", code="x", message="", detail="word " * 200)
    said = lines(one)
    assert len(said) == 5
    assert said[-1].endswith("…")
