"""The real daemon and commands while a mount does not answer, as one whose server is gone."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Studio
from PIL import Image

from tests.fork_server import Process, children_of
from tests.hanging import HangingMount, has_blocked_thread
from tests.integration.acting import install

pytestmark = pytest.mark.slow

SILENT = "does not answer: is its server or disk gone?"
CONFIG = """\
version: 1
pipelines: {act: [{act: {steps: 4, seconds: 0.1}}]}
inboxes:
  - {path: inbox/far, pipeline: act, watch: poll, KEYS}
  - {path: inbox/near, pipeline: act, KEYS}
  - {path: inbox/kept, pipeline: act, originals: keep, KEYS}
""".replace("KEYS", "settle_seconds: 0.2, sidecar_wait_seconds: 0, rescan_seconds: 1")

Hang = Callable[..., HangingMount]


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    install(tmp_path / "site")
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    studio = Studio(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    for name in ("far", "near", "kept"):
        studio.inbox(name).mkdir(parents=True)
    studio.outbox.mkdir()
    return studio


def drop(studio: Studio, inbox: str, name: str) -> None:
    Image.new("RGB", (64, 64), "red").save(studio.inbox(inbox) / f"{name}.png")


def by_name(studio: Studio) -> dict[str, dict[str, Any]]:
    return {job["name"]: job for job in studio.jobs()}


def is_done(studio: Studio, name: str) -> bool:
    job = by_name(studio).get(f"{name}.png")
    return job is not None and job["publish"] == "done"


def waiting(studio: Studio) -> str:
    return json.dumps(json.loads((studio.outbox / "status.json").read_bytes())["waiting"])


@pytest.mark.parametrize("stubborn", [False, True])
def test_others_go_on_while_an_inbox_does_not_answer(
    studio: Studio, hang: Hang, stubborn: bool
) -> None:
    drop(studio, "far", "first")
    with studio.watch():
        studio.wait(lambda: is_done(studio, "first"))
        studio.cli("pause")
        drop(studio, "far", "held")
        studio.wait(lambda: "held.png" in by_name(studio))
        gone = hang(studio.inbox("far"), stubborn=stubborn)
        studio.cli("resume")
        for inbox in ("near", "kept"):
            drop(studio, inbox, inbox)
            studio.wait(lambda inbox=inbox: is_done(studio, inbox))
        studio.wait(lambda: by_name(studio)["held.png"]["hold"] == "inbox_unavailable")
        assert SILENT in by_name(studio)["held.png"]["hold_detail"]
        studio.wait(lambda: SILENT in waiting(studio))
        assert f"far: {SILENT}" in studio.cli("status").stdout
        gone.unmount()
        studio.wait(lambda: is_done(studio, "held"))
        drop(studio, "far", "last")
        studio.wait(lambda: is_done(studio, "last"))
    assert {job["status"] for job in studio.jobs()} == {"completed"}
    assert studio.leftovers() == [str(Path("inbox/kept/kept.png"))]


def test_results_wait_for_an_outbox_that_does_not_answer(studio: Studio, hang: Hang) -> None:
    drop(studio, "near", "first")
    with studio.watch():
        studio.wait(lambda: is_done(studio, "first"))
        gone = hang(studio.outbox)
        for name in ("second", "third"):
            drop(studio, "near", name)
        studio.wait(
            lambda: (
                [j["hold"] for j in studio.jobs()].count("outbox_unavailable") == 1
                and all(job["finished_at"] for job in studio.jobs())
            )
        )
        said = studio.cli("status")
        assert "daemon    process" in said.stdout
        assert SILENT in said.stderr
        gone.unmount()
        studio.ended(3)
    assert len(list(studio.outbox.glob("near/*/manifest.json"))) == 3


def test_a_daemon_starts_and_stops_although_nothing_answers(studio: Studio, hang: Hang) -> None:
    drop(studio, "far", "a")
    places = [studio.inbox("far"), studio.inbox("kept"), studio.outbox]
    gone = [hang(place) for place in places]
    drop(studio, "near", "b")
    daemon = studio.start()
    studio.wait(lambda: (job := by_name(studio).get("b.png")) and job["finished_at"])
    began = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert time.monotonic() - began < 10
    for one in gone:
        one.unmount()
    with studio.watch():
        studio.ended(2)


def test_sigterm_ends_a_daemon_that_a_mount_blocks(studio: Studio, hang: Hang) -> None:
    """The mount goes silent between the question and the use: while the file is decoded."""
    (studio.root / "pipeline.yaml").write_text(CONFIG.replace("poll", "native"))
    Image.new("RGB", (8000, 8000), "red").save(studio.inbox("far") / "large.png")
    daemon = studio.start()
    decoder = studio.wait(lambda: reader_of(daemon, "large.png"))
    decoder.suspend()
    gone = hang(studio.inbox("far"))
    decoder.resume()
    studio.wait(lambda: has_blocked_thread(daemon.pid))
    began = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert time.monotonic() - began < 10
    gone.unmount()
    with studio.watch():
        studio.ended(1)


def test_the_loop_goes_on_while_a_result_is_stuck(studio: Studio, hang: Hang) -> None:
    """The disk of the outbox answers, and dies while a result is written to it."""
    drop(studio, "near", "first")
    daemon = studio.start()
    studio.wait(lambda: is_done(studio, "first"))
    gone = hang(studio.outbox / ".dna")
    for name in ("second", "third"):
        drop(studio, "near", name)
        studio.wait(
            lambda name=name: (job := by_name(studio).get(f"{name}.png")) and job["finished_at"]
        )
    before = written_at(studio)
    studio.wait(lambda: written_at(studio) > before)
    began = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert time.monotonic() - began < 10
    gone.unmount()
    with studio.watch():
        studio.ended(3)


def written_at(studio: Studio) -> str:
    return json.loads((studio.outbox / "status.json").read_bytes())["written_at"]


def reader_of(daemon: Process, name: str) -> psutil.Process | None:
    """The child that has that file open."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in children_of(daemon.pid, "dna_pipeline.intake.discovery.probe"):
            with suppress(psutil.Error):
                if any(Path(file.path).name == name for file in child.open_files()):
                    return child
    return None


def test_commands_come_to_an_end(studio: Studio, hang: Hang) -> None:
    drop(studio, "near", "a")
    studio.cli("run")
    for place in (studio.inbox("far"), studio.outbox):
        hang(place)
    for command in ("check", "status", "jobs", "events"):
        done = studio.cli(command)
        assert done.returncode == (2 if command == "check" else 0), done.stderr
        assert (SILENT in done.stdout) == (command in ("check", "status"))
