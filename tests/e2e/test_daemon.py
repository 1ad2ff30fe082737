"""`dna-pipeline watch` under what happens to daemons."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from conftest import Studio, alive, photograph, product_shot, put_act

from tests.fork_server import Process, children_of

pytestmark = pytest.mark.slow

LONG = "img2img: {{steps: {steps}, strength: 1.0, max_size: {size}, seed: 5}}"


def long_job(studio: Studio, name: str = "long", steps: int = 60, size: int = 192) -> None:
    inbox = studio.inbox("restyle")
    photograph("astronaut", max(size, 256)).save(inbox / f"{name}.png.part", format="PNG")
    (inbox / f"{name}.yaml").write_text(LONG.format(steps=steps, size=size))
    (inbox / f"{name}.png.part").rename(inbox / f"{name}.png")


def running_step(studio: Studio) -> int:
    path = studio.outbox / "status.json"
    running = json.loads(path.read_bytes())["running"] if path.exists() else None
    return running["step"] if running else 0


def worker_of(daemon: Process) -> psutil.Process:
    (worker,) = children_of(daemon.pid, "dna_pipeline.execution.worker.process")
    return worker


def pixels(studio: Studio, name: str) -> bytes:
    (path,) = studio.outbox.glob(f"restyle/{name}-*/{name}.png")
    return path.read_bytes()


def test_a_killed_daemon_goes_on_where_it_was(studio: Studio):
    long_job(studio)
    daemon = studio.start()
    studio.wait(lambda: running_step(studio) > 3)
    worker = worker_of(daemon)
    daemon.kill()
    daemon.wait()
    studio.wait(lambda: not worker.is_running(), 20)

    with studio.watch():
        (job,) = studio.ended(1)

    assert job["status"] == "completed"
    assert job["attempt"] == 2
    assert studio.leftovers() == []
    disturbed = pixels(studio, "long")
    long_job(studio, "again")
    assert studio.cli("run").returncode == 0
    assert pixels(studio, "again") == disturbed
    assert len(studio.jobs()) == 2


def test_a_job_resumes_after_its_last_finished_stage(studio: Studio):
    inbox = studio.inbox("mesh")
    product_shot().save(inbox / "egg.png")
    (inbox / "egg.yaml").write_text("triposr: {resolution: 256}")
    daemon = studio.start()

    def meshing() -> bool:
        status = json.loads((studio.outbox / "status.json").read_bytes())
        running = status["running"]
        return bool(running) and running["stage"] == "triposr" and running["step"] > 0

    studio.wait(lambda: (studio.outbox / "status.json").exists() and meshing())
    daemon.kill()
    daemon.wait()
    with studio.watch():
        (job,) = studio.ended(1)

    events = [json.loads(line) for line in studio.cli("events", "--json").stdout.splitlines()]
    kinds = [event["kind"] for event in events]
    assert kinds == ["queued", "started", "queued", "started", "completed"]
    assert events[2]["data"] == {"ended": "the daemon or the machine ended", "code": None}
    stages = studio.facts("show", job["id"])["stage_runs"]
    assert [(stage["stage_id"], stage["attempt"]) for stage in stages] == [
        ("remove_background", 1), ("triposr", 2),
    ]  # fmt: skip


def test_a_killed_worker_costs_an_attempt_and_no_more(stage: Studio):
    put_act(stage, "long", "{steps: 50, seconds: 0.1}")
    with stage.watch() as daemon:
        stage.wait(lambda: running_step(stage) > 3)
        worker_of(daemon).kill()
        (job,) = stage.ended(1)
        assert daemon.poll() is None
    assert (job["status"], job["attempt"]) == ("completed", 2)


def test_a_job_that_keeps_killing_its_worker_fails(stage: Studio):
    put_act(stage, "long", "{steps: 600, seconds: 0.1}")
    with stage.watch() as daemon:
        for attempt in (1, 2):
            stage.wait(lambda a=attempt: stage.jobs() and stage.jobs()[0]["attempt"] == a)
            stage.wait(lambda: running_step(stage) > 3)
            worker_of(daemon).kill()
        # The sidecar comes first: without one, the image would be taken in at once.
        (stage.inbox("act") / "next.yaml").write_text("act: {steps: 1, seconds: 0}")
        photograph("coffee").save(stage.inbox("act") / "next.png")
        jobs = stage.ended(2)
    assert {job["name"]: job["status"] for job in jobs} == {
        "long.png": "failed", "next.png": "completed",
    }  # fmt: skip
    error = stage.error_of("long")
    assert error["code"] == "worker_crashed"
    assert error["attempts"] == 2


def test_cancel_then_mend_the_sidecar_then_retry(studio: Studio):
    long_job(
        studio, steps=1000, size=512
    )  # not done before a command has started on a busy machine
    with studio.watch():
        studio.wait(lambda: running_step(studio) > 3)
        (job,) = studio.jobs()
        assert studio.cli("cancel", job["id"][:6]).returncode == 0
        (job,) = studio.ended(1)
        assert job["status"] == "cancelled"
        assert studio.error_of("long")["code"] == "cancelled"
        (sidecar,) = studio.outbox.glob("restyle/failed/long-*/source/long.yaml")
        sidecar.write_text("img2img: {steps: 3}")
        done = studio.cli("retry", job["id"][:6])
        assert done.returncode == 0, done.stderr
        studio.wait(lambda: studio.jobs()[0]["status"] == "completed")
    (path,) = studio.outbox.glob("restyle/long-*/manifest.json")
    manifest = json.loads(path.read_bytes())
    assert manifest["job"]["id"] == job["id"]
    assert manifest["stages"][0]["params"]["steps"] == 3
    assert list(studio.outbox.glob("restyle/failed/*")) == []
    assert studio.leftovers() == []


def test_missing_weights_hold_and_let_go(studio: Studio, models_dir: Path):
    config = (studio.root / "pipeline.yaml").read_text()
    elsewhere = studio.root / "later"
    moved = config.replace(f"{models_dir}/sd-v1-5-local", str(elsewhere))
    (studio.root / "pipeline.yaml").write_text(moved)
    photograph("coffee").save(studio.inbox("restyle") / "cup.png")

    report = studio.facts("run")

    assert report["failed"] == 0
    (hold,) = report["holds"]
    assert hold["code"] == "weights_missing"
    assert str(elsewhere) in hold["detail"]
    with studio.watch():
        elsewhere.symlink_to(models_dir / "sd-v1-5-local")
        (job,) = studio.ended(1)
    assert (job["status"], job["attempt"]) == ("completed", 1)


def test_kept_files_are_versions(studio: Studio):
    inbox = studio.inbox("kept")
    photograph("coffee").save(inbox / "render.png")
    first = (inbox / "render.png").read_bytes()
    latest = studio.outbox / "kept" / "latest" / "render.png"
    with studio.watch():
        studio.ended(1)
        assert (inbox / "render.png").read_bytes() == first
        made = latest.read_bytes()
        os.utime(inbox / "render.png")
        time.sleep(3)
        assert len(studio.jobs()) == 1, "a touch makes nothing"
        photograph("chelsea").save(inbox / "render.png")
        studio.ended(2)
        (inbox / "render.yaml").write_text("img2img: {steps: 3}")
        studio.ended(3)
    assert latest.read_bytes() != made
    assert sorted(p.name for p in inbox.iterdir()) == ["render.png", "render.yaml"]


def test_one_daemon_a_data_folder(studio: Studio):
    with studio.watch() as daemon:
        studio.wait(lambda: (studio.outbox / "status.json").exists())
        second = studio.cli("run")
    assert second.returncode == 3
    assert str(daemon.pid) in second.stderr


def test_the_worker_ends_with_its_daemon(stage: Studio):
    put_act(stage, "long", "{steps: 600, seconds: 0.1}")
    daemon = stage.start()
    stage.wait(lambda: running_step(stage) > 0)
    worker = worker_of(daemon).pid
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert not alive(worker)
    (job,) = stage.jobs()
    assert (job["status"], job["attempt"]) == ("queued", 0)


def test_submit_from_a_file_and_from_standard_input(studio: Studio):
    picture = studio.root / "cup.png"
    photograph("coffee").save(picture)
    settings = ("--pipeline", "restyle", "--set", "img2img.steps=3", "--set", "seed=9")
    assert studio.cli("submit", str(picture), *settings).returncode == 0
    assert studio.cli("submit", "-", stdin=picture.read_bytes()).returncode == 0
    wrong = studio.cli("submit", str(picture), "--set", "img2img.stepps=3")
    assert wrong.returncode == 2
    assert "img2img.steps" in wrong.stderr or "'steps'" in wrong.stderr

    assert studio.cli("run").returncode == 0

    folders = sorted(path.parent for path in studio.outbox.glob("submit/*/manifest.json"))
    manifests = [json.loads((folder / "manifest.json").read_bytes()) for folder in folders]
    assert [m["input"]["name"] for m in manifests] == ["cup.png", "stdin"]
    assert manifests[0]["stages"][0]["params"]["seed"] == 9
    assert picture.exists()
    assert studio.leftovers() == []
