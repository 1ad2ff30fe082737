"""Sentences of the commands that depend on what runs and on what became of a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import update

from dna_pipeline.intake.discovery import completeness
from dna_pipeline.ledger import holds
from dna_pipeline.ledger.tables import StageRun
from dna_pipeline.operations.daemon import run_waits
from dna_pipeline.operations.daemon.lock import hold_lock
from tests.commands import call, facts
from tests.integration.conftest import Site
from tests.integration.test_cli import CONFIG as CONFIG  # of `studio`
from tests.integration.test_cli import picture


@pytest.fixture
def working(site: Site) -> Site:
    """One job that runs."""
    site.put("cat.png")
    site.settle()
    site.claim_next()
    return site


def test_a_job_of_a_killed_daemon_is_said_to_go_on_with_the_next(working: Site) -> None:
    status = call(working.root, "status").stdout
    assert "daemon    none runs\n" in status
    assert "running   1 (in 1): was running when the daemon ended; the next start goes on" in status
    assert facts(working.root, "status")["queue"] == {"running": {"in": 1}}
    with hold_lock(working.config.data):
        status = call(working.root, "status").stdout
    assert "none runs" not in status
    assert "running   1 (in 1)\n" in status


def test_cancelling_a_job_of_a_killed_daemon_says_when_it_ends(working: Site) -> None:
    job = working.job().id
    with hold_lock(working.config.data):
        assert call(working.root, "cancel", job).stdout == f"{job[:8]} ends at its next step\n"
    said = call(working.root, "cancel", job).stdout
    assert said == (
        f"{job[:8]} was running when the daemon ended; it is cancelled when the next one starts\n"
    )
    working.restart()
    assert working.job().status == "cancelled"


def test_submit_says_who_does_the_jobs(site: Site) -> None:
    picture(site.root / "cat.png")
    assert "`dna-pipeline watch` or `run` does them" in call(site.root, "submit", "cat.png").stderr
    with hold_lock(site.config.data):
        assert call(site.root, "submit", "cat.png").stderr == "the running daemon does them\n"


def test_submit_says_of_a_folder_that_it_is_one(site: Site) -> None:
    (site.root / "photos").mkdir()
    done = call(site.root, "submit", "photos")
    assert done.returncode == 2
    assert "photos: is a folder; name the images in it (`dna-pipeline submit photos" in done.stderr
    assert (
        "Image files; `-` reads one from standard input"
        in call(site.root, "submit", "--help").stdout
    )


@pytest.mark.slow
def test_run_says_what_it_waits_for(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The periods are shortened, as the empty file would be given a minute."""
    site = make_site(sidecar_wait_seconds=0)
    monkeypatch.setattr(run_waits, "SILENCE_S", 2.5)
    monkeypatch.setattr(completeness, "ZEROS_WAIT_S", 8.0)
    site.put("empty.png", b"")
    said = call(site.root, "run").stderr
    assert said.count("waiting for in/empty.png: ") == 1
    assert "in/empty.png: is empty; it may still be written (for about " in said
    assert " s at the most)" in said


def test_retry_says_what_the_job_is(working: Site) -> None:
    working.put("dog.png")
    working.settle()
    running, queued = (job.id for job in working.jobs())
    for job, status in ((running, "running"), (queued, "queued")):
        done = call(working.root, "retry", job)
        assert done.returncode == 2
        assert f"job {job[:8]} is {status}; only failed and cancelled jobs" in done.stderr
    working.finish(working.jobs()[0])
    working.publish()
    assert f"job {running[:8]} is completed; " in call(working.root, "retry", running).stderr


def test_a_pause_is_named_once(site: Site) -> None:
    picture(site.root / "cat.png")
    call(site.root, "submit", "cat.png")
    call(site.root, "pause")
    assert "the whole queue: paused since " in call(site.root, "status").stdout
    assert "held: the whole queue, paused since " in call(site.root, "run").stdout


