"""Batches when something goes wrong beside them, and what is done to their jobs afterwards."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dna_pipeline.base.errors import BlackImage
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.blocked import REFUSED_WAIT_S
from dna_pipeline.intake.claiming.single import SingleClaimer
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.ledger import batches, queue
from dna_pipeline.ledger.tables import Batch, Job
from dna_pipeline.operations.retry import Retrier
from tests.integration.conftest import Site
from tests.integration.test_batches import (
    MATRIX,
    from_library,
    library,
    params,
    report,
    run_all,
    statuses,
    three,
)
from tests.integration.test_unmounting import Disk, make_disk

__all__ = ["make_disk"]

MakeSite = Callable[..., Site]

WAIT_S = 600.0


def start_batch(site: Site, steps: int) -> None:
    """Let time pass until a batch is begun, and go so many steps further."""
    for _ in range(60):
        site.gate.finder.request_scan(site.now)
        site.gate.step(site.now)
        if site.gate._batch is not None:  # pyright: ignore
            break
        site.now += 1
    for _ in range(steps):
        site.gate.step(site.now)


def step_till_quiet(site: Site) -> None:
    """As the daemon does: an error in one step does not end the next."""
    for _ in range(60):
        try:
            site.tick(1)
        except Exception as error:
            site.gate.fail(error, site.now)


@pytest.mark.slow
@pytest.mark.parametrize("restart", [False, True])
def test_unmounted_in_the_middle_a_batch_is_taken_again_as_it_was(
    make_disk: Callable[..., Disk], restart: bool
) -> None:
    disk = make_disk()
    site = disk.site
    for number in range(40):
        site.put(f"{number:02}.png", f"image {number}")
    site.put("shots.csv", "image,priority\n" + "".join(f"{n:02}.png,7\n" for n in range(40)))
    start_batch(site, 5)
    assert len(site.claims()) > 1
    disk.unmount()
    if restart:
        site.restart()
    step_till_quiet(site)
    disk.mount()
    if restart:
        site.restart()
    step_till_quiet(site)
    assert [job.priority for job in site.jobs()] == [7] * 40
    assert len(site.rows(Batch)) == 1


# --- jobs that are done again ---


def fail_one(site: Site) -> Job:
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, BlackImage().failure()))
    site.publish()
    return job


def told(site: Site, job: Job) -> Path:
    (path,) = site.outbox.glob(f"in/failed/*-{job.id[:8]}/source/*.yaml")
    return path


def retry(site: Site, job: Job) -> None:
    Retrier(site.config, site.ledger).retry(job.id, site.prober)  # pyright: ignore


@pytest.mark.slow
def test_what_was_mended_for_a_retry_is_there_for_the_next(site: Site) -> None:
    site.put("a.png")
    site.put("shots.csv", "image,remove_background.force\na.png,true\n")
    site.settle()
    job = fail_one(site)
    told(site, job).write_text("remove_background: {force: false}\n")
    retry(site, job)
    assert fail_one(site).id == job.id
    assert told(site, job).read_text() == "remove_background: {force: false}\n"


def test_a_retried_row_still_knows_its_batch_and_number(make_site: MakeSite) -> None:
    site = make_site(pipeline="paint")
    text = 'image,img2img.prompt\nnone.png,x\na.png,"{batch} {row}"\n'
    site.put("a.png")
    site.put("shots.csv", text)
    site.settle()
    assert params(site.job())["prompt"] == "shots 3"
    job = fail_one(site)
    retry(site, job)
    assert params(site.job())["prompt"] == "shots 3"


@pytest.mark.slow
def test_a_row_mended_by_a_retry_does_not_stand_for_what_it_was(make_site: MakeSite) -> None:
    text = "image,remove_background.force\na.png,true\n"
    site = from_library(make_site, text)
    job = fail_one(site)
    told(site, job).write_text("remove_background: {force: false}\n")
    retry(site, job)
    run_all(site)
    site.put("shots.csv", text)
    site.settle()
    assert statuses(site) == {"2": "queued"}


@pytest.mark.slow
def test_a_row_retried_as_it_was_stands_for_itself(make_site: MakeSite) -> None:
    text = "image,remove_background.force\na.png,true\n"
    site = from_library(make_site, text)
    retry(site, fail_one(site))
    run_all(site)
    site.put("shots.csv", text)
    site.settle()
    assert statuses(site) == {"2": "skipped"}


# --- the account ---


def test_an_outbox_that_is_away_is_not_made_anew(site: Site) -> None:
    three(site)
    away = site.outbox.rename(site.root / "away")
    site.accounts().write()
    assert not site.outbox.exists()
    away.rename(site.outbox)
    assert set(statuses(site).values()) == {"queued"}


def test_the_files_of_a_batch_are_archived_though_its_disk_was_away_at_first(
    make_disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    log = SimpleNamespace(warning=lambda event, **_: logged.append(event))
    disk = make_disk()
    site = disk.site
    three(site)
    disk.unmount()
    accounts = site.accounts()
    with monkeypatch.context() as patched:
        patched.setattr("dna_pipeline.publish.batch_report.log", log)
        for _ in range(2):
            accounts.write()
    assert logged == ["batch.not_written"]
    assert site.rows(Batch)[0].state == "claimed"
    disk.mount()
    accounts.write()
    (folder,) = site.outbox.glob("in/all-*")
    assert [path.name for path in (folder / "source").iterdir()] == ["all.yaml"]
    run_all(site)
    assert site.claims() == []


@pytest.mark.slow
def test_a_folder_that_was_removed_does_not_keep_the_batch_open(site: Site) -> None:
    batch = three(site)
    statuses(site)
    shutil.rmtree(next(site.outbox.glob("in/all-*")))
    site.ledger.transact(lambda s: batches.cancel(s, batch))
    site.publish()
    assert set(statuses(site).values()) == {"cancelled"}
    assert site.rows(Batch)[0].state == "done"


def test_many_batches_are_accounted_for_a_few_at_a_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the claims that they leave are looked for once, not once for each."""
    monkeypatch.setattr("dna_pipeline.publish.batch_report.STEP_S", 0.0)
    for number in range(4):
        site.put(f"{number}.png.yaml", MATRIX)
        site.put(f"{number}.png", str(number))
    site.settle()
    looks: list[str | None] = []
    dispose = site.cleanup.dispose_unneeded
    site.cleanup.dispose_unneeded = lambda drop_id=None: (looks.append(drop_id), dispose(drop_id))[
        1
    ]
    accounts = site.accounts()
    laid: list[int] = []
    for now in range(5):
        accounts.step(float(now))
        laid.append(sum(batch.state == "open" for batch in site.rows(Batch)))
    assert laid == [1, 2, 3, 4, 4]
    assert looks == [None]


