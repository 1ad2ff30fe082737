"""What nobody needs goes, after a while; what somebody needs, or may need, stays."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.loader import load_config
from dna_pipeline.ledger import store
from dna_pipeline.ledger.tables import Drop, Event
from dna_pipeline.operations.daemon import cleanup


def clean(site) -> int:
    """One whole round; how many steps it took."""
    return sum(1 for _ in site.cleanup.round())


def aged(folder: Path, hours: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_bytes(b"bytes")
    at = time.time() - hours * 3600
    os.utime(folder, (at, at))
    return folder


@pytest.fixture
def done(site):
    """A site with one job that has ended and one that waits."""
    for name in ("cat", "dog"):
        site.put(f"{name}.png", name.encode())
        site.settle()
    site.run_next()
    return site


UNKNOWN, YOUNG, THEIRS = "a" * 32, "b" * 32, "c" * 32


def test_leftovers_go_after_their_time(done) -> None:
    ended, waiting = done.jobs()
    staging = done.outbox / ".dna" / done.ledger.id
    old = [
        aged(done.config.work / ended.id, 25),
        aged(staging / ended.id, 25),
        aged(staging / "trash-0011aabb", 25),
        aged(done.config.claims / ended.drop_id, 25),
    ]
    kept = [
        aged(done.config.work / waiting.id, 25),
        aged(done.config.work / YOUNG, 23),
        aged(done.config.work / "my_scene", 1000),
        aged(staging / waiting.id, 25),
        aged(staging / "trash-ccddeeff", 0),
        aged(staging / "trash-mine", 1000),
        aged(done.outbox / ".dna/0123456789ab" / THEIRS, 1000),
        aged(done.config.claims / waiting.drop_id, 25),
        aged(done.config.claims / YOUNG, 0),
        aged(done.config.claims / "insurance", 1000),
    ]
    clean(done)
    assert [path for path in old if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    assert not done.config.recovered.exists()


def test_what_is_not_known_is_laid_aside(done) -> None:
    staging = done.outbox / ".dna" / done.ledger.id
    for number, root in enumerate((done.config.work, done.config.claims, staging)):
        aged(root / UNKNOWN, 25)
        clean(done)
        name = UNKNOWN if number == 0 else f"{UNKNOWN}-{number + 1}"
        assert (done.config.recovered / name / "file").read_bytes() == b"bytes"
        assert not (root / UNKNOWN).exists()


def test_nothing_outside_is_touched_through_a_link(done, tmp_path: Path) -> None:
    outside = aged(tmp_path / "outside", 1000)
    (done.config.work).mkdir(exist_ok=True)
    links = [done.config.work / name for name in ("link", UNKNOWN, done.jobs()[0].id)]
    for link in links:
        link.symlink_to(outside)
    clean(done)
    assert (outside / "file").exists()
    assert all(link.is_symlink() for link in links)


def events(site, job_id: str) -> int:
    return len(site.rows(Event, Event.job_id == job_id))


@pytest.mark.slow
def test_old_events_of_ended_jobs_go_in_small_steps(done, monkeypatch) -> None:
    monkeypatch.setattr(store, "PRUNED_AT_ONCE", 10)
    ended, waiting = done.jobs()
    long_ago = utcnow() - timedelta(days=31)
    rows = [
        {"job_id": job.id, "at": long_ago, "kind": "progress", "data": {}}
        for _ in range(50)
        for job in (ended, waiting)
    ]
    done.ledger.transact(lambda s: s.execute(update(Event).values(at=long_ago)))
    done.ledger.transact(lambda s: s.execute(insert(Event), rows))
    recent = {"job_id": ended.id, "at": utcnow(), "kind": "completed", "data": {}}
    done.ledger.transact(lambda s: s.execute(insert(Event), [recent]))
    steps = clean(done)
    assert steps > 10
    assert [event.kind for event in done.rows(Event, Event.job_id == ended.id)] == ["completed"]
    assert events(done, waiting.id) == 51, "the events of a job that waits stay"


def test_events_stay_for_their_time(done) -> None:
    job = done.jobs()[0]
    before = events(done, job.id)
    at = utcnow() - timedelta(days=29)
    done.ledger.transact(lambda s: s.execute(update(Event).values(at=at)))
    clean(done)
    assert events(done, job.id) == before > 0


def test_it_is_done_at_the_start_and_every_hour(done) -> None:
    ended = done.jobs()[0]
    for now in (0.0, 3599.0, 3600.0):
        folder = aged(done.config.work / ended.id, 25)
        for _ in range(10):
            done.cleanup.step(now)
        assert folder.exists() == (now == 3599.0)


def test_trouble_with_one_folder_is_no_trouble_of_the_others(done, monkeypatch) -> None:
    real = cleanup.remove_tree_if_there

    def refuse(folder):
        if folder.parent == done.config.work:
            raise PermissionError(13, "Permission denied", str(folder))
        real(folder)

    ended = done.jobs()[0]
    folders = [
        aged(root / ended.id, 25)
        for root in (done.config.work, done.outbox / ".dna" / done.ledger.id)
    ]
    monkeypatch.setattr(cleanup, "remove_tree_if_there", refuse)
    for _ in range(10):
        done.cleanup.step(0.0)
    assert [folder.exists() for folder in folders] == [True, False]
    monkeypatch.undo()
    for _ in range(10):
        done.cleanup.step(cleanup.INTERVAL_S)
    assert not folders[0].exists()


@pytest.mark.slow
def test_retention_is_configured_and_checked(done) -> None:
    file = done.root / "pipeline.yaml"
    text = file.read_text()
    file.write_text(text + "retention: {events_days: 7, work_hours: 0.5}\n")
    told = load_config(file, {}).retention
    assert (told.events_days, told.work_hours) == (7, 0.5)
    for wrong in ("{event_days: 7}", "{events_days: 0}", "{work_hours: -1}"):
        file.write_text(text + f"retention: {wrong}\n")
        with pytest.raises(ConfigError, match="retention"):
            load_config(file, {})


@pytest.mark.slow
def test_no_row_is_left_of_what_was_taken_in_by_now(done) -> None:
    """The drop of a job that has ended stays in the ledger: people ask for it."""
    clean(done)
    assert len(done.rows(Drop)) == 2
