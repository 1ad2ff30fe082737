"""From a job's outcome to its folder in the outbox."""

import errno
import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from dna_pipeline.base import files
from dna_pipeline.base.errors import DiskFull, EmptyMesh, InboxUnavailable, OutboxUnavailable
from dna_pipeline.execution.scheduler import Scheduler
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.tables import Drop
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.publish import outbox
from dna_pipeline.publish.manifest import json_schema
from tests.integration.conftest import StubProber


@pytest.fixture
def computed(site):
    """A site with one job that has run to its end."""
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "tags: [hero]\nmeta: {asset: chair_01}")
    site.settle()
    site.finish(site.claim_next())
    return site


def the_job(site):
    (job,) = site.ledger.transact(queue.to_publish)
    return job


def fail(site, detail: str = "nothing there") -> None:
    job = site.claim_next()
    failure = EmptyMesh(detail, hint="try a cat").failure()
    site.ledger.transact(lambda s: queue.fail(s, job.id, failure, "remove_background"))


@pytest.mark.slow
def test_a_result_folder_and_its_manifest(computed) -> None:
    computed.publish()
    (name,) = computed.folders()
    folder = computed.outbox / name
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "manifest.json", "cat.matte.png", "source/cat.png", "source/cat.yaml",
    }  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_bytes())
    jsonschema.validate(manifest, json.loads(json_schema()))
    assert manifest["job"]["tags"] == ["hero"]
    assert manifest["job"]["meta"] == {"asset": "chair_01"}
    image = {"name": "cat.png", "sha256": computed.drop(computed.job()).sha256, "bytes": 3}
    files_of_drop = manifest["input"].pop("files")
    assert manifest["input"] == {**image, "width": 64, "height": 48}
    assert files_of_drop[0] == {"role": "image", **image}
    assert [file["role"] for file in files_of_drop] == ["image", "sidecar"]
    assert manifest["sidecar"].startswith("tags:")
    assert manifest["artifacts"][0]["sha256"] == files.sha256_file(folder / "cat.matte.png")
    assert manifest["environment"]["dna_pipeline"]
    assert computed.drop(computed.job()).state == "gone"
    assert not (computed.inbox / ".dna").exists()


def test_a_file_for_the_next_stage_alone_is_not_published(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    site.finish(
        site.claim_next(), roles={"cat.lossless.png": files.INTERMEDIATE, "cat.jpg": "image"}
    )
    site.publish()
    (name,) = site.folders()
    assert {path.name for path in (site.outbox / name).iterdir()} == {
        "manifest.json", "cat.jpg", "source",
    }  # fmt: skip
    manifest = json.loads((site.outbox / name / "manifest.json").read_bytes())
    assert [file["path"] for file in manifest["artifacts"]] == ["cat.jpg"]
    jsonschema.validate(manifest, json.loads(json_schema()))


def test_a_failure_folder_tells_people_and_programs(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    fail(site, "caf\udce9 has no surface")
    site.publish()
    (name,) = site.folders()
    assert name.startswith("in/failed/cat-")
    report = json.loads((site.outbox / name / "error.json").read_bytes())
    assert report.keys() == {
        "code", "message", "detail", "hint", "retryable", "job", "input", "stage", "attempts",
        "stages", "artifacts", "environment",
    }  # fmt: skip
    assert (report["code"], report["stage"], report["attempts"]) == (
        "empty_mesh", "remove_background", 1,
    )  # fmt: skip
    text = (site.outbox / name / "ERROR.txt").read_text()
    for part in ("cat.png could not be processed", "no surface", "try a cat", "dna-pipeline retry"):
        assert part in text


@pytest.mark.parametrize("originals", ["delete", "keep"])
def test_a_failure_has_the_source_whatever_becomes_of_originals(make_site, originals) -> None:
    site = make_site(originals=originals)
    site.put("cat.png", b"cat")
    site.settle()
    fail(site)
    site.publish()
    assert (site.outbox / site.folders()[0] / "source/cat.png").read_bytes() == b"cat"
    assert site.claims() == []
    assert site.left() == ({"cat.png"} if originals == "keep" else set())


def test_a_name_that_is_taken_gets_a_number(computed) -> None:
    job = the_job(computed)
    taken = computed.outbox / f"in/cat-{job.id[:8]}"
    taken.mkdir(parents=True)
    computed.publish()
    assert computed.folders() == [f"in/cat-{job.id[:8]}-2"]
    assert list(taken.iterdir()) == []


def test_a_name_that_is_taken_at_the_last_moment(computed, monkeypatch) -> None:
    job = the_job(computed)
    taken = computed.outbox / f"in/cat-{job.id[:8]}"
    real = outbox.Outbox.publish

    def late(self, *args):
        monkeypatch.undo()
        taken.mkdir(parents=True)
        (taken / "mine.txt").write_text("a stranger's")
        return real(self, *args)

    monkeypatch.setattr(outbox.Outbox, "publish", late)
    computed.publish()
    assert computed.folders() == [f"in/cat-{job.id[:8]}-2"]
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]


def test_an_outbox_that_is_gone_holds_and_nothing_is_lost(computed) -> None:
    computed.outbox.rename(computed.root / "away")
    with pytest.raises(OutboxUnavailable, match="is not there"):
        computed.publisher.publish(the_job(computed))
    assert not computed.outbox.exists()
    (computed.root / "away").rename(computed.outbox)
    computed.publish()
    assert computed.job().status == "completed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "hold"),
    [(errno.ENOSPC, DiskFull), (errno.EROFS, OutboxUnavailable), (errno.EIO, OutboxUnavailable)],
)
@pytest.mark.parametrize("step", ["copy_file", "write_bytes", "rename_new", "fsync_tree"])
def test_a_disk_in_trouble_holds_and_is_tried_again(computed, monkeypatch, step, code, hold):
    def trouble(*args):
        raise OSError(code, "trouble", str(computed.outbox))

    with monkeypatch.context() as patched:
        patched.setattr(outbox, step, trouble)
        with pytest.raises(hold):
            computed.publisher.publish(the_job(computed))
        assert computed.folders() == []
    computed.publish()
    assert len(computed.folders()) == 1
    assert computed.job().status == "completed"