@pytest.mark.slow
def test_a_long_account_is_made_some_rows_at_a_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dna_pipeline.publish.batch_report.STEP_S", 0.0)
    monkeypatch.setattr(batches, "REPORTED_AT_ONCE", 2)
    for name in "abcde":
        site.put(f"{name}.png", name)
    site.put("shots.csv", "image\n" + "".join(f"{name}.png\n" for name in "abcde"))
    site.settle()
    accounts = site.accounts()
    steps = 0
    while not list(site.outbox.rglob("batch.csv")):
        accounts.step(float(steps))
        steps += 1
    assert steps == 3
    run_all(site)
    assert statuses(site) == dict.fromkeys("23456", "completed")
    assert site.rows(Batch)[0].state == "done"


def test_a_job_that_is_begun_again_keeps_its_batch_open(site: Site) -> None:
    batch = three(site)
    assert not site.ledger.transact(lambda s: batches.close(s, batch))
    run_all(site)
    assert site.ledger.transact(lambda s: batches.close(s, batch))


def test_results_that_cannot_be_seen_are_not_made_again(make_site: MakeSite) -> None:
    site = from_library(make_site)
    run_all(site)
    statuses(site)
    away = site.outbox.rename(site.root / "away")
    site.put("shots.csv", "image\na.png\n")
    site.settle()
    away.rename(site.outbox)
    assert statuses(site) == {"2": "skipped"}


