"""Folders that do not answer, or are out of reach: what waits for them, and what does not."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import InboxUnavailable, OutboxUnavailable, StageFailed
from dna_pipeline.base.layout import claim_root
from dna_pipeline.base.reachability import SILENT, FolderProbe, Reach, look_directly
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.execution import source_holds
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import JobFailed, WorkerEnded
from dna_pipeline.intake.claiming import claims, owner
from dna_pipeline.intake.discovery import probe as probe_module
from dna_pipeline.intake.discovery.probe import NotReadable, Prober
from dna_pipeline.intake.discovery.watcher import Watcher
from dna_pipeline.intake.inbox_intake import InboxIntake
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.ledger import holds, queue
from dna_pipeline.ledger.sqlite import sqlite_module
from dna_pipeline.ledger.tables import Batch
from dna_pipeline.operations import configuration
from dna_pipeline.operations.daemon.cleanup import Cleanup
from dna_pipeline.publish.batch_report import BatchReports
from dna_pipeline.publish.publisher import Publisher
from tests.hanging import HangingMount, has_blocked_thread
from tests.integration.test_dispatch import PlayedExecutor

Hang = Callable[..., HangingMount]
WHY = "does not answer: is its server or disk gone?"


class Looks:
    """Looks at folders, of which some do not answer; what lies below those does not either."""

    def __init__(self) -> None:
        self.silent: list[Path] = []
        self.seen: list[Path] = []

    def __call__(self, folder: Path) -> Reach:
        self.seen.append(folder)
        if any(folder.is_relative_to(other) for other in self.silent):
            return SILENT
        return look_directly(folder)


@pytest.fixture
def looks() -> Looks:
    return Looks()


class Desk:
    """A dispatcher over a site's ledger, which reviews whenever it is asked to."""

    def __init__(self, site: Any, look: Callable[[Path], Reach]) -> None:
        self.site = site
        self.executor = PlayedExecutor()
        self.dispatcher = Dispatcher(site.config, site.ledger, self.executor, look)

    def next(self) -> str | None:
        self.dispatcher.dispatch()
        return next((job.name for job in self.dispatcher.running.values()), None)

    def report(self, event: Any) -> None:
        self.executor.reports.put(event)
        self.dispatcher.listen()

    def holds(self) -> dict[str, str | None]:
        return {job.name: job.hold for job in self.site.jobs()}

    def review(self) -> None:
        self.dispatcher.scheduler.review(keep_trying=True)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is due every few seconds is due at once."""
    monkeypatch.setattr(source_holds, "RETRY_S", 0.0)


def wait_until(predicate: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def put(site: Any, *names: str) -> None:
    for name in names:
        site.put(name, name)
    site.settle()


def root_of(site: Any) -> Path:
    return claim_root(site.inbox, site.ledger.id)


# --- queued jobs ---


def test_jobs_of_a_silent_inbox_wait_and_go_on(site, looks: Looks) -> None:
    put(site, "a.png", "b.png")
    desk = Desk(site, looks)
    looks.silent.append(site.inbox)
    assert desk.next() is None
    assert set(desk.holds().values()) == {"inbox_unavailable"}
    assert f"{root_of(site)} {WHY}" in site.jobs()[0].hold_detail
    desk.review()
    assert desk.next() is None
    looks.silent.clear()
    desk.review()
    assert desk.next() == "a.png"
    assert set(desk.holds().values()) == {None}


def test_many_jobs_cost_a_few_questions(site, looks: Looks, monkeypatch) -> None:
    put(site, *(f"{number:02}.png" for number in range(40)))
    site.inbox.rename(site.root / "elsewhere")
    desk = Desk(site, looks)
    asked: list[Path] = []
    real = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: asked.append(path) or real(path))
    assert desk.next() is None
    for _ in range(3):
        desk.review()
    assert set(desk.holds().values()) == {"inbox_unavailable"}
    assert looks.seen.count(root_of(site)) < 8
    assert len([path for path in asked if path.is_relative_to(site.inbox)]) < 8


def test_the_ledger_can_be_written_to_while_a_folder_is_looked_at(site, monkeypatch) -> None:
    put(site, "a.png", "b.png")
    written: list[Path] = []

    def write(folder: Path) -> None:
        other: Any = sqlite_module().connect(
            site.config.ledger_path, timeout=0, isolation_level=None
        )
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        other.close()
        written.append(folder)

    def look(folder: Path) -> Reach:
        write(folder)
        return look_directly(folder)

    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: (write(folder), real(folder))[1])
    desk = Desk(site, look)
    assert desk.next() == "a.png"
    elsewhere = site.inbox.rename(site.root / "elsewhere")
    desk.report(JobFailed(site.jobs()[0].id, StageFailed("EIO").failure().to_dict(), None))
    assert desk.next() is None
    elsewhere.rename(site.inbox)
    desk.review()
    assert desk.next() == "a.png"
    assert root_of(site) in written
    assert site.config.outbox in written


def test_a_mount_point_that_we_wrote_into_ourselves_is_not_the_inbox(site, looks: Looks) -> None:
    put(site, "a.png", "b.png")
    elsewhere = site.inbox.rename(site.root / "elsewhere")
    site.inbox.mkdir()
    owner.beat(site.inbox, site.ledger.id, {})
    desk = Desk(site, looks)
    assert desk.next() is None
    desk.review()
    assert set(desk.holds().values()) == {"inbox_unavailable"}
    shutil.rmtree(site.inbox)
    elsewhere.rename(site.inbox)
    desk.review()
    assert desk.next() == "a.png"


def test_a_claim_that_is_gone_alone_holds_nobody_else(site, looks: Looks) -> None:
    put(site, "a.png", "b.png", "c.png")
    desk = Desk(site, looks)
    desk.review()
    lost = [Path(site.drop(job).claim) for job in site.jobs()[:2]]
    for path in lost:
        path.rename(site.root / path.name)
    assert desk.next() == "c.png"
    assert list(desk.holds().values()) == ["inbox_unavailable", "inbox_unavailable", None]
    desk.review()
    (site.root / lost[1].name).rename(lost[1])
    desk.review()
    assert list(desk.holds().values()) == ["inbox_unavailable", None, None]


@pytest.mark.parametrize("left", ["root", "claim"])
def test_a_new_daemon_releases_what_the_last_one_held(site, looks: Looks, left: str) -> None:
    put(site, "a.png", "b.png")
    lost = site.inbox if left == "root" else Path(site.drop(site.jobs()[0]).claim)
    lost.rename(site.root / "elsewhere")
    desk = Desk(site, looks)
    desk.next()
    assert "inbox_unavailable" in desk.holds().values()
    (site.root / "elsewhere").rename(lost)
    desk = Desk(site, looks)
    desk.review()
    assert set(desk.holds().values()) == {None}


def test_jobs_of_an_inbox_that_is_configured_no_more_are_released_too(site, looks: Looks) -> None:
    put(site, "a.png")
    site.inbox.rename(site.root / "elsewhere")
    Desk(site, looks).next()
    site.config = replace(site.config, inboxes=())
    (site.root / "elsewhere").rename(site.inbox)
    desk = Desk(site, looks)
    desk.review()
    assert desk.next() == "a.png"


@pytest.mark.parametrize("originals", ["keep", "archive"])
def test_only_jobs_whose_source_lies_there_wait(make_site, looks: Looks, originals: str) -> None:
    site = make_site(originals=originals)
    put(site, "a.png")
    looks.silent.append(site.inbox)
    assert Desk(site, looks).next() == ("a.png" if originals == "keep" else None)


def test_an_outbox_that_is_silent_keeps_no_job_from_running(
    site, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(site, "a.png")
    looks.silent.append(site.outbox)
    measured: list[Path] = []
    real = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: (measured.append(folder), real(folder))[1]
    )
    assert Desk(site, looks).next() == "a.png"
    assert site.config.data in measured
    assert site.outbox not in measured


@pytest.mark.parametrize("reason", ["timeout", "crash"])
def test_a_worker_that_ended_over_a_silent_inbox_costs_no_attempt(
    site, looks: Looks, reason: str
) -> None:
    put(site, "a.png")
    desk = Desk(site, looks)
    desk.review()
    assert desk.next() == "a.png"
    looks.silent.append(site.inbox)
    desk.report(WorkerEnded("local-1", (site.job().id,), reason, "while running"))
    job = site.job()
    assert (job.status, job.hold, job.crashes) == ("queued", "inbox_unavailable", 0)
    looks.silent.clear()
    desk.review()
    assert desk.next() == "a.png"


def test_names_of_roots_are_compared_as_bytes(make_site, tmp_path: Path, looks: Looks) -> None:
    """One that begins like another's is another; names need not be text, nor end early."""
    site = make_site()
    put(site, "a.png")
    root = root_of(site)
    for other in (Path(f"{root}0"), Path(f"{root}-"), root.parent, Path(f"{root}\udcff")):
        held = site.ledger.transact(
            lambda s, o=other: holds.hold_where(s, "claim", [o], "inbox_unavailable", "x")
        )
        assert held == (other == root.parent)
        site.ledger.transact(lambda s: holds.release(s, "inbox_unavailable", "claim", [root]))


