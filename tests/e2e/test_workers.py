"""The real daemon with two workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import Studio
from PIL import Image

from tests.fork_server import children_of

pytestmark = pytest.mark.slow

CONFIG = """\
version: 1
runtime: {device: [cpu, cpu], jobs_per_worker: 1, max_attempts: 3}
pipelines: {act: [{act: {deed: copy, steps: 20, seconds: 0.1}}]}
inboxes: [{path: inbox/act, pipeline: act, settle_seconds: 0.2, sidecar_wait_seconds: 0}]
"""
SCHEMA = Path(__file__).parents[2] / "schemas/status.schema.json"
MODULE = "dna_pipeline.execution.worker.process"


def status_of(studio: Studio) -> dict[str, Any]:
    try:
        return json.loads((studio.outbox / "status.json").read_bytes())
    except FileNotFoundError:
        return {}


def both_run(studio: Studio) -> list[dict[str, Any]] | None:
    """The workers, once each of them runs a job."""
    workers = status_of(studio).get("workers", [])
    return workers if [len(worker["jobs"]) for worker in workers] == [1, 1] else None


def test_two_jobs_run_at_once_and_a_dead_worker_costs_only_its_own(stage: Studio):
    (stage.root / "pipeline.yaml").write_text(CONFIG)
    for number in range(6):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(stage.inbox("act") / f"{number}.png")
    with stage.watch() as daemon:
        workers = stage.wait(lambda: both_run(stage))
        assert {worker["state"] for worker in workers} == {"working"}
        status = status_of(stage)
        jsonschema.validate(status, json.loads(SCHEMA.read_bytes()))
        assert status["running"] == status["running_jobs"][0]
        assert len(stage.facts("status")["running_jobs"]) == 2
        text = stage.cli("status").stdout
        assert text.count("cpu: working") == 2
        victim = children_of(daemon.pid, MODULE)[0]
        victim.kill()
        stage.ended(6)
        assert len(children_of(daemon.pid, MODULE)) == 2
    jobs = stage.jobs()
    assert {job["status"] for job in jobs} == {"completed"}
    events = [json.loads(line) for line in stage.cli("events", "--json").stdout.splitlines()]
    again = [e for e in events if e["kind"] == "queued" and e["data"].get("code")]
    assert [event["data"]["code"] for event in again] == ["worker_crashed"]
    assert stage.leftovers() == []