def row_of_another(site: Site) -> Job:
    """`b.csv` with one row, which the queued job of `a.csv` does."""
    site.put("a.png", "a")
    site.put("a.csv", "image\na.png\n")
    site.settle()
    site.put("b.csv", "image\na.png\n")
    site.settle()
    assert statuses(site) == {"2": "skipped"}
    return site.job()


@pytest.mark.slow
@pytest.mark.parametrize("image", ["none.png", "a.png"])
def test_a_job_that_another_batch_counts_on_is_not_withdrawn(
    make_site: MakeSite, image: str
) -> None:
    """It is done also where the newer version of its own batch asks for it again."""
    site = make_site(originals="keep")
    job = row_of_another(site)
    site.put("a.csv", f"image,meta.new\n{image},\nelse.png,x\n")
    site.settle()
    run_all(site)
    (done,) = site.jobs()
    assert (done.id, done.status) == (job.id, "completed")
    for account in sorted(site.outbox.rglob("batch.csv")):
        lines = account.read_text().splitlines()[1:]
        assert all(done.id[:8] in line for line in lines if ",a.png," in line), account


@pytest.mark.slow
def test_what_another_batch_did_for_a_row_in_vain_is_told(make_site: MakeSite) -> None:
    site = make_site(originals="keep")
    job = row_of_another(site)
    fail_one(site)
    (row,) = report(site)
    assert (row["job"], row["status"], row["code"]) == (job.id[:8], "failed", "black_image")
    assert [batch.state for batch in site.rows(Batch)] == ["done", "done"]
    retry(site, job)
    assert [batch.state for batch in site.rows(Batch)] == ["open", "open"]
    for batch in site.rows(Batch):
        assert not site.ledger.transact(lambda s, i=batch.id: batches.close(s, i))
    run_all(site)
    assert statuses(site) == {"2": "skipped"}


# --- kept ---


@pytest.mark.slow
@pytest.mark.parametrize("told", ["", "on_duplicate: run\n"])
def test_a_touch_makes_no_batch(make_site: MakeSite, told: str) -> None:
    site = make_site(originals="keep")
    image = site.put("a.png", "a")
    site.put("all.yaml", f"images: [a.png]\n{told}")
    site.settle()
    run_all(site)
    image.touch()
    site.settle()
    site.restart()
    site.settle()
    assert len(site.jobs()) == 1
    assert len(site.rows(Batch)) == 1
    site.accounts().write()
    assert site.claims() == []


def test_one_job_takes_the_place_of_a_matrix_that_waits(make_site: MakeSite) -> None:
    site = make_site(originals="keep")
    told = site.put("cat.png.yaml", MATRIX)
    site.put("cat.png", "one")
    site.settle()
    told.write_text("tags: [hero]\n")
    site.settle()
    assert len(site.jobs()) == 1


# --- sidecars that come late ---


def test_a_late_sidecar_changes_no_row(site: Site) -> None:
    site.put("a.png")
    site.put("shots.csv", "image,priority\na.png,1\na.png,2\n")
    site.settle()
    site.put("a.png.yaml", "priority: 9\n")
    site.settle()
    first, second, *late = site.jobs()
    assert (first.priority, second.priority) == (1, 2)
    assert [job.status for job in late] == ["failed"]


@pytest.mark.parametrize("text", [MATRIX, "tags: [x]\n"])
def test_a_matrix_is_not_changed_by_a_late_sidecar(site: Site, text: str) -> None:
    site.put("cat.png.yaml", MATRIX)
    site.put("cat.png")
    site.settle()
    site.put("cat.png.yaml", text)
    site.settle()
    one, other, *late = site.jobs()
    assert [(job.status, params(job)["force"]) for job in (one, other)] == [
        ("queued", True), ("queued", False),
    ]  # fmt: skip
    assert [job.status for job in late] == ["failed"]


# --- weights ---