# --- results ---


def test_a_result_waits_for_a_silent_outbox(site, looks: Looks) -> None:
    put(site, "a.png")
    site.finish(site.claim_next())
    publisher = Publisher(site.config, site.ledger, looks)
    looks.silent.append(site.outbox)
    with pytest.raises(OutboxUnavailable, match=WHY[:15]):
        publisher.publish(site.job())
    publisher.recover()
    looks.silent.clear()
    publisher.publish(site.job())
    assert len(site.folders()) == 1


def test_a_result_waits_for_its_source_and_is_released(site, looks: Looks) -> None:
    put(site, "a.png")
    site.finish(site.claim_next())
    publisher, desk = Publisher(site.config, site.ledger, looks), Desk(site, looks)
    desk.review()
    looks.silent.append(site.inbox)
    with pytest.raises(InboxUnavailable, match=WHY[:15]) as raised:
        publisher.publish(site.job())
    held = site.job().id
    site.ledger.transact(lambda s: queue.hold_publish(s, held, "inbox_unavailable", "x"))
    desk.dispatcher.scheduler.sources.note_hold(held)
    assert WHY in str(raised.value)
    desk.review()
    assert site.ledger.transact(queue.to_publish) == []
    looks.silent.clear()
    desk.review()
    (job,) = site.ledger.transact(queue.to_publish)
    publisher.publish(job)
    site.cleanup.dispose_unneeded()
    assert site.claims() == []


