"""What `status` and `show` say of given facts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.interfaces.cli.inspect_text import _work_lines, job_lines, print_status

QUIET: dict[str, Any] = {
    "daemon": None, "queue": {}, "running": None, "jobs_per_hour": 0, "queue_eta_s": None,
    "runnable": 0, "batches": [], "holds": [], "waiting": [], "recent": [],
    "recovered": {"count": 0, "folder": ""}, "foreign": [], "foreign_total": 0,
}  # fmt: skip


def status_of(capsys: pytest.CaptureFixture[str], **facts: Any) -> list[str]:
    print_status(QUIET | facts)
    return capsys.readouterr().out.splitlines()


def test_many_files_that_wait_for_one_reason_are_one_group(capsys: pytest.CaptureFixture[str]):
    waiting = [{"inbox": "in", "file": f"{n:03}.docx", "reason": "odd"} for n in range(150)]
    waiting += [{"inbox": "in", "file": "a.png", "reason": "is empty"}]
    waiting += [{"inbox": "out", "file": None, "reason": "does not exist"}]
    lines = status_of(capsys, waiting=waiting, waiting_total=400)[1:]
    assert len(lines) == 10 + 1 + 1 + 1 + 1
    assert "waiting   in, and 140 more files: odd" in lines
    assert "waiting   in/a.png: is empty" in lines
    assert "waiting   out: does not exist" in lines
    assert lines[-1] == "waiting   and 248 more files"


def test_the_time_left_names_the_end(capsys: pytest.CaptureFixture[str]):
    running = {
        "job": "0123456789abcdef", "name": "a.png", "stage": "img2img", "step": 3, "steps": 20,
        "fraction": 0.15, "eta_s": 30.0,
    }  # fmt: skip
    lines = status_of(capsys, queue_eta_s=720, running=running)
    clock = r"(\d{4}-\d\d-\d\d )?\d\d:\d\d"
    assert re.fullmatch(
        rf"running   01234567 a\.png: img2img, step 3 of 20, 15%, about 30 s left, until {clock}",
        lines[1],
    )
    assert re.fullmatch(rf"time      about 12 min left, until {clock}", lines[2])


def test_a_job_without_a_stage_yet(capsys: pytest.CaptureFixture[str]):
    running = {
        "job": "0123456789", "name": "a.png", "stage": None, "step": 0, "steps": 0, "fraction": 0.0,
        "eta_s": None,
    }  # fmt: skip
    assert status_of(capsys, running=running)[1] == "running   01234567 a.png: 0%"


def test_a_job_is_shown_without_python_s_signs():
    stage = {
        "id": "mesh", "type": "triposr",
        "params": {"model": "m", "formats": ["glb", "obj"], "target_faces": None, "preview": True,
                   "threshold": 25.0, "origin": "base"},
    }  # fmt: skip
    job: dict[str, Any] = {
        "id": "0123456789abcdef", "status": "queued", "hold": "hours", "hold_detail": None,
        "inbox": "in", "name": "a.png", "pipeline": "p", "priority": 0, "tags": ["hero", "b"],
        "meta": {"asset": None}, "created_at": None, "started_at": None, "finished_at": None,
        "attempt": 0, "error": None, "publish": None, "stages": [stage],
        "stage_runs": [
            {"stage_id": "mesh", "seconds": 80.2, "device": "cuda:0", "warnings": ["Careful."]}
        ],
        "artifacts": [{"role": "mesh", "path": "a.glb", "bytes": 1536}],
    }  # fmt: skip
    lines = [f"{title}|{text}" for title, text in job_lines(Path("outbox"), job)]
    assert lines == [
        "job|01234567",
        "whole id|0123456789abcdef",
        "status|queued (hours)",
        "waits for|hours",
        "input|in: a.png",
        "pipeline|p, priority 0",
        "tags|hero, b",
        "meta|asset: -",
        "attempt|0",
        "stage|mesh (triposr), model m",
        "|formats       glb, obj",
        "|target_faces  -",
        "|preview       true",
        "|threshold     25",
        "|origin        base",
        "ran|mesh in 1 min 20 s on cuda:0",
        "warning|Careful.",
        "mesh|a.glb, 1.5 KiB",
    ]


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("all", "mesh: the result of job fedcba98, where it took 1 min 20 s"),
        ("scene", "mesh in 2.0 s on cpu, with the scene of job fedcba98"),
    ],
)
def test_a_result_of_another_job_is_called_so(part: str, text: str):
    origin = {"job": "fedcba9876543210", "stage": "mesh", "part": part, "seconds": 80.2}
    run = {"stage_id": "mesh", "seconds": 2.0, "device": "cpu", "warnings": []}
    job: dict[str, Any] = {"stage_runs": [run | {"reused_from": origin}], "artifacts": []}
    assert list(_work_lines(job)) == [("ran", text)]


def test_jobs_for_many_times_are_told_in_a_few_lines(capsys: pytest.CaptureFixture[str]):
    holds: list[dict[str, Any]] = [{"code": "paused", "detail": "paused", "jobs": None}]
    holds += [{"code": "not_before", "detail": f"starts at {n}", "jobs": 2} for n in range(20)]
    holds += [{"code": "hours", "detail": "it rests", "jobs": 1}]
    assert status_of(capsys, holds=holds)[1:] == [
        "held      the whole queue: paused",
        "held      2 jobs: not_before: starts at 0",
        "held      2 jobs: not_before: starts at 1",
        "held      2 jobs: not_before: starts at 2",
        "held      34 jobs: not_before, with 17 more reasons",
        "held      1 job: hours: it rests",
    ]