def test_only_the_weights_that_a_row_needs_are_read(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where they cannot be, the worker says so."""
    site = make_site()
    asked: list[str] = []

    def of(self: Any, provider: Any) -> Any:
        asked.append(provider.name_in_config)
        raise PermissionError("weights")

    monkeypatch.setattr("dna_pipeline.weights.fingerprint.Fingerprints.of", of)
    monkeypatch.setattr(type(site.config.models["sd"]), "missing", lambda _: None)
    site.put("a.png", "a")
    site.put("shots.csv", "image\na.png\n")
    site.settle()
    assert statuses(site) == {"2": "queued"}
    assert asked == ["border_key"]


def test_a_batch_that_waits_is_not_decoded_again_and_again(site: Site) -> None:
    for name, data in (("a", "a"), ("b", "b"), ("c", "locked")):
        site.put(f"{name}.png", data)
    site.put("shots.csv", "image\na.png\nb.png\nc.png\n")
    site.tick(60)
    assert (site.prober.asked.count("a.png"), site.prober.asked.count("b.png")) == (1, 1)
    assert site.jobs() == []
    assert not site.gate.is_busy(), "`run` would wait for it for ever"
    site.put("c.png", "c")
    site.put("b.png", "broken by now")
    site.settle()
    assert statuses(site) == {"2": "queued", "3": "wrong", "4": "queued"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reason", "is_busy"),
    [
        (claims.Busy("read-only"), False),
        (OSError(errno.ENOSPC, "no space left"), False),
        (claims.Changed("a.png"), True),
        (claims.Lost("a.png"), True),
    ],
)
def test_run_waits_for_what_moves_not_for_what_may_last(
    site: Site, monkeypatch: pytest.MonkeyPatch, reason: Exception, is_busy: bool
) -> None:
    def take(*_: Any) -> None:
        raise reason

    monkeypatch.setattr(claims, "claim_file", take)
    site.put("a.png")
    site.put("shots.csv", "image\na.png\n")
    site.settle()
    assert site.waiting()["shots.csv"].startswith("not taken in yet: ")
    assert site.gate.is_busy() == is_busy
    monkeypatch.undo()
    site.settle()
    assert statuses(site) == {"2": "queued"}


def take_others(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Callable[[], Exception]
) -> list[str]:
    """Let the file of that name be one that cannot be taken; gives the names that are tried."""
    tried: list[str] = []
    real = claims.claim_file

    def take(source: Path, target: Path, expected: Any) -> FileStat | None:
        tried.append(source.name)
        if source.name == name:
            raise error()
        return real(source, target, expected)

    monkeypatch.setattr(claims, "claim_file", take)
    return tried


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than an hour, but longer than a lone image waits while its folder changes."""
    monkeypatch.setattr("dna_pipeline.intake.claiming.blocked.IMAGE_WAIT_S", WAIT_S)


@pytest.mark.slow
def test_an_image_that_cannot_be_read_holds_its_batch_up_for_a_while(
    site: Site, short_wait: None
) -> None:
    for name, data in (("a", "a"), ("b", "b"), ("c", "locked")):
        site.put(f"{name}.png", data)
    site.put("shots.csv", "image\na.png\nb.png\nc.png\n")
    site.tick(WAIT_S - 30)
    assert site.jobs() == []
    assert "cannot be read: Permission denied" in site.waiting()["shots.csv"]
    site.tick(60)
    assert statuses(site) == {"2": "queued", "3": "queued", "4": "wrong"}
    (row,) = [row for row in report(site) if row["row"] == "4"]
    assert row["code"] == "image_unreadable"
    assert "for 10 min: cannot be read: Permission denied" in row["detail"]
    assert site.left() == {"c.png"}


@pytest.mark.slow
def test_a_locked_image_in_a_source_root_holds_its_batch_up_for_a_while(
    make_site: MakeSite, short_wait: None
) -> None:
    site = make_site(source_roots=["library"])
    library(site, "a.png")
    (site.root / "library" / "locked.png").write_bytes(b"locked")
    site.put("shots.csv", "image\na.png\nlocked.png\n")
    site.tick(WAIT_S - 30)
    assert site.jobs() == []
    site.tick(60)
    assert statuses(site) == {"2": "queued", "3": "wrong"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (lambda: claims.Busy("c.png: Operation not permitted"), WAIT_S),
        (lambda: claims.Changed("c.png"), WAIT_S),
        (lambda: claims.Refused("c.png is on another file system"), REFUSED_WAIT_S),
    ],
)
def test_an_image_that_cannot_be_taken_holds_its_batch_up_for_a_while(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    short_wait: None,
    error: Callable[[], Exception],
    seconds: float,
) -> None:
    for name in "abcd":
        site.put(f"{name}.png", name)
    site.put("shots.csv", "image\na.png\nb.png\nc.png\nd.png\n")
    tried = take_others(monkeypatch, "c.png", error)
    site.tick(seconds - 20)
    assert site.jobs() == []
    assert site.left() == {"a.png", "b.png", "c.png", "d.png", "shots.csv"}
    assert "c.png" in site.waiting()["shots.csv"]
    assert tried.count("a.png") == 1, "the others are moved to and fro at each try"
    assert site.prober.asked.count("d.png") <= 2
    site.tick(90)
    assert statuses(site) == {"2": "queued", "3": "queued", "4": "wrong", "5": "queued"}
    assert site.left() == {"c.png"}
    assert "shots.csv names it in row 4" in site.waiting()["c.png"]
    assert [job.name for job in site.jobs()] == ["a.png", "b.png", "d.png"]


