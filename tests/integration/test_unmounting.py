"""An inbox whose disk goes and comes back: nothing is lost, nothing fails, nothing is done twice.

The disk is another file system's folder behind a link, and an empty folder where it is unmounted,
as a mount point is.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import InboxUnavailable, JobError, SourceMissing, StageFailed
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import JobFailed
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claimer import Claimer
from dna_pipeline.ledger import holds, queue
from tests.integration.test_dispatch import PlayedExecutor
from tests.ledgers import make_due


class Disk:
    """Mounted at the inbox's path, or not."""

    def __init__(self, site: Any, home: Path) -> None:
        self.site = site
        self.home = home
        self.bare = site.root / "bare"
        self.bare.mkdir()
        site.inbox.rmdir()
        site.inbox.symlink_to(home)

    def _swap(self, target: Path) -> None:
        self.site.inbox.unlink()
        self.site.inbox.symlink_to(target)

    def unmount(self) -> None:
        self._swap(self.bare)

    def mount(self) -> None:
        self._swap(self.home)


@pytest.fixture
def make_disk(make_site: Callable[..., Any], elsewhere: Path) -> Callable[..., Disk]:
    return lambda **keys: Disk(make_site(**keys), elsewhere)


def dispatcher(site: Any) -> tuple[Dispatcher, PlayedExecutor]:
    executor = PlayedExecutor()
    return Dispatcher(site.config, site.ledger, executor), executor


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "keep"])
@pytest.mark.parametrize("restart", [False, True])
def test_nothing_is_concluded_from_an_empty_mount_point(
    make_disk, originals: str, restart: bool
) -> None:
    disk = make_disk(originals=originals)
    site = disk.site
    for name in ("cat.png", "dog.png"):
        site.put(name, name)
    site.settle()
    disk.unmount()
    if restart:
        site.restart()
    site.settle()
    assert [job.status for job in site.jobs()] == ["queued", "queued"]
    disk.mount()
    if restart:
        site.restart()
    site.settle()
    for _ in range(2):
        site.run_next()
    site.settle()
    assert [job.status for job in site.jobs()] == ["completed", "completed"]
    assert len(site.folders()) == 2
    assert site.left() == ({"cat.png", "dog.png"} if originals == "keep" else set())


def cut_off(site: Any, name: str) -> None:
    """Have the fetch of this file fail once the others of its drop are in the claim."""
    real = claims.claim_file

    def claim_file(source: Path, *rest: Any) -> Any:
        if source.name == name:
            raise OSError(errno.EIO, "the disk was pulled", str(source))
        return real(source, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "claim_file", claim_file)
        patch.setattr(Claimer, "roll_back", lambda *_: None)  # the disk is away by then
        site.settle()


@pytest.mark.parametrize("restart", [False, True])
def test_a_drop_that_was_cut_off_is_not_forgotten_while_its_disk_is_away(
    make_disk, restart: bool
) -> None:
    disk = make_disk(recursive=True)
    site = disk.site
    site.put("shots/cat.png", "cat")
    site.put("shots/cat.yaml", "priority: 5")
    cut_off(site, "cat.png")
    assert [path.name for path in site.claims()] == ["cat.yaml"]
    disk.unmount()
    if restart:
        site.restart()
    site.settle()
    disk.mount()
    site.settle()
    assert [(job.name, job.folder, job.priority) for job in site.jobs()] == [
        ("cat.png", "shots", 5)
    ]
    assert site.left() == set()


@pytest.mark.parametrize("gone", ["unmounted", "missing"])
def test_jobs_whose_originals_are_away_wait(make_disk, gone: str) -> None:
    disk = make_disk()
    site = disk.site
    for name in ("cat.png", "dog.png"):
        site.put(name, name)
    site.settle()
    if gone == "unmounted":
        disk.unmount()
    else:
        site.inbox.unlink()
    desk, executor = dispatcher(site)
    desk.dispatch()
    assert executor.orders == []
    assert {job.hold for job in site.jobs()} == {"inbox_unavailable"}
    assert str(site.inbox) in site.jobs()[0].hold_detail
    desk.scheduler.review(keep_trying=True)
    assert {job.hold for job in site.jobs()} == {"inbox_unavailable"}
    if gone == "missing":
        site.inbox.symlink_to(disk.home)
    else:
        disk.mount()
    make_due(desk.scheduler)
    desk.scheduler.review(keep_trying=True)
    desk.dispatch()
    assert [order.job for order in executor.orders] == [site.jobs()[0].id]


@pytest.mark.slow
@pytest.mark.parametrize("error", [SourceMissing, StageFailed])
def test_a_job_that_loses_its_original_on_the_way_waits_too(
    make_disk, error: type[JobError]
) -> None:
    disk = make_disk()
    site = disk.site
    site.put("cat.png", b"cat")
    site.settle()
    desk, executor = dispatcher(site)
    desk.dispatch()
    disk.unmount()
    failure = error("No such file or directory: cat.png").failure().to_dict()
    executor.reports.put(JobFailed(site.job().id, failure, None))
    desk.listen()
    job = site.job()
    assert (job.status, job.hold, job.attempt) == ("queued", "inbox_unavailable", 0)


def test_what_is_missing_from_an_inbox_that_is_there_fails(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    (path,) = site.claims()
    path.unlink()
    desk, executor = dispatcher(site)
    desk.dispatch()
    missing = SourceMissing("cat.png is gone").failure().to_dict()
    executor.reports.put(JobFailed(site.job().id, missing, None))
    desk.listen()
    assert site.job().status == "failed"


@pytest.mark.parametrize(("originals", "ends"), [("archive", "well"), ("delete", "badly")])
def test_what_needs_its_original_is_not_published_without(
    make_disk, originals: str, ends: str
) -> None:
    disk = make_disk(originals=originals)
    site = disk.site
    site.put("cat.png", b"cat" if ends == "well" else b"small")
    site.settle()
    if ends == "well":
        site.finish(site.claim_next())
    disk.unmount()
    with pytest.raises(Exception, match="is not there now") as raised:
        site.publish()
    assert raised.value.code == "inbox_unavailable"
    assert site.folders() == []
    code = InboxUnavailable.code
    site.ledger.transact(lambda s: queue.hold_publish(s, site.job().id, code, "away"))
    disk.mount()
    site.ledger.transact(
        lambda s: holds.release(s, code, "claim", [site.inbox / ".dna" / site.ledger.id])
    )
    site.publish()
    (folder,) = site.folders()
    assert (site.outbox / folder / "source/cat.png").is_file()
    assert site.claims() == []


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{"existing": "ignore"}, {"originals": "keep"}])
def test_files_are_known_on_a_disk_that_came_back_with_another_number(
    make_disk, tmp_path, keys: dict[str, str]
) -> None:
    """And on some file systems with other numbers for its files."""
    disk = make_disk(**keys)
    site = disk.site
    site.put("old.png", b"old")
    site.settle()
    before = len(site.jobs())
    moved = tmp_path / "mounted elsewhere"
    shutil.copytree(disk.home, moved)
    disk.home = moved
    disk.mount()
    for _ in range(2):
        site.restart()
        site.settle()
    assert len(site.jobs()) == before
    assert len(site.claims()) == before
    if site.jobs():
        site.claim_next()
    site.put("old.png", b"new")
    site.settle()
    assert [job.name for job in site.jobs()][before:] == ["old.png"]
