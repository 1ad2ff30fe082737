"""Sidecars that come after their image was taken in."""

import errno
from io import BytesIO

import pytest
from sqlalchemy import delete

from dna_pipeline.intake.claiming import claims, late_sidecars
from dna_pipeline.intake.claiming.late_sidecars import LateSidecars
from dna_pipeline.ledger import queue, requests
from dna_pipeline.ledger.tables import Drop, Event, Job
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.operations.submit import Submission, Submitter, document_from_options


def test_it_changes_the_job_that_is_still_queued(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    before = site.job()
    site.put("cat.png.yaml", "priority: 9\nremove_background: {force: true}")
    site.settle()
    job = site.job()
    assert (job.id, job.priority, job.stages[0]["params"]["force"]) == (before.id, 9, True)
    assert site.drop(job).sidecar == "cat.png.yaml"
    assert [path.name for path in site.claims()] == ["cat.png", "cat.png.yaml"]
    assert site.left() == set()
    folder = site.run_next()
    assert (site.outbox / f"in/cat-{folder.id[:8]}/source/cat.png.yaml").is_file()


def test_it_fails_and_names_the_job_that_has_begun(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    running = site.claim_next()
    site.put("cat.yaml", "priority: 9")
    site.settle()
    first, late = site.jobs()
    assert (first.id, first.status, first.priority) == (running.id, "running", 0)
    assert (late.status, late.error["code"]) == ("failed", "image_missing")
    assert running.id[:8] in late.error["detail"]
    site.publish()
    assert (site.outbox / site.folders()[0] / "source/cat.yaml").read_text() == "priority: 9"


def begin_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the queued job start just before a late sidecar would change it."""
    real = requests.replace_queued

    def too_late(session, job_id, changes):
        queue.claim_next(session)
        return real(session, job_id, changes)

    monkeypatch.setattr(requests, "replace_queued", too_late)


def test_a_job_that_begins_meanwhile_does_not_swallow_it(site, monkeypatch) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    begin_before_the_commit(monkeypatch)
    site.put("cat.yaml", "priority: 9")
    site.settle()
    first, late = site.jobs()
    assert (first.status, late.status) == ("running", "failed")
    claims = [path for path in site.claims() if late.drop_id in path.parts]
    assert [path.read_text() for path in claims] == ["priority: 9"]
    assert site.left() == set()


def test_a_wrong_one_fails_the_queued_job_and_tells_so(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    site.put("cat.yaml", "remove_background: {fierce: 1}")
    site.settle()
    assert site.job().error["code"] == "sidecar_invalid"
    assert site.kinds(site.job().id) == ["queued", "queued", "failed"]


def test_a_job_file_for_another_image_is_not_taken_for_it(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    site.put("cat.yaml", "image: dog.png\npriority: 9")
    site.settle()
    assert site.job().priority == 0
    site.put("dog.png", b"dog")
    site.settle()
    assert [(job.name, job.priority) for job in site.jobs()] == [("cat.png", 0), ("dog.png", 9)]


def test_a_job_file_that_names_it_is(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    site.put("order.yaml", "image: cat.png\npriority: 9")
    site.settle()
    assert (site.job().priority, site.drop(site.job()).sidecar) == (9, "order.yaml")


def test_one_that_is_corrected_while_the_job_is_queued_counts(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    for priority in (5, 6):
        site.put("cat.yaml", f"priority: {priority}")
        site.settle()
    assert site.job().priority == 6
    assert [p.read_text() for p in site.claims() if p.suffix == ".yaml"] == ["priority: 6"]


def test_a_corrected_one_counts_too_where_each_image_needs_one(make_site) -> None:
    site = make_site(sidecar="required")
    site.put("cat.png")
    site.put("cat.yaml", "priority: 1")
    site.settle()
    site.put("cat.yaml", "priority: 7")
    site.settle()
    assert (site.job().priority, site.left()) == (7, set())


def test_one_that_comes_before_its_new_image_waits_for_it_where_each_needs_one(make_site) -> None:
    site = make_site(sidecar="required", sidecar_wait_seconds=120)
    site.put("cat.png", b"cat")
    site.tick(130)
    assert [job.status for job in site.jobs()] == ["failed"], "it came alone"
    site.put("cat.yaml", "priority: 7")
    site.settle()
    site.put("cat.png", b"cat again")
    site.settle()
    assert [(job.status, job.priority) for job in site.jobs()] == [("failed", 0), ("queued", 7)]


def test_a_new_one_for_a_job_that_has_begun_waits_for_its_image_and_names_the_job(site) -> None:
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "priority: 5")
    site.settle()
    running = site.claim_next()
    site.put("cat.yaml", "priority: 66")
    site.settle()
    reason = site.waiting()["cat.yaml"]
    assert reason.startswith("waits for an image called cat; cat.png was taken in at ")
    assert f"as job {running.id[:8]}, before this file came" in reason
    site.put("cat.png", b"cat")
    site.settle()
    assert [(job.status, job.priority) for job in site.jobs()] == [("running", 5), ("queued", 66)]
    assert site.left() == set()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["priority: 66", "image: cat.png\npriority: 66"])
def test_after_an_hour_its_error_names_that_job_too(site, text: str) -> None:
    site.put("cat.png", b"cat")
    site.put("cat.yaml", text)
    site.settle()
    running = site.claim_next()
    site.put("cat.yaml", f"{text}6")
    site.tick(3700)
    first, late = site.jobs()
    assert (first.status, late.error["code"]) == ("running", "image_missing")
    assert late.error["detail"].startswith("waited an hour for ")
    assert (
        f"cat.png was taken in at {running.created_at.astimezone():%H:%M}" in (late.error["detail"])
    )
    assert f"as job {running.id[:8]}, before this file came" in late.error["detail"]


def test_while_it_may_still_change_the_queued_job_no_one_is_told_to_drop_the_image_again(
    make_site,
) -> None:
    site = make_site(sidecar_wait_seconds=60)
    site.put("cat.png", b"cat")
    site.tick(100)
    site.put("cat.yaml", "priority: 9")
    site.tick(30)
    assert site.waiting()["cat.yaml"] == "waits for an image called cat"
    site.tick(100)
    assert (site.job().priority, site.left()) == (9, set())


def test_one_of_an_image_with_a_longer_name_names_no_job(site) -> None:
    site.put("cat.b.png", b"cat")
    site.settle()
    site.put("cat.yaml", "priority: 9")
    site.settle()
    assert site.waiting()["cat.yaml"] == "waits for an image called cat"


def yamls(site) -> list[str]:
    return [path.read_text() for path in site.claims() if path.suffix != ".png"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "no space left"), claims.Changed("cat.yaml")], ids=repr
)
def test_the_earlier_one_stays_if_a_newer_cannot_be_copied(site, monkeypatch, error) -> None:
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "priority: 5")
    site.settle()

    def fail(*_):
        raise error

    site.put("cat.yaml", "priority: 66")
    with monkeypatch.context() as patched:
        patched.setattr(claims, "_check_still", fail)
        site.settle()
        assert (yamls(site), site.left()) == (["priority: 5"], {"cat.yaml"})
        assert site.job().priority == 5
    site.settle()
    assert (yamls(site), site.left()) == (["priority: 66"], set())
    assert site.job().priority == 66


def test_the_earlier_one_stays_with_a_job_that_begins_meanwhile(site, monkeypatch) -> None:
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "priority: 5")
    site.settle()
    begin_before_the_commit(monkeypatch)
    site.put("cat.yaml", "priority: 66")
    site.settle()
    first, late = site.jobs()
    assert (first.status, first.priority, late.status) == ("running", 5, "failed")
    files = {path.parent.name: path.read_text() for path in site.claims() if path.suffix != ".png"}
    assert files == {first.drop_id: "priority: 5", late.drop_id: "priority: 66"}


def test_when_its_copy_cannot_take_its_place_the_sidecar_does(site, monkeypatch) -> None:
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "priority: 5")
    site.settle()

    def fail(*_):
        raise OSError(errno.EIO, "input/output error")

    site.put("cat.yaml", "priority: 66")
    with monkeypatch.context() as patched:
        patched.setattr(late_sidecars, "replace_file", fail)
        site.settle()
        assert site.left() == {"cat.yaml"}
    site.settle()
    assert (site.left(), site.job().priority) == (set(), 66)
    site.run_next()
    assert (site.outbox / site.folders()[0] / "source/cat.yaml").read_text() == "priority: 66"


def test_one_of_another_folder_or_name_waits_for_its_own_image(make_site) -> None:
    site = make_site(recursive=True)
    site.put("cat.png", b"cat")
    site.settle()
    site.put("sub/cat.yaml", "priority: 9")
    site.put("cat2.yaml", "priority: 9")
    site.settle()
    assert site.job().priority == 0
    assert site.left() == {"sub/cat.yaml", "cat2.yaml"}


@pytest.mark.parametrize("settings", [[], ["priority=3"]], ids=["plain", "with settings"])
def test_it_waits_beside_a_job_of_its_image_s_name_that_was_sent(site, settings) -> None:
    document = document_from_options(None, settings)
    inbox = site.config.inboxes[0]
    sender = Submitter(site.config, site.ledger, document, inbox=inbox, follows_paths=False)
    sent = sender.submit(Submission("cat.png", BytesIO(b"a client's cat")), site.prober)
    before = site.job()
    site.put("cat.png.yaml", "priority: 9")
    site.settle()
    assert (site.job().priority, site.left()) == (before.priority, {"cat.png.yaml"})
    site.put("cat.png", b"cat")
    site.settle()
    assert [job.priority for job in site.jobs() if job.id != sent] == [9]
    assert site.left() == set()


def test_it_waits_beside_a_retried_job(site) -> None:
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "priority: nine")
    site.settle()
    site.publish()
    Retrier(site.config, site.ledger).retry(site.job().id, site.prober, b"priority: 5")
    site.put("cat.yaml", "priority: 9")
    site.settle()
    assert (site.job().status, site.job().priority) == ("queued", 5)
    assert site.left() == {"cat.yaml"}


def test_it_changes_the_job_of_a_claim_that_the_ledger_did_not_know(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    for table in (Event, Job, Drop):
        site.ledger.transact(lambda s, t=table: s.execute(delete(t)))
    site.restart()
    site.settle()
    site.put("cat.yaml", "priority: 9")
    site.settle()
    assert (site.job().priority, site.left()) == (9, set())


def test_a_kept_inbox_is_not_touched(make_site) -> None:
    site = make_site(originals="keep")
    site.put("cat.png", b"cat")
    site.settle()
    (site.inbox / "cat.png").unlink()
    site.put("cat.yaml", "priority: 9")
    site.settle()
    assert site.left() == {"cat.yaml"}
    assert site.job().priority == 0


def test_when_cut_off_after_the_commit_only_the_removal_is_left(site, monkeypatch) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    site.put("cat.yaml", "priority: 9")
    with monkeypatch.context() as patched:
        patched.setattr(LateSidecars, "_move_in", lambda *_: None)
        site.settle()
    assert site.left() == {"cat.yaml"}
    assert site.job().priority == 9
    site.run_next()
    site.restart()
    site.settle()
    assert site.left() == set()
    assert len(site.jobs()) == 1


def test_when_it_changes_while_it_is_attached_the_last_state_counts(site, monkeypatch) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    path = site.put("cat.yaml", "priority: 5")
    real = LateSidecars._move_in

    def bring(self, *args):
        monkeypatch.undo()
        path.write_text("priority: 66")
        return real(self, *args)

    monkeypatch.setattr(LateSidecars, "_move_in", bring)
    site.settle()
    site.settle()
    assert site.job().priority == 66
    assert site.left() == set()