@pytest.mark.slow
def test_what_was_blocked_and_is_free_again_is_taken(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dna_pipeline.intake.claiming.blocked.IMAGE_WAIT_S", WAIT_S)
    for name in "ab":
        site.put(f"{name}.png", name)
    site.put("shots.csv", "image\na.png\nb.png\n")
    take_others(monkeypatch, "a.png", lambda: claims.Busy("a.png"))
    site.tick(WAIT_S / 2)
    monkeypatch.undo()
    monkeypatch.setattr("dna_pipeline.intake.claiming.blocked.IMAGE_WAIT_S", WAIT_S)
    take_others(monkeypatch, "b.png", lambda: claims.Busy("b.png"))
    site.tick(WAIT_S - 60)
    assert site.jobs() == []
    site.tick(180)
    assert statuses(site) == {"2": "queued", "3": "wrong"}


@pytest.mark.slow
def test_a_table_that_is_dropped_again_has_its_image_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, short_wait: None
) -> None:
    site.put("a.png")
    site.put("shots.csv", "image\na.png\n")
    take_others(monkeypatch, "a.png", lambda: claims.Busy("a.png"))
    site.tick(WAIT_S + 60)
    assert statuses(site) == {"2": "wrong"}
    monkeypatch.undo()
    site.put("shots.csv", "image\na.png\n")
    site.settle()
    assert statuses(site) == {"2": "queued"}


def test_a_row_whose_image_was_archived_is_known_by_its_place(make_site: MakeSite) -> None:
    """The prompt names the image's folder."""
    site = make_site(pipeline="paint", recursive=True)
    site.put("sub/deep/a.png")
    site.put("sub/shots.csv", "image\ndeep/a.png\n")
    site.settle()
    assert statuses(site) == {"2": "queued"}
    site.put("sub/shots.csv", "image\ndeep/a.png\n")
    site.settle()
    assert statuses(site) == {"2": "skipped"}


def deny_return(*_: Any) -> Path:
    raise PermissionError(errno.EACCES, "Permission denied", "in")