@pytest.mark.slow
def test_a_file_in_the_place_of_a_folder_holds(computed) -> None:
    (computed.outbox / "in").write_text("in the way")
    for _ in range(2):
        with pytest.raises(OutboxUnavailable, match="Not a directory"):
            computed.publisher.publish(the_job(computed))
    (computed.outbox / "in").unlink()
    computed.publish()
    assert computed.job().status == "completed"


def test_held_jobs_do_not_stand_in_the_way_of_others(computed) -> None:
    first = the_job(computed)
    computed.ledger.transact(lambda s: queue.hold_publish(s, first.id, "outbox_unavailable", "x"))
    computed.put("dog.png")
    computed.settle()
    second = computed.claim_next()
    computed.finish(second)
    assert [job.id for job in computed.ledger.transact(queue.to_publish)] == [second.id, first.id]


def test_files_lost_before_they_were_published_are_made_again(computed) -> None:
    shutil.rmtree(computed.config.work)
    computed.publish()
    assert computed.folders() == []
    assert (computed.job().status, computed.job().publish) == ("queued", None)
    computed.run_next(b"again")
    (name,) = computed.folders()
    assert (computed.outbox / name / "cat.matte.png").read_bytes() == b"again"


def test_a_staging_that_was_lost_is_made_again(computed, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(outbox.Outbox, "publish", lambda *_: (_ for _ in ()).throw(OSError(5)))
        with pytest.raises(OutboxUnavailable):
            computed.publisher.publish(the_job(computed))
    shutil.rmtree(computed.outbox / ".dna")
    computed.publish()
    assert len(computed.folders()) == 1


def test_what_makes_no_manifest_fails_alone(computed) -> None:
    job = computed.job()
    run = computed.stages_of(job.id)[0]
    computed.ledger.transact(lambda s: setattr(s.get(type(run), run.id), "warnings", [1]))
    computed.publish()
    assert computed.job().error["code"] == "stage_failed"
    assert computed.folders() == [f"in/failed/cat-{job.id[:8]}"]


def test_a_claim_that_cannot_be_removed_is_removed_at_the_next_start(computed, monkeypatch):
    from dna_pipeline.intake.claiming import claims

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(claims, "dispose", refuse)
        computed.publish()
    job = computed.job()
    assert (job.status, job.publish, job.hold) == ("completed", "done", None)
    assert computed.drop(job).state == "disposing"
    computed.restart()
    assert computed.drop(job).state == "gone"
    assert computed.claims() == []


# --- retry ---


def failed(site, yaml: str = "priority: 1"):
    site.put("cat.png", b"cat")
    site.put("cat.yaml", yaml)
    site.settle()
    if site.job().status == "queued":
        fail(site)
    site.publish()
    return site.outbox / site.folders()[0]


def retry(site) -> None:
    Retrier(site.config, site.ledger).retry(site.job().id, site.prober)


@pytest.mark.slow
def test_a_retry_reads_the_sidecar_anew_and_removes_the_failure(site) -> None:
    folder = failed(site, "remove_background: {force: 7}")
    assert site.job().error["code"] == "parameter_invalid"
    (folder / "source/cat.yaml").write_text("remove_background: {force: true}")
    before = site.job()
    retry(site)
    job = site.job()
    assert (job.id, job.status, job.error, job.publish) == (before.id, "queued", None, None)
    assert job.stages[0]["params"]["force"] is True
    assert not folder.exists()
    site.run_next()
    assert site.folders() == [f"in/cat-{job.id[:8]}"]
    assert site.kinds(job.id) == ["queued", "failed", "queued", "started", "completed"]


@pytest.mark.slow
def test_a_retry_that_is_still_wrong_changes_nothing(site) -> None:
    from dna_pipeline.base.errors import ConfigError

    folder = failed(site, "remove_background: {force: 7}")
    with pytest.raises(ConfigError, match="parameter_invalid"):
        retry(site)
    assert site.job().status == "failed"
    assert (folder / "source/cat.png").exists()
    assert site.claims() == []


def test_a_retry_that_fails_again_before_its_old_folder_is_gone(site, monkeypatch) -> None:
    """The daemon may be faster than the command: its new folder must stay."""
    failed(site)
    real = Retrier._commit

    def commit(*args):
        done = real(*args)
        fail(site, "the second time")
        site.publish()
        return done

    monkeypatch.setattr(Retrier, "_commit", commit)
    retry(site)
    (name,) = site.folders()
    assert "the second time" in (site.outbox / name / "ERROR.txt").read_text()
    assert (site.outbox / name / "source/cat.png").read_bytes() == b"cat"


def test_two_retries_at_once(site) -> None:
    from dna_pipeline.base.errors import ConfigError

    failed(site)
    retrier = Retrier(site.config, site.ledger)
    job = site.job()
    prober = site.prober

    class SlowProber(StubProber):
        """Lets another retry be faster."""

        def probe(self, path: Path):
            retry(site)
            return prober.probe(path)

    with pytest.raises(ConfigError, match="someone else"):
        retrier.retry(job.id, SlowProber())
    assert site.job().status == "queued"
    assert len(site.claims()) == 2, "one image and one sidecar"


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_a_daemon_that_starts_during_a_retry_takes_nothing_from_it(make_site, originals) -> None:
    """Nor does it take the copy, half made, for a drop of the inbox."""
    site = make_site(originals=originals)
    failed(site)
    retrier = Retrier(site.config, site.ledger)
    real = retrier._read_again

    def read_again(*args):
        gate = IntakeService(site.config, site.ledger, site.cleanup)
        gate.recover()
        gate.close()
        site.clean_up()
        return real(*args)

    retrier._read_again = read_again
    retrier.retry(site.job().id, site.prober)
    site.run_next()
    assert site.folders() == [f"in/cat-{site.job().id[:8]}"]
    assert site.left() == ({"cat.png", "cat.yaml"} if originals == "keep" else set())


@pytest.mark.slow
def test_a_retry_that_cannot_copy_leaves_nothing(site, monkeypatch) -> None:
    folder = failed(site)

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("dna_pipeline.intake.claiming.claims.sync_claims", full)
    with pytest.raises(OSError, match="no space left"):
        retry(site)
    assert (site.claims(), site.rows(Drop, Drop.state == "claiming")) == ([], [])
    assert (folder / "source/cat.png").exists()


@pytest.mark.slow
def test_a_strangers_folder_under_the_old_name_is_not_removed(site) -> None:
    folder = failed(site)
    retry(site)
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("a stranger's")
    fail(site)
    site.publish()
    assert (folder / "mine.txt").exists()
    assert site.folders() == [f"in/failed/{folder.name}-2"]


def test_submitted_jobs_keep_what_the_command_told(site, tmp_path) -> None:
    from dna_pipeline.operations.submit import Submission, Submitter, document_from_options

    image = tmp_path / "dog.png"
    image.write_bytes(b"dog")
    told = document_from_options("other", ["remove_background.force=false", "priority=3"])
    job_id = Submitter(site.config, site.ledger, told).submit(
        Submission("dog.png", image), site.prober
    )
    fail(site)
    site.publish()
    retry(site)
    job = site.job()
    assert (job.id, job.pipeline, job.priority) == (job_id, "other", 3)
    assert job.stages[0]["params"]["force"] is False


@pytest.mark.parametrize("outcome", ["result", "failure"])
def test_no_folder_without_its_source_while_the_inbox_is_away(site, outcome: str) -> None:
    """Published without, the bytes would be removed with their claim when the inbox is back."""
    site.put("cat.png", b"cat")
    site.settle()
    fail(site) if outcome == "failure" else site.finish(site.claim_next())
    site.inbox.rename(site.root / "elsewhere")
    site.inbox.mkdir()
    job = the_job(site)
    with pytest.raises(InboxUnavailable, match="mount the inbox again"):
        site.publisher.publish(job)
    site.ledger.transact(lambda s: queue.hold_publish(s, job.id, InboxUnavailable.code, "away"))
    assert site.folders() == []
    assert site.ledger.transact(queue.to_publish) == [], "others are not kept from their turn"

    holds = Scheduler(site.config, site.ledger)
    holds.review(keep_trying=True)
    assert site.job().hold == "inbox_unavailable"
    site.inbox.rmdir()
    (site.root / "elsewhere").rename(site.inbox)
    Scheduler(site.config, site.ledger).review(keep_trying=True)
    site.publish()
    assert (site.outbox / site.folders()[0] / "source/cat.png").read_bytes() == b"cat"
    assert site.job().hold is None


def test_a_job_that_must_run_again_is_not_held_by_why_it_was_not_published(computed) -> None:
    job = the_job(computed)
    computed.ledger.transact(
        lambda s: queue.hold_publish(s, job.id, OutboxUnavailable.code, "gone")
    )
    shutil.rmtree(computed.config.work / job.id)
    computed.publish()
    assert (computed.job().status, computed.job().hold) == ("queued", None)