@pytest.mark.slow
def test_a_claim_in_a_silent_inbox_is_removed_later(make_site, looks: Looks) -> None:
    site = make_site(originals="delete")
    put(site, "a.png")
    site.finish(site.claim_next())
    looks.silent.append(site.inbox)
    Publisher(site.config, site.ledger, looks).publish(site.job())
    Cleanup(site.config, site.ledger, looks).dispose_unneeded()
    assert len(site.folders()) == 1
    assert len(site.claims()) == 1
    site.restart()
    assert site.claims() == []


def test_the_account_of_a_batch_waits_for_its_files(site, looks: Looks) -> None:
    site.put("a.png", "a")
    site.put("shots.csv", "image\na.png\n")
    site.settle()
    accounts = BatchReports(site.ledger, Publisher(site.config, site.ledger, looks), lambda: None)
    looks.silent.append(site.inbox)
    accounts.write()
    assert list(site.outbox.rglob("batch.csv")) == []
    looks.silent.clear()
    accounts.write()
    assert [path.name for path in site.outbox.rglob("shots.csv")] == ["shots.csv"]


# --- taking files in ---


class Clock:
    """A gate whose time is turned by hand, in steps of a second."""

    def __init__(self, gate: IntakeService, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate, self.now = gate, time.monotonic()
        monkeypatch.setattr("dna_pipeline.intake.service.time.monotonic", lambda: self.now)

    def run(self, seconds: int = 40) -> None:
        for _ in range(seconds):
            while self.gate.step():
                pass
            self.now += 1


def two_inboxes(site: Any) -> Config:
    text = (site.root / "pipeline.yaml").read_text()
    text = text.replace("inboxes:\n", "inboxes:\n- {path: near, pipeline: cut}\n")
    (site.root / "pipeline.yaml").write_text(text)
    (site.root / "near").mkdir()
    return load_config(site.root / "pipeline.yaml", {})


def test_a_silent_inbox_is_passed_over(site, looks: Looks, monkeypatch) -> None:
    gate = IntakeService(two_inboxes(site), site.ledger, site.cleanup, looks)
    for one in gate.inboxes:
        one.finder._prober = site.prober
    clock = Clock(gate, monkeypatch)
    site.put("far.png", "far")
    (site.root / "near/near.png").write_bytes(b"near")
    looks.silent.append(site.inbox)
    gate.recover()
    clock.run()
    assert [job.name for job in site.jobs()] == ["near.png"]
    assert {"inbox": "in", "file": None, "reason": WHY} in gate.waiting()
    assert gate.is_quiet, "a one-shot run does not wait for it"
    assert looks.seen.count(site.inbox) < 20, "it is asked again every few seconds"
    looks.silent.clear()
    clock.run()
    assert [job.name for job in site.jobs()] == ["near.png", "far.png"]
    assert gate.waiting() == []
    gate.close()


def test_claims_are_recovered_once_the_outbox_answers(site, looks: Looks) -> None:
    """It shows whether what an unknown claim holds is in a result already."""
    stray = claims.make_claim_dir(site.inbox, site.ledger.id, "f" * 32)
    (stray / "stray.png").write_bytes(b"stray")
    cleanup, inbox = Cleanup(site.config, site.ledger, looks), site.config.inboxes[0]
    gate = InboxIntake(site.config, inbox, site.ledger, site.prober, cleanup, looks)
    looks.silent.append(site.outbox)
    gate.recovery.run(1000.0)
    assert gate.settling.drops == set()
    looks.silent.clear()
    gate.recovery.run(1001.0)
    assert gate.settling.drops == {"f" * 32}


@pytest.fixture
def helper() -> Iterator[FolderProbe]:
    probe = FolderProbe(limit_s=0.5)
    yield probe
    probe.close()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["image: a.png", "images: [a.png, b.png]", None])
