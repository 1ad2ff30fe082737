"""Some rows of a table, done by a command: `run --table T --rows R`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.layout import CLAIMS
from dna_pipeline.execution.protocol import JobDone
from dna_pipeline.intake.table_intake import TableIntake
from dna_pipeline.ledger.tables import Batch, BatchRow
from dna_pipeline.operations.table_runs import choose_rows
from tests.integration.conftest import Site, StubProber
from tests.integration.test_batches import run_all
from tests.integration.test_holds import Desk

TABLE = "image,remove_background.force,meta.n\n" + "".join(
    f"img/{n}.png,,{n}\n" for n in range(2, 12)
)


def fill(site: Site) -> Path:
    """A table with the rows 2 to 11 in the inbox; row n has the image n.png."""
    for number in range(2, 12):
        site.put(f"img/{number}.png", f"image {number}")
    return site.put("shots.csv", TABLE)


@pytest.fixture(autouse=True)
def prober(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dna_pipeline.intake.service.Prober", lambda _: StubProber())


def take_in(site: Site, rows: str | None, table: Path | None = None) -> TableIntake:
    chosen = choose_rows(site.config, table or site.inbox / "shots.csv", rows)
    intake = TableIntake(site.config, site.ledger, site.cleanup, chosen)
    intake.recover()
    while not intake.is_quiet:
        assert intake.step() or intake.seconds_to_next() < 2
    return intake


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All that lies below a folder, with the times of its files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def numbers(site: Site) -> list[int]:
    """The rows that have jobs of their own, in the order of their jobs."""
    return [int(job.meta["n"]) for job in site.jobs()]


def test_only_these_rows_become_jobs_and_nothing_is_touched(site: Site) -> None:
    fill(site)
    before = snapshot(site.inbox)
    intake = take_in(site, "4-5,9")
    assert numbers(site) == [4, 5, 9]
    assert snapshot(site.inbox) == before
    assert not (site.inbox / CLAIMS).exists()
    assert intake.jobs == {job.id for job in site.jobs()}
    (batch,) = site.rows(Batch)
    assert (batch.id, batch.rows, batch.wrong, batch.originals) == (intake.batch, 3, 0, "keep")
    assert [row.number for row in site.rows(BatchRow)] == [4, 5, 9]
    run_all(site)
    site.accounts().write()
    assert snapshot(site.inbox) == before
    assert site.claims() == []
    (report,) = site.outbox.glob("in/shots-*/batch.csv")
    lines = report.read_text("utf-8-sig").splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["4", "5", "9"]
    assert all("completed" in line for line in lines)


def test_the_inbox_takes_in_its_table_as_if_no_row_had_been_done(site: Site) -> None:
    fill(site)
    take_in(site, "2-3")
    run_all(site)
    site.settle()
    assert numbers(site) == [2, 3, *range(4, 12)], "rows 2 and 3 were done, and are skipped"
    assert site.left() == set()


def test_hosts_do_parts_of_one_table_side_by_side(
    make_site: Callable[..., Site], tmp_path: Path
) -> None:
    hosts = [make_site(tmp_path / name) for name in ("one", "two")]
    shared = tmp_path / "shared"
    (shared / "img").mkdir(parents=True)
    for number in range(2, 12):
        (shared / f"img/{number}.png").write_bytes(b"image %d" % number)
    table = shared / "shots.csv"
    table.write_text(TABLE)
    before = snapshot(shared)
    for host, rows in zip(hosts, ("-6", "7-"), strict=True):
        take_in(host, rows, table)
        run_all(host)
    assert [numbers(host) for host in hosts] == [[2, 3, 4, 5, 6], [7, 8, 9, 10, 11]]
    assert {job.inbox for host in hosts for job in host.jobs()} == {"submit"}
    assert snapshot(shared) == before


def test_rows_again_do_nothing_twice(site: Site) -> None:
    fill(site)
    take_in(site, "2-4")
    run_all(site)
    again = take_in(site, "3-5")
    assert numbers(site) == [2, 3, 4, 5]
    jobs = {job.meta["n"]: job.id for job in site.jobs()}
    assert again.jobs == {jobs["3"], jobs["4"], jobs["5"]}
    (result,) = site.outbox.glob("in/shots-*/3-*")
    for path in result.iterdir():
        path.unlink()
    result.rmdir()
    run_all(site)
    take_in(site, "3-5")
    assert numbers(site) == [2, 3, 4, 5, 3], "its result was removed, so it is made again"


def test_with_on_duplicate_run_only_rows_that_wait_are_not_queued_twice(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(on_duplicate="run")
    fill(site)
    first = take_in(site, "2-3")
    site.run_next()
    second = take_in(site, "2-3")
    assert numbers(site) == [2, 3, 2], "row 3 was still in the queue, as after a call cut off"
    assert first.jobs is not None
    assert second.jobs is not None
    assert len(first.jobs & second.jobs) == 1


def test_wrong_rows_fail_alone(site: Site) -> None:
    fill(site)
    site.put("img/5.png", "broken")
    (site.inbox / "img/6.png").unlink()
    intake = take_in(site, "4-6")
    assert intake.error is None
    assert numbers(site) == [4]
    rows = {row.number: (row.status, row.code) for row in site.rows(BatchRow)}
    assert rows == {
        4: (None, None),
        5: ("wrong", "image_unreadable"),
        6: ("wrong", "image_missing"),
    }
    (batch,) = site.rows(Batch)
    assert (batch.rows, batch.wrong) == (3, 2)


def test_json_lines_a_yaml_beside_it_and_source_roots(make_site: Callable[..., Site]) -> None:
    site = make_site(source_roots=["library"])
    library = site.root / "library"
    library.mkdir()
    (library / "a.png").write_bytes(b"in the library")
    site.put("b.png", "in the inbox")
    lines = [{"image": "a.png", "meta": {"n": "1"}}, {"image": "b.png", "meta": {"n": "2"}}]
    site.put("shots.jsonl", "\n".join(map(json.dumps, lines)))
    site.put("shots.jsonl.yaml", "tags: [hero]\npipeline: other\n")
    take_in(site, "1-", site.inbox / "shots.jsonl")
    assert numbers(site) == [1, 2]
    assert {(job.pipeline, tuple(job.tags)) for job in site.jobs()} == {("other", ("hero",))}
    assert (library / "a.png").exists()


def test_copies_of_a_row_belong_to_it(site: Site) -> None:
    site.put("a.png")
    head = "image,count,meta.n,pipeline"
    site.put("shots.csv", f"{head}\na.png,2,2,paint\na.png,1,3,paint\na.png,3,4,paint\n")
    take_in(site, "4")
    assert numbers(site) == [4, 4, 4]
    assert [row.number for row in site.rows(BatchRow)] == [4, 6, 7]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("1", "shots.csv has no row 1; its rows are 2 to 11"), ("12-20", "has no row 12-20"),
        ("2,40", "has no row 40"), ("-1", "has no row -1"),
    ],
)  # fmt: skip
def test_rows_that_are_not_there(site: Site, rows: str, why: str) -> None:
    fill(site)
    intake = take_in(site, rows)
    assert isinstance(intake.error, ConfigError)
    assert why in str(intake.error)
    assert intake.jobs == frozenset()
    assert site.rows(Batch) == []


def test_a_range_may_end_behind_the_table(site: Site) -> None:
    fill(site)
    take_in(site, "10-20")
    assert numbers(site) == [10, 11]


def test_a_table_that_is_none(site: Site) -> None:
    site.put("shots.csv", "picture\na.png\n")
    intake = take_in(site, None)
    assert intake.error is not None
    assert "no column is called 'image'" in str(intake.error)
    assert site.jobs() == []


def test_tables_that_cannot_be_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    fill(site)
    (tmp_path / "link.csv").symlink_to(site.inbox / "shots.csv")
    for name, why in {
        "a.png": "a table ends in",
        "no.csv": "no such file",
        "link.csv": "is a link",
    }.items():
        with pytest.raises(ConfigError, match=why):
            choose_rows(site.config, tmp_path / name, None)


def test_a_disk_that_is_away_is_waited_for_and_said(make_site: Callable[..., Site]) -> None:
    site = make_site(source_roots=["away"])
    fill(site)
    intake = take_in(site, "2")
    assert (intake.error, intake.jobs) == (None, frozenset())
    (said,) = intake.waiting()
    assert "away, one of the inbox's source_roots, is not there" in said["reason"]
    assert site.rows(Batch) == []


def test_other_jobs_wait_meanwhile_and_go_on_afterwards(site: Site) -> None:
    for number in range(3):
        site.put(f"other{number}.png", f"other {number}")
    site.settle()
    fill(site)
    chosen = take_in(site, "2-3").jobs
    assert chosen is not None
    desk = Desk(site)
    scheduler = desk.dispatcher.scheduler
    scheduler.choose_only(chosen)
    names: list[str | None] = []
    for _ in chosen:
        names.append(desk.next())
        desk.answer(JobDone)
    assert names == ["2.png", "3.png"]
    assert desk.next() is None
    desk.review()
    assert desk.next() is None
    held = {"other0.png": "other_rows", "other1.png": "other_rows", "other2.png": "other_rows"}
    assert desk.holds() == held | {"2.png": None, "3.png": None}
    desk.start()  # as after a kill: the next daemon is not told of any rows
    desk.review()
    assert desk.next() == "other0.png"
    desk.answer(JobDone)
    desk.dispatcher.scheduler.choose_only(frozenset())
    assert desk.next() is None
    desk.dispatcher.scheduler.choose_only(None)
    assert desk.next() == "other1.png"


@pytest.mark.slow
def test_killed_anywhere_and_given_again(make_site: Any, kill_everywhere: Any) -> None:
    def prepare(root: Path) -> Site:
        site = make_site(root)
        fill(site)
        return site

    def act(site: Site) -> None:
        take_in(site, "3-5")
        run_all(site)

    def check(site: Site) -> None:
        take_in(site, "3-5")
        site.publish()
        run_all(site)
        statuses = {job.meta["n"]: job.status for job in site.jobs()}
        assert statuses == {"3": "completed", "4": "completed", "5": "completed"}
        assert len(site.jobs()) == 3
        assert len(list(site.outbox.glob("in/shots-*/*-*/manifest.json"))) == 3
        site.accounts().write()
        assert site.claims() == []
        assert len(snapshot(site.inbox)) == 11

    assert kill_everywhere(prepare, act, check, every=9) > 10
