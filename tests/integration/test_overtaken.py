"""Jobs that an older copy of the ledger has as open although they have ended since."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import Cancelled, EmptyMesh, InboxUnavailable
from dna_pipeline.ledger import holds, queue, requests
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Job
from dna_pipeline.operations.repair.overtaken import OvertakenJobs
from dna_pipeline.operations.retry import Retrier
from tests.integration.conftest import Site
from tests.integration.test_cleanup import Past, all_bytes, fail, submit

MakeSite = Callable[..., Site]
FACTS = (
    "id", "status", "publish", "publish_name", "manifest_sha256", "stage", "attempt", "tags",
    "meta", "cancelled_while", "hold", "hold_detail", "started_at", "finished_at",
)  # fmt: skip


def dropped(site: Site) -> None:
    site.put("cat.png", b"cat")
    site.settle()


def submitted(site: Site) -> None:
    submit(site, b"cat", "cat.png")


def facts(site: Site) -> list[dict[str, Any]]:
    """What the ledger has of all jobs, and of their stages and files."""
    return [
        {name: getattr(job, name) for name in FACTS}
        | {"error": job.error and {n: job.error[n] for n in ("code", "detail", "retryable")}}
        | {"stages": [(run.stage_id, run.params, run.seconds) for run in site.stages_of(job.id)]}
        | {"files": [f.sha256 for f in site.rows(ArtifactRow, ArtifactRow.job_id == job.id)]}
        for job in site.jobs()
    ]


def cancel(site: Site) -> None:
    job = site.jobs()[-1]
    site.ledger.transact(lambda s: requests.request_cancel(s, job.id))
    site.publish()


def cancel_running(site: Site) -> None:
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, Cancelled("it ran").failure()))
    site.publish()


def fail_then_complete(site: Site) -> None:
    fail(site)
    Retrier(site.config, site.ledger).retry(site.jobs()[-1].id, site.prober)
    site.run_next()


def retry_with_another_image(site: Site) -> None:
    fail(site)
    job = site.jobs()[-1]
    (site.outbox / str(job.publish_name) / "source/cat.png").write_bytes(b"another cat")
    Retrier(site.config, site.ledger).retry(job.id, site.prober)
    site.run_next()


def complete(site: Site) -> None:
    site.run_next()


ENDS = [complete, fail, cancel, cancel_running, fail_then_complete, retry_with_another_image]


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("begin", [dropped, submitted], ids=lambda f: f.__name__)
@pytest.mark.parametrize("originals", ["archive", "keep", "delete"])
def test_a_job_that_waited_then_has_its_end(
    make_site: MakeSite,
    originals: str,
    begin: Callable[[Site], None],
    end: Callable[[Site], None],
) -> None:
    site = make_site(originals=originals)
    begin(site)
    past = Past(site)
    end(site)
    known, folders, images = facts(site), site.folders(), all_bytes(site)
    past.put_back()
    assert facts(site) == known
    assert {drop.state for drop in site.rows(Drop)} == {"gone"}
    assert site.kinds(site.job().id)[-1] == site.job().status
    site.settle()
    site.publish()
    assert site.ledger.transact(queue.next_runnable) is None
    assert (site.folders(), all_bytes(site)) == (folders, images)
    if site.job().status != "completed":
        Retrier(site.config, site.ledger).retry(site.job().id, site.prober)
        site.run_next()
        assert site.job().status == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("then", ["running", "cancel asked", "ended", "failed", "held", "planned"])
@pytest.mark.parametrize("begin", [dropped, submitted], ids=lambda f: f.__name__)
def test_however_far_it_had_come(
    site: Site, begin: Callable[[Site], None], then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(site)
    job = site.job()
    if then == "held":
        code = InboxUnavailable.code
        site.ledger.transact(lambda s: holds.hold(s, job.id, code, "it is away"))
    else:
        site.claim_next()
    if then == "cancel asked":
        site.ledger.transact(lambda s: requests.request_cancel(s, job.id))
    elif then == "failed":
        site.ledger.transact(lambda s: queue.fail(s, job.id, EmptyMesh("none").failure()))
    elif then in ("ended", "planned"):
        site.finish(job)
    if then == "planned":
        site.ledger.transact(lambda s: queue.plan_publish(s, job.id, "in/elsewhere", "0" * 64))
    past = Past(site)
    if then == "failed":
        site.publish()
        Retrier(site.config, site.ledger).retry(job.id, site.prober)
        site.run_next()
    elif then in ("ended", "planned"):
        site.publish()
    else:
        code, drop = InboxUnavailable.code, job.drop_id
        site.ledger.transact(lambda s: holds.release(s, code, "drop_id", [drop]))
        if then == "held":
            site.claim_next()
        site.finish(job)
        site.publish()
    assert site.job().status == "completed"
    folders = site.folders()
    past.put_back()
    site.publish()
    job = site.job()
    assert (job.status, job.publish, job.hold) == ("completed", "done", None)
    assert [job.publish_name] == folders == site.folders()
    assert list(site.config.work.iterdir()) == []


@pytest.mark.slow
def test_the_rows_of_a_table(site: Site) -> None:
    """Completed, cancelled, failed and still waiting ones."""
    for name in "abcd":
        site.put(f"{name}.png", name)
    site.put("shots.csv", "image\na.png\nb.png\nc.png\nd.png\n")
    site.settle()
    site.accounts().write()
    past = Past(site)
    site.run_next()
    fail(site)
    row = site.jobs()[2]
    site.ledger.transact(lambda s: requests.request_cancel(s, row.id))
    site.publish()
    site.accounts().write()
    (path,) = site.outbox.rglob("batch.csv")
    known, told = facts(site), path.read_bytes()
    statuses = [job.status for job in site.jobs()]
    assert statuses == ["completed", "failed", "cancelled", "queued"]
    past.put_back()
    assert facts(site) == known
    site.accounts().write()
    before, after = (list(csv.DictReader(text.decode().splitlines()))
                     for text in (told, path.read_bytes()))  # fmt: skip
    assert [(r["job"], r["status"], r["result"]) for r in after] == [
        (r["job"], r["status"], r["result"]) for r in before
    ]
    retrier = Retrier(site.config, site.ledger)
    for job in site.jobs()[1:3]:
        retrier.retry(job.id, site.prober)
    while site.ledger.transact(queue.next_runnable) is not None:
        site.run_next()
    assert {job.status for job in site.jobs()} == {"completed"}


# --- no account ---


def lose_copy(site: Site) -> Job:
    """A submitted job of an older ledger whose result somebody took away."""
    submit(site, b"cat", "cat.png")
    past = Past(site)
    site.run_next()
    shutil.rmtree(site.outbox / "submit")
    past.put_back()
    return site.job()


@pytest.mark.slow
@pytest.mark.parametrize("has_folder", [True, False])
def test_without_an_account_a_lost_copy_fails_its_job(site: Site, *, has_folder: bool) -> None:
    submit(site, b"cat", "cat.png")
    shutil.rmtree(site.config.claims if not has_folder else site.claims()[0].parent)
    site.restart()
    site.publish()
    job = site.job()
    assert (job.status, job.publish, job.hold) == ("failed", "done", None)
    assert job.error is not None
    assert job.error["code"] == "source_missing"
    assert str(site.config.recovered) in job.error["detail"]
    assert site.folders() == [job.publish_name]


@pytest.mark.slow
def test_one_whose_result_was_taken_away_fails(site: Site) -> None:
    assert lose_copy(site).status == "failed"
    site.publish()
    assert site.job().publish == "done"


def test_a_cancelled_job_whose_copy_is_lost_is_published(site: Site) -> None:
    submit(site, b"cat", "cat.png")
    shutil.rmtree(site.claims()[0].parent)
    cancel(site)
    assert (site.job().status, site.job().publish) == ("cancelled", "done")


def test_an_ended_job_that_was_held_for_its_lost_copy_is_published(site: Site) -> None:
    submit(site, b"cat", "cat.png")
    job = site.claim_next()
    site.finish(job)
    site.ledger.transact(lambda s: queue.hold_publish(s, job.id, InboxUnavailable.code, "away"))
    shutil.rmtree(site.claims()[0].parent)
    site.restart()
    site.publish()
    assert (site.job().status, site.job().publish) == ("completed", "done")


def test_while_the_daemon_runs_only_held_jobs_are_settled(site: Site) -> None:
    submit(site, b"cat", "cat.png")
    job = site.claim_next()
    shutil.rmtree(site.claims()[0].parent)
    overtaken = OvertakenJobs(site.config, site.ledger)
    overtaken.settle(only_held=True)
    assert site.job().status == "running"
    site.ledger.transact(lambda s: holds.hold(s, job.id, InboxUnavailable.code, "away"))
    overtaken.settle(only_held=True)
    assert site.job().status == "failed"


# --- what may come back ---


def test_a_claim_of_an_inbox_is_waited_for(site: Site) -> None:
    dropped(site)
    shutil.rmtree(site.claims()[0].parent)
    site.restart()
    assert site.job().status == "queued"


@pytest.mark.slow
def test_copies_behind_a_link_that_leads_nowhere_are_waited_for(site: Site, tmp_path: Path) -> None:
    submit(site, b"cat", "cat.png")
    site.config.claims.rename(tmp_path / "other disk")
    site.config.claims.symlink_to(tmp_path / "unmounted")
    site.restart()
    assert site.job().status == "queued"
    site.config.claims.unlink()
    site.config.claims.symlink_to(tmp_path / "other disk")
    site.restart()
    assert site.run_next().id == site.job().id


@pytest.mark.slow
def test_nothing_is_concluded_while_the_outbox_is_away(site: Site) -> None:
    submit(site, b"cat", "cat.png")
    past = Past(site)
    site.run_next()
    site.outbox.rename(site.root / "unmounted")
    past.put_back()
    assert site.job().status == "queued"
    (site.root / "unmounted").rename(site.outbox)
    site.restart()
    assert site.job().status == "completed"


@pytest.mark.slow
def test_nothing_is_concluded_from_a_mount_point_without_its_disk(site: Site) -> None:
    submit(site, b"dog", "dog.png")
    site.run_next()
    submit(site, b"cat", "cat.png")
    past = Past(site)
    site.run_next()
    site.outbox.rename(site.root / "disk")
    site.outbox.mkdir()
    past.put_back()
    assert [job.status for job in site.jobs()] == ["completed", "queued"]
    site.outbox.rmdir()
    (site.root / "disk").rename(site.outbox)
    site.restart()
    assert [job.status for job in site.jobs()] == ["completed", "completed"]


@pytest.mark.slow
def test_a_result_of_another_job_is_not_taken_for_its_own(site: Site) -> None:
    """The folder's name has only the start of the id."""
    submit(site, b"cat", "cat.png")
    past = Past(site)
    site.run_next()
    (path,) = site.outbox.rglob("manifest.json")
    job = site.job().id
    path.write_text(path.read_text().replace(job, job[:8] + "0" * 24))
    past.put_back()
    assert site.job().status == "failed"
