"""An edited pipeline.yaml, taken over by the real daemon that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Studio, put_act
from PIL import Image

from tests.fork_server import Process, children_of

pytestmark = pytest.mark.slow


@contextmanager
def watching(stage: Studio) -> Iterator[Process]:
    daemon = stage.start("tests.e2e.quick_watch", "watch")
    try:
        yield daemon
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0


def edit(stage: Studio, old: str, new: str) -> None:
    path = stage.root / "pipeline.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def state(stage: Studio) -> dict[str, Any]:
    try:
        status = json.loads((stage.outbox / "status.json").read_bytes())
    except FileNotFoundError:
        return {}
    return status["config"] or {}


def taken_over(stage: Studio, before: object = None) -> Any:
    return stage.wait(lambda: (at := state(stage).get("taken_over_at")) != before and at)


def worker_pid(daemon: Process) -> int:
    (worker,) = children_of(daemon.pid, "dna_pipeline.execution.worker.process")
    return worker.pid


def drop(folder: Path, name: str) -> None:
    Image.new("RGB", (64, 64), "red").save(folder / f"{name}.png")


def config_events(stage: Studio) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in stage.cli("events", "--json").stdout.splitlines()]
    return [e for e in events if e["kind"] in ("config_changed", "config_refused")]


def test_a_new_inbox_is_watched_by_the_same_worker(stage: Studio):
    put_act(stage, "a", "{deed: copy}")
    (stage.root / "inbox/more").mkdir()
    with watching(stage) as daemon:
        stage.ended(1)
        worker = worker_pid(daemon)
        since = json.loads((stage.outbox / "status.json").read_bytes())["daemon"]["since"]
        edit(
            stage, "inboxes: [",
            "inboxes: [{path: inbox/more, pipeline: act, settle_seconds: 0.2, "
            "sidecar_wait_seconds: 0}, ",
        )  # fmt: skip
        taken_over(stage)
        drop(stage.root / "inbox/more", "b")
        drop(stage.inbox("act"), "c")
        stage.ended(3)
        assert worker_pid(daemon) == worker
        status = stage.facts("status")
        assert status["daemon"]["since"] == since
        assert status["daemon"]["device"] is not None, "facts about the worker stay"
        (event,) = config_events(stage)
        assert event["data"] == {"changed": ["inboxes"], "worker_kept": True}


def test_settings_of_the_worker_begin_another_one(stage: Studio):
    put_act(stage, "a", "{deed: copy}")
    with watching(stage) as daemon:
        stage.ended(1)
        worker = worker_pid(daemon)
        edit(stage, "max_attempts: 2", "max_attempts: 2, stage_timeout_s: 900")
        taken_over(stage)
        drop(stage.inbox("act"), "b")
        stage.ended(2)
        assert worker_pid(daemon) != worker


def test_a_running_job_ends_first_and_planned_ones_keep_their_parameters(stage: Studio):
    put_act(stage, "a", "{steps: 30, seconds: 0.1}")
    drop(stage.inbox("act"), "b")
    with watching(stage):
        stage.wait(lambda: len(stage.jobs()) == 2)
        stage.wait(lambda: any(job["status"] == "running" for job in stage.jobs()))
        edit(stage, "steps: 30, seconds: 0.1", "steps: 1, seconds: 0.0")
        pending = stage.wait(lambda: state(stage).get("pending"))
        assert (
            pending
            == "pipelines: taken over when the running job, or the loading of models, has ended"
        )
        assert "not taken over yet" in stage.cli("status").stdout
        taken_over(stage)
        drop(stage.inbox("act"), "c")
        jobs = {job["name"]: job for job in stage.ended(3)}
    assert all(job["status"] == "completed" and job["attempt"] == 1 for job in jobs.values())
    steps = {
        name: stage.facts("show", job["id"])["stages"][0]["params"]["steps"]
        for name, job in jobs.items()
    }
    assert steps == {"a.png": 30, "b.png": 30, "c.png": 1}


def test_a_wrong_edit_leaves_the_old_one_running_and_says_why(stage: Studio):
    put_act(stage, "a", "{deed: copy}")
    with watching(stage):
        stage.ended(1)
        edit(stage, "max_attempts: 2", "max_attempst: 2")
        problem = stage.wait(lambda: state(stage).get("problem"))
        assert "unknown key 'runtime.max_attempst'; did you mean 'max_attempts'?" in problem
        drop(stage.inbox("act"), "b")
        stage.ended(2)
        edit(stage, "max_attempst: 2", "max_attempts: 3")
        taken_over(stage)
        assert state(stage)["problem"] is None
        refused, changed = config_events(stage)
    assert (refused["kind"], changed["data"]["changed"]) == ("config_refused", ["runtime"])


def test_half_a_file_is_no_mistake(stage: Studio):
    put_act(stage, "a", "{deed: copy}")
    with watching(stage):
        stage.ended(1)
        path = stage.root / "pipeline.yaml"
        text = path.read_text().replace("max_attempts: 2", "max_attempts: 4")
        path.write_text(text[: len(text) // 2])
        stage.wait(lambda: path.write_text(text))
        taken_over(stage)
        assert [event["kind"] for event in config_events(stage)] == ["config_changed"]


def test_paths_are_left_for_a_restart(stage: Studio):
    put_act(stage, "a", "{deed: copy}")
    with watching(stage):
        stage.ended(1)
        edit(stage, "version: 1", "version: 1\npaths: {outbox: elsewhere}")
        pending = stage.wait(lambda: state(stage).get("pending"))
        assert pending == "paths.outbox changed: restart the daemon to take over the edit"
        drop(stage.inbox("act"), "b")
        stage.ended(2)
    assert not (stage.root / "elsewhere").exists()
    assert "config.needs_restart" in (stage.root / "watch.log").read_text()


def test_metrics_and_receivers_follow_an_edit(stage: Studio):
    put_act(stage, "a", "{deed: copy}")
    with watching(stage):
        stage.ended(1)
        with (stage.root / "pipeline.yaml").open("a") as file:
            file.write("metrics: m.prom\nnotify: [{command: [tee, -a, got], events: "
                       "[job.completed]}]\n")  # fmt: skip
        taken_over(stage)
        stage.wait((stage.root / "m.prom").exists)
        drop(stage.inbox("act"), "b")
        got = stage.wait(lambda: (stage.root / "got").exists() and (stage.root / "got").read_text())
        assert json.loads(got)["data"]["name"] == "b.png"