def test_batches_wait_for_a_silent_source_root(
    make_site, hang: Hang, helper: FolderProbe, text: str | None
) -> None:
    site = make_site(source_roots=["library"])
    library = site.root / "library"
    library.mkdir()
    for name in ("a.png", "b.png"):
        (library / name).write_bytes(b"picture")
    gone = hang(library)
    site.gate = InboxIntake(
        site.config, site.config.inboxes[0], site.ledger, site.prober, site.cleanup, helper.look
    )
    name = "shots.csv" if text is None else "shots.yaml"
    site.put(name, text or "image\na.png\n")
    site.put("single.png", "single")
    site.settle()
    assert [job.name for job in site.jobs()] == ["single.png"]
    assert name in site.waiting()
    assert text is not None or WHY in site.waiting()[name]
    gone.unmount()
    wait_until(lambda: helper.look(library).is_there)
    site.settle()
    assert len(site.rows(Batch)) == 1, "not only after the hour that a missing image is given"


@pytest.mark.slow
def test_a_decoder_that_a_dead_mount_blocks_condemns_no_file(
    tmp_path: Path, hang: Hang, helper: FolderProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "TIMEOUT_S", 3.0)
    monkeypatch.setattr(probe_module, "REAP_S", 0.2)
    hang(tmp_path, stubborn=True)
    prober = Prober(helper.look)
    answer = prober.probe(tmp_path / "a.png")
    assert isinstance(answer, NotReadable)
    assert WHY in answer.detail
    prober.close()


@pytest.mark.slow
def test_closing_waits_for_no_decoder_that_a_dead_mount_blocks(
    tmp_path: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "REAP_S", 0.2)
    hang(tmp_path, stubborn=True)
    prober = Prober()
    raised: list[Exception] = []

    def ask() -> None:
        try:
            prober.probe(tmp_path / "a.png")
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: prober._process and has_blocked_thread(prober._process.pid))
    prober.close()
    thread.join(30)
    assert [str(error) for error in raised] == ["the decoder was closed"]


# --- threads beside ---


@pytest.mark.slow
def test_a_poll_that_hangs_keeps_no_one_from_stopping(
    make_site, hang: Hang, helper: FolderProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dna_pipeline.intake.discovery.watcher.POLL_S", 0.05)
    monkeypatch.setattr("dna_pipeline.intake.discovery.watcher.STOP_S", 0.5)
    site = make_site(watch="poll")
    watcher = Watcher(site.config.inboxes, lambda _: None, lambda *_: None, helper.look)
    watcher.refresh()
    assert watcher.kind("in") == "poll"
    gone = hang(site.inbox)
    wait_until(lambda: has_blocked_thread(os.getpid()))
    watcher.refresh()
    watcher.stop()
    gone.unmount()


@pytest.mark.slow
def test_a_poll_that_hangs_keeps_no_other_inbox_from_being_watched(
    site, hang: Hang, helper: FolderProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount was taken away (`umount -l`) while the poll waits for it, and another is there."""
    monkeypatch.setattr("dna_pipeline.intake.discovery.watcher.POLL_S", 0.05)
    monkeypatch.setattr("dna_pipeline.intake.discovery.watcher.STOP_S", 0.5)
    inboxes = [replace(inbox, watch="poll") for inbox in two_inboxes(site).inboxes]
    hints: list[str] = []
    watcher = Watcher(inboxes, hints.append, lambda *_: None, helper.look)
    watcher.refresh()
    gone = hang(site.inbox)
    wait_until(lambda: has_blocked_thread(os.getpid()))
    gone.detach()
    site.inbox.rename(site.root / "before")
    site.inbox.mkdir()
    for inbox in inboxes:
        watcher.refresh()
        watcher.refresh()
        hints.clear()
        (inbox.path / "new.png").touch()
        wait_until(lambda inbox=inbox: inbox.name in hints)
    watcher.stop()
    gone.unmount()


def test_a_silent_inbox_silences_no_other(tmp_path: Path, looks: Looks) -> None:
    places = [tmp_path / "far", tmp_path / "near"]
    for place in places:
        place.mkdir()
    looks.silent.append(places[0])
    heart = owner.Heartbeat(places, "a" * 12, {}, looks)
    heart.start()
    assert [(claim_root(p, "a" * 12) / owner.NAME).exists() for p in places] == [False, True]
    heart.stop()
    assert list(places[1].iterdir()) == []


@pytest.mark.slow
def test_a_configuration_is_read_although_an_inbox_hangs(site, hang: Hang) -> None:
    hang(site.inbox)
    hang(site.outbox)
    config = configuration.load(site.root / "pipeline.yaml", {})
    assert config.inboxes[0].path == site.inbox