def test_repair_says_which_kept_files_are_not_run_again(make_site: Callable[..., Site]) -> None:
    site = make_site(originals="keep")
    for name in ("cat.png", "dog.png"):
        site.put(name)
        site.settle()
        site.run_next()
    site.close()
    site.config.ledger_path.unlink()
    said = call(site.root, "repair").stdout
    assert "known      2 files in inbox in were done; not run again\n" in said


def test_jobs_shows_which_results_have_warnings(site: Site) -> None:
    for name in ("cat.png", "dog.png"):
        site.put(name)
        site.settle()
        site.run_next()
    cat, dog = (job.id for job in site.jobs())
    warnings = ["the background was kept", "the mesh has holes"]
    site.ledger.transact(
        lambda s: s.execute(
            update(StageRun).where(StageRun.job_id == cat).values(warnings=warnings)
        )
    )
    lines = call(site.root, "jobs").stdout.splitlines()
    assert [("(2 warnings)" in line, "warning" in line) for line in lines] == [
        (False, False), (False, False), (True, True)
    ]  # fmt: skip
    assert {job["id"]: job["warnings"] for job in facts(site.root, "jobs")} == {cat: 2, dog: 0}
    assert "completed\n" in call(site.root, "show", dog).stdout


def test_run_says_the_warnings_of_its_jobs(studio: Path) -> None:
    picture(studio / "box.png")
    with Image.open(studio / "box.png") as image:
        image.putalpha(Image.new("L", image.size, 100))
        image.save(studio / "clear.png")
    call(studio, "submit", "clear.png")
    lines = call(studio, "run").stdout.splitlines()
    assert lines[0].startswith("completed  clear.png")
    assert lines[1].startswith("  warning  ")
    call(studio, "retry", "--failed")
    call(studio, "submit", "clear.png")
    (job,) = facts(studio, "run")["jobs"]
    assert job["warnings"] == len(job["warning_texts"]) > 0
    assert job["warning_texts"][0] in lines[1]
    assert facts(studio, "status")["recent"][0]["warnings"] == job["warnings"]


def test_run_says_what_was_wrong_with_failed_jobs(studio: Path) -> None:
    picture(studio / "inbox/cut/cup.png")
    (studio / "inbox/cut/cup.png.yaml").write_text("remove_background: {fore: true}\n")
    lines = call(studio, "run").stdout.splitlines()
    assert lines[0].startswith("failed     cup.png (sidecar_invalid)  cut/failed/cup-")
    wrong = "Line 1: unknown key 'remove_background.fore'; did you mean 'force'?"
    assert lines[1].startswith(f"    cause  {wrong}")


def test_a_status_that_no_job_can_have_is_refused(site: Site) -> None:
    site.put("cat.png")
    site.settle()
    done = call(site.root, "jobs", "--status", "complete")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean completed? (one of: queued, running, completed," in done.stderr
    assert facts(site.root, "jobs", "--status", "queued") != []


def test_empty_lists_say_what_would_fill_them(site: Site) -> None:
    heading = "job  status  inbox  name  pipeline  created  folder\n"
    done = call(site.root, "jobs")
    assert done.stdout == heading
    assert "put images into the folder of an inbox" in done.stderr
    assert "the inboxes are: in" in call(site.root, "jobs", "--inbox", "inn").stderr
    assert "lists all" in call(site.root, "jobs", "--status", "failed").stderr
    assert "queue     empty; put images into" in call(site.root, "status").stdout
    assert facts(site.root, "jobs") == []


def test_events_say_why_an_attempt_ended(working: Site) -> None:
    job = working.job().id
    working.ledger.transact(lambda s: holds.hold(s, job, "disk_full", "no space"))
    last = call(working.root, "events", job).stdout.splitlines()[-1]
    assert last.endswith(f"{job[:8]} queued again: disk_full: no space")
    working.ledger.transact(lambda s: holds.release(s, "disk_full"))
    working.claim_next()
    working.restart()
    last = call(working.root, "events", job).stdout.splitlines()[-1]
    assert last.endswith("queued again: the daemon or the machine ended")
