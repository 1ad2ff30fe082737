"""Copies in the data folder after a repair: what had waited runs, or the report names it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.tables import Drop, Job
from dna_pipeline.operations.repair.rebuild import Report, rebuild
from dna_pipeline.operations.repair.salvage import salvage
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.operations.submit import Submission, Submitter, document_from_options
from tests.integration.conftest import Site
from tests.integration.test_repair import fail

pytestmark = pytest.mark.slow

PAGE = 4096


@pytest.fixture
def done(make_site) -> Site:
    """An inbox that keeps its files, with one result."""
    site = make_site(originals="keep")
    site.put("cat.png", b"cat")
    site.settle()
    site.run_next()
    return site


def submit(site: Site, *settings: str) -> str:
    path = site.root / "cat.png"
    path.write_bytes(b"cat")
    document = document_from_options(None, list(settings))
    submitter = Submitter(site.config, site.ledger, document)
    return submitter.submit(Submission(path.name, path), site.prober)


def pages_of(config: Config, *tables: str) -> list[int]:
    """Offsets of the pages that hold the rows of these tables."""
    marks = ", ".join("?" for _ in tables)
    sql = f"SELECT pageno FROM dbstat WHERE name IN ({marks}) AND pagetype = 'leaf'"
    with closing(sqlite3.connect(config.ledger_path)) as ledger:
        return [(row[0] - 1) * PAGE for row in ledger.execute(sql, tables)]


def damage(site: Site, *tables: str) -> None:
    """Overwrite the pages that hold the rows of these tables."""
    site.close()
    with closing(sqlite3.connect(site.config.ledger_path)) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = site.config.ledger_path
    data = bytearray(path.read_bytes())
    for start in pages_of(site.config, *tables):
        data[start : start + PAGE] = b"\xa5" * PAGE
    path.write_bytes(data)


def repaired(site: Site) -> Report:
    report = rebuild(site.config)
    assert report.damage is not None
    site.restart()
    site.settle()
    return report


def queued(site: Site) -> list[str]:
    return [job.inbox for job in site.jobs() if job.status == "queued"]


@pytest.mark.parametrize("settings", [(), ("remove_background.force=true",)])
def test_a_submission_whose_drop_cannot_be_read_is_queued_by_its_job(
    done: Site, settings: tuple[str, ...]
) -> None:
    submit(done, *settings)
    damage(done, "drops")
    assert repaired(done).requeued == 1
    assert queued(done) == ["submit"]
    assert done.jobs()[-1].stages[0]["params"]["force"] is bool(settings)


@pytest.mark.parametrize("tables", [("drops", "jobs"), ("drops", "jobs", "known_files")])
def test_a_submission_of_which_no_row_is_left_is_laid_where_people_find_it(
    done: Site, tables: tuple[str, ...]
) -> None:
    submit(done)
    damage(done, *tables)
    report = repaired(done)
    (folder,) = report.recovered
    assert (Path(folder) / "cat.png").read_bytes() == b"cat"
    assert queued(done) == []


def test_a_submission_that_equals_a_waiting_kept_file_is_named(make_site) -> None:
    """One copy is the submission, one that of the kept file; which is which cannot be known."""
    site = make_site(originals="keep")
    submit(site)
    site.put("cat.png", b"cat")
    site.settle()
    damage(site, "drops", "jobs", "known_files")
    report = repaired(site)
    assert any("cat.png" in line and "submitted" in line for line in report.remarks)
    assert queued(site) == ["in"]


@pytest.mark.parametrize("tables", [("artifacts",), ("drops",), ("drops", "jobs")])
def test_a_kept_file_that_has_its_first_bytes_again_runs_again(
    done: Site, tables: tuple[str, ...]
) -> None:
    """A result of the same bytes is there, but a later one was made in between."""
    done.put("cat.png", b"another cat")
    done.settle()
    done.run_next()
    done.put("cat.png", b"cat")
    done.settle()
    assert queued(done) == ["in"]
    damage(done, *tables)
    report = repaired(done)
    assert (queued(done), report.recovered) == (["in"], [])


@pytest.mark.parametrize("tables", [("artifacts",), ("drops",), ("drops", "jobs")])
def test_a_retried_job_of_a_kept_file_is_not_lost(make_site, tables: tuple[str, ...]) -> None:
    site = make_site(originals="keep")
    site.put("cat.png", b"cat")
    site.settle()
    fail(site)
    Retrier(site.config, site.ledger).retry(site.job().id, site.prober)
    damage(site, *tables)
    report = repaired(site)
    assert len(queued(site)) + len(report.recovered) == 1


def test_the_equal_file_of_another_inbox_is_no_original(make_site) -> None:
    """It runs with the pipeline of its own inbox."""
    site = make_site(originals="keep", recursive=True)
    for folder in ("one", "two"):
        site.put(f"{folder}/cat.png", b"cat")
    site.settle()
    (site.inbox / "one/cat.png").unlink()
    damage(site, "artifacts")
    assert repaired(site).requeued == 1
    assert len(queued(site)) == 2


def test_rows_behind_a_damaged_page_are_read(make_site) -> None:
    site = make_site()
    for number in range(60):
        site.put(f"{number}.png", str(number))
    site.settle()
    before = {row.id for row in site.rows(Drop)}
    first, *others = sorted(pages_of(site.config, "drops"))
    assert others
    jobs = {job.id for job in site.rows(Job)}
    site.close()
    data = bytearray(site.config.ledger_path.read_bytes())
    data[first : first + PAGE] = b"\xa5" * PAGE
    site.config.ledger_path.write_bytes(data)
    remains = salvage(site.config.ledger_path)
    assert 30 < len(remains.drops) < 60
    assert set(remains.drops) < before
    assert set().union(*remains.jobs_of.values()) == jobs