@pytest.mark.parametrize("restart", [False, True])
def test_files_that_cannot_be_given_back_are_given_back_later_and_the_batch_runs(
    site: Site, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    for name in "abc":
        site.put(f"{name}.png", name)
    site.put("shots.csv", "image,priority\na.png,7\nb.png,7\nc.png,7\n")
    take_others(monkeypatch, "c.png", lambda: claims.Busy("c.png: Permission denied"))
    monkeypatch.setattr(claims, "put_back", deny_return)
    site.settle()
    assert site.left() == {"c.png"}
    # The folder may be written to again, but its files were not given back yet.
    monkeypatch.undo()
    monkeypatch.setattr(claims, "put_back", deny_return)
    if restart:
        site.restart()
    site.settle()
    assert site.jobs() == [], "c.png is taken in without its table"
    waiting = site.waiting()
    assert set(waiting) == {"a.png", "b.png", "c.png", "shots.csv"}
    assert "until it can be given back: " in waiting["shots.csv"]
    assert ".dna" in waiting["shots.csv"]
    assert "Permission denied" in waiting["shots.csv"]
    assert waiting["c.png"].startswith("waits for ")
    assert not site.gate.is_busy(), "`run` would wait for it for ever"
    monkeypatch.undo()
    site.tick(40)
    assert [(job.name, job.priority) for job in site.jobs()] == [
        ("a.png", 7), ("b.png", 7), ("c.png", 7),
    ]  # fmt: skip
    assert site.waiting() == {}
    assert len(site.rows(Batch)) == 1


def test_an_image_whose_yaml_cannot_be_given_back_waits_for_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("a.png")
    site.put("a.png.yaml", "priority: 7\n")
    take_others(monkeypatch, "a.png", lambda: claims.Busy("a.png: Permission denied"))
    monkeypatch.setattr(claims, "put_back", deny_return)
    step_till_quiet(site)
    monkeypatch.undo()
    monkeypatch.setattr(claims, "put_back", deny_return)
    step_till_quiet(site)
    assert site.jobs() == []
    assert set(site.waiting()) == {"a.png", "a.png.yaml"}
    monkeypatch.undo()
    step_till_quiet(site)
    assert [job.priority for job in site.jobs()] == [7]


def try_a_table_of_two(site: Site, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """Drop a table, of whose two images the second cannot be claimed for longer than is waited."""
    site.put("a.png", "a")
    site.put("b.png", "b")
    site.put("shots.csv", "image\na.png\nb.png\n")
    take_others(monkeypatch, "b.png", lambda: error)
    site.tick(WAIT_S + 60)


@pytest.mark.slow
def test_an_image_whose_copy_no_file_system_accepts_is_a_wrong_row(
    site: Site, monkeypatch: pytest.MonkeyPatch, short_wait: None
) -> None:
    try_a_table_of_two(site, monkeypatch, OSError(errno.ENAMETOOLONG, "File name too long"))
    assert statuses(site) == {"2": "queued", "3": "wrong"}


def test_a_full_disk_is_no_fault_of_an_image(
    site: Site, monkeypatch: pytest.MonkeyPatch, short_wait: None
) -> None:
    try_a_table_of_two(site, monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    assert site.jobs() == []
    monkeypatch.undo()
    site.settle()
    assert statuses(site) == {"2": "queued", "3": "queued"}


@pytest.mark.slow
def test_a_daemon_that_stops_in_the_middle_gives_back_at_the_next_start(site: Site) -> None:
    for number in range(40):
        site.put(f"{number:02}.png", f"image {number}")
    site.put("shots.csv", "image\n" + "".join(f"{n:02}.png\n" for n in range(40)))
    start_batch(site, 5)
    assert site.claims()
    site.restart()
    assert (len(site.left()), site.claims(), site.rows(Batch)) == (41, [], [])
    site.settle()
    assert len(site.jobs()) == 40


# --- files that go ---


def test_a_table_that_vanishes_stops_nobody(site: Site) -> None:
    site.put("a.png")
    table = site.put("shots.csv", "image\na.png\n")
    start_batch(site, 0)
    table.unlink()
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png"]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True])
def test_the_images_of_a_wrong_job_file_wait_for_its_mend(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    site = make_site(originals="keep" if kept else "archive")
    site.put("a.png")
    site.put("all.yaml", "images: [a.png]\nmatrix: {x: []}\n")
    site.settle()
    assert [(job.name, job.status) for job in site.jobs()] == [("all.yaml", "failed")]
    site.restart()
    monkeypatch.setattr(SingleClaimer, "claim", lambda *_: pytest.fail("it is taken in again"))
    site.tick(60)
    monkeypatch.undo()
    assert len(site.jobs()) == 1
    site.put("all.yaml", "images: [a.png]\npriority: 3\n")
    site.settle()
    assert [(job.name, job.priority) for job in site.jobs()[1:]] == [("a.png", 3)]


@pytest.mark.parametrize("told", ["all.yaml", "shots.csv", "glob.yaml"])
def test_what_names_its_images_need_not_wait_an_hour(make_site: MakeSite, told: str) -> None:
    site = make_site(sidecar="required")
    texts = {
        "all.yaml": "images: [a.png]\n",
        "shots.csv": "image\na.png\n",
        "glob.yaml": "images: '*.png'\n",
    }
    site.put("a.png")
    site.put(told, texts[told])
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png"]
