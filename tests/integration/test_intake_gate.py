"""From files in an inbox to jobs in the ledger."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from dna_pipeline.intake import inbox_intake
from dna_pipeline.intake import service as gates
from dna_pipeline.intake.claiming import claims as claim
from dna_pipeline.intake.planning import finder
from dna_pipeline.intake.planning.planner import Planner
from tests.hashes import sha256


def test_a_settled_image_becomes_one_job(site) -> None:
    site.put("cat.png", b"cat")
    site.tick(1)
    assert site.jobs() == []
    assert site.waiting() == {"cat.png": "still being written"}
    site.settle()
    job = site.job()
    drop = site.drop(job)
    assert (job.status, job.name, job.stem, job.pipeline) == ("queued", "cat.png", "cat", "cut")
    assert (drop.state, drop.sha256, drop.bytes, drop.width) == ("claimed", sha256(b"cat"), 3, 64)
    assert site.left() == set()
    assert [path.read_bytes() for path in site.claims()] == [b"cat"]
    assert site.kinds(job.id) == ["queued"]


@pytest.mark.parametrize("order", [("cat.png", "cat.yaml"), ("cat.yaml", "cat.png")])
def test_image_and_sidecar_in_any_order(site, order) -> None:
    files = {"cat.png": b"cat", "cat.yaml": b"remove_background: {force: true}\npriority: 3\n"}
    for name in order:
        site.put(name, files[name])
        site.tick(3)
    site.settle()
    job = site.job()
    assert job.priority == 3
    assert job.stages[0]["params"]["force"] is True
    assert site.drop(job).sidecar_text == files["cat.yaml"].decode()
    assert [path.name for path in site.claims()] == ["cat.png", "cat.yaml"]


@pytest.mark.parametrize(
    ("yaml", "code"),
    [
        ("remove_background: {force: 3}", "parameter_invalid"),
        ("remove_background: {fierce: true}", "sidecar_invalid"),
        ("pipeline: cat", "unknown_pipeline"),
        ("a: [", "sidecar_invalid"),
        ("image: ../cat.png", "path_escapes_inbox"),
    ],
)
def test_a_wrong_sidecar_fails_the_job_with_its_code(site, yaml: str, code: str) -> None:
    site.put("cat.png")
    site.put("cat.png.yaml", yaml)
    site.settle()
    jobs = [job for job in site.jobs() if job.status == "failed"]
    assert [job.error["code"] for job in jobs] == [code]
    assert site.kinds(jobs[0].id) == ["queued", "failed"]
    assert jobs[0].publish == "pending"


def test_one_yaml_for_two_images_fails_both(site) -> None:
    for name in ("cat.png", "cat.jpg"):
        site.put(name, name)
        site.tick(1)
    site.put("cat.yaml", "priority: 1")
    site.settle()
    assert [job.error["code"] for job in site.jobs()] == ["sidecar_ambiguous"] * 2
    assert site.left() == set()
    assert sorted(path.name for path in site.claims()) == [
        "cat.jpg", "cat.png", "cat.yaml", "cat.yaml",
    ]  # fmt: skip


def test_two_images_of_one_yaml_fail_even_in_two_groups(site, monkeypatch) -> None:
    monkeypatch.setattr(inbox_intake, "FIRST_GROUP", 1)
    for name in ("cat.png", "dog.png", "cat.jpg"):
        site.put(name)
        site.tick(0.5)
    site.put("cat.yaml", "priority: 1")
    site.settle()
    assert {job.name: job.status for job in site.jobs()} == {
        "cat.png": "failed", "cat.jpg": "failed", "dog.png": "queued",
    }  # fmt: skip


def test_a_job_file_names_its_image(make_site) -> None:
    site = make_site(recursive=True)
    site.put("sub/photo.png", b"photo")
    site.put("order.yaml", "image: sub/photo.png\npriority: 7")
    site.settle()
    job = site.job()
    assert (job.name, job.folder, job.priority) == ("photo.png", "sub", 7)


def test_a_claim_given_up_puts_each_file_into_its_own_folder(make_site, monkeypatch) -> None:
    site = make_site(recursive=True)
    site.put("sub/photo.png", b"photo")
    site.put("order.yaml", "image: sub/photo.png")
    real = claim.claim_file

    def lost(source: Path, *args):
        if source.name == "photo.png":
            raise claim.Busy("in use")
        return real(source, *args)

    monkeypatch.setattr(claim, "claim_file", lost)
    site.settle()
    assert site.left() == {"sub/photo.png", "order.yaml"}
    assert "in use" in site.waiting()["sub/photo.png"]
    monkeypatch.undo()
    site.settle()
    assert site.job().name == "photo.png"
    assert site.left() == set()


def test_an_image_that_does_not_decode_gets_ten_more_seconds(site) -> None:
    site.put("cat.png", b"broken")
    site.tick(13)
    assert site.jobs() == []
    site.tick(10)
    assert site.job().error["code"] == "image_unreadable"


def test_a_broken_image_that_is_written_on_becomes_a_job(site) -> None:
    path = site.put("cat.png", b"broken")
    site.tick(10)
    path.write_bytes(b"whole now")
    site.settle()
    assert site.job().status == "queued"


def test_an_image_too_small_fails_at_once(site) -> None:
    site.put("cat.png", b"small")
    site.tick(8)
    assert site.job().error["code"] == "image_too_small"


def test_what_may_not_be_read_waits_and_says_why(site) -> None:
    path = site.put("cat.png", b"locked")
    site.tick(60)
    assert site.jobs() == []
    assert site.waiting() == {"cat.png": "cannot be read: Permission denied"}
    assert not site.gate.is_busy()
    path.write_bytes(b"open")
    site.settle()
    assert site.job().status == "queued"


def test_not_before_is_a_hold(site) -> None:
    site.put("cat.png")
    site.put("cat.yaml", "not_before: 2099-01-01T00:00:00Z")
    site.settle()
    job = site.job()
    assert (job.status, job.hold) == ("queued", "not_before")
    assert job.not_before.year == 2099


def test_a_time_long_past_is_no_trouble(site) -> None:
    site.put("cat.png")
    site.put("cat.yaml", "not_before: 0999-01-01T00:00:00Z")
    site.settle()
    assert site.claim_next().not_before.year == 999


def test_a_yaml_without_image_fails_after_an_hour(site) -> None:
    site.put("cat.yaml", "priority: 1")
    site.tick(60)
    site.now += 3500
    site.tick()
    assert site.jobs() == []
    site.now += 100
    site.tick(3)
    job = site.job()
    assert (job.error["code"], job.name) == ("image_missing", "cat.yaml")


def test_names_that_are_not_utf8(site) -> None:
    name = os.fsdecode(b"caf\xe9")
    site.put(f"{name}.png", b"cat")
    site.put(f"{name}.jpg", b"cat")
    site.put(f"{name}.yaml", "priority: 1")
    site.settle()
    assert {job.name for job in site.jobs()} == {"caf\\xe9.png", "caf\\xe9.jpg"}
    site.publish()
    assert len(site.folders()) == 2
    files = [os.fsencode(path.name) for path in site.outbox.rglob("*.png")]
    assert files == [b"caf\xe9.png"]


@pytest.mark.slow
def test_folders_are_mirrored(make_site) -> None:
    site = make_site(recursive=True)
    for folder in ("deep/er", "failed", "Latest"):
        site.put(f"{folder}/cat.png")
    site.settle()
    jobs = {job.folder: job.id[:8] for job in site.jobs()}
    assert jobs.keys() == {"deep/er", "failed", "Latest"}
    for _ in jobs:
        site.run_next()
    assert site.folders() == sorted([
        f"in/deep/er/cat-{jobs['deep/er']}",
        f"in/failed_/cat-{jobs['failed']}",
        f"in/Latest_/cat-{jobs['Latest']}",
    ])  # fmt: skip


def test_existing_files_are_ignored_if_so_told(make_site) -> None:
    site = make_site(existing="ignore")
    site.put("old.png", b"old")
    site.settle()
    site.put("new.png", b"new")
    site.settle()
    assert [job.name for job in site.jobs()] == ["new.png"]
    site.restart()
    (site.inbox / "old.png").chmod(0o600)
    site.put("old.yaml", "priority: 1")
    site.settle()
    assert len(site.jobs()) == 1
    site.put("old.png", b"changed")
    site.settle()
    assert [job.name for job in site.jobs()] == ["new.png", "old.png"]


def test_a_required_sidecar_is_waited_for_and_missed(make_site) -> None:
    site = make_site(sidecar="required", sidecar_wait_seconds=20)
    site.put("cat.png")
    site.tick(15)
    assert site.jobs() == []
    site.tick(10)
    assert site.job().error["code"] == "sidecar_missing"


# --- writers that go on, files that are swapped ---


def test_a_writer_that_goes_on_after_the_claim_settles_inside(site, monkeypatch) -> None:
    path = site.put("cat.png", b"half")
    writer = path.open("ab")
    real = Path.rename

    def rename(self, target):
        result = real(self, target)
        if self.name == "cat.png":
            writer.write(b" and half")
            writer.flush()
        return result

    monkeypatch.setattr(Path, "rename", rename)
    site.tick(8)
    monkeypatch.undo()
    assert site.jobs() == []
    assert site.left() == set()
    writer.write(b" and more")
    writer.close()
    site.settle()
    assert site.drop(site.job()).sha256 == sha256(b"half and half and more")


def test_a_link_swapped_in_before_the_rename_is_put_back(site, monkeypatch) -> None:
    target = site.root / "secret.png"
    target.write_bytes(b"secret")
    path = site.put("cat.png")
    real = Path.rename

    def rename(self, to):
        if self == path:
            path.unlink()
            path.symlink_to(target)
        return real(self, to)

    monkeypatch.setattr(Path, "rename", rename)
    site.settle()
    assert site.jobs() == []
    assert path.is_symlink()
    assert target.read_bytes() == b"secret"
    assert site.claims() == []


def test_one_file_that_cannot_be_taken_does_not_stop_the_others(site, monkeypatch) -> None:
    for name in ("a.png", "b.png", "c.png"):
        site.put(name)
    real = claim.claim_file

    def take(source: Path, *args):
        if source.name == "b.png":
            raise OSError(5, "Input/output error")
        return real(source, *args)

    monkeypatch.setattr(claim, "claim_file", take)
    site.settle()
    assert {job.name for job in site.jobs()} == {"a.png", "c.png"}
    assert site.left() == {"b.png"}
    assert "Input/output error" in site.waiting()["b.png"]


def test_an_error_that_nobody_foresaw_fails_one_job_and_no_other(make_site, monkeypatch) -> None:
    for originals in ("archive", "keep"):
        site = make_site(pipeline="paint", originals=originals)
        site.put("a.png", "a")
        site.put("b.png", "b")
        site.put("b.png.yaml", "seed: 3\n")
        plan = Planner.plan_image

        def plan_image(self, folder, name, *args, plan=plan, **kwargs):
            if name == "b.png":
                raise OverflowError("too many")
            return plan(self, folder, name, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(Planner, "plan_image", plan_image)
            site.settle()
            site.restart()
            site.settle()
        a, b = sorted(site.jobs(), key=lambda job: job.name)
        assert (a.status, b.status, b.error["code"]) == ("queued", "failed", "parameter_invalid")
        assert "OverflowError: too many" in b.error["detail"]
        if originals == "keep":
            site.put("b.png.yaml", "seed: 4\n")
            site.settle()
            assert [job.status for job in site.jobs() if job.name == "b.png"] == [
                "failed", "queued",
            ]  # fmt: skip
        site.close()
        shutil.rmtree(site.root / "data")
        shutil.rmtree(site.inbox)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken")])
def test_a_claim_that_meets_an_error_of_the_disk_waits_alone(site, monkeypatch, error) -> None:
    site.put("a.png", "a")
    site.put("b.png", "b")
    plan = Planner.plan_claimed

    def plan_claimed(self, folder, name, *args):
        if name == "b.png":
            raise error
        return plan(self, folder, name, *args)

    monkeypatch.setattr(Planner, "plan_claimed", plan_claimed)
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png"]
    site.put("c.png", "c")
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png", "c.png"]
    assert not site.gate.is_busy(), "`run` would wait for it for ever"
    monkeypatch.undo()
    site.settle()
    assert [(job.name, job.status) for job in site.jobs()[2:]] == [("b.png", "queued")]


def test_an_image_that_cannot_be_looked_at_waits_alone(site, monkeypatch) -> None:
    site.put("a.png", "a")
    site.put("b.png", "b")
    probe = site.prober.probe

    def fail(path: Path):
        if path.name == "a.png":
            raise ZeroDivisionError("a pixel of no size")
        return probe(path)

    monkeypatch.setattr(site.prober, "probe", fail)
    site.settle()
    assert [job.name for job in site.jobs()] == ["b.png"]
    assert "a pixel of no size" in site.waiting()["a.png"]
    monkeypatch.undo()
    site.settle()
    assert [job.name for job in site.jobs()] == ["b.png", "a.png"]


@pytest.mark.parametrize("name", ["read_reference", "companion_places"])
def test_a_yaml_whose_reader_fails_stops_no_other_file(site, monkeypatch, name) -> None:
    real = getattr(finder, name)

    def read(inbox, path, *args):
        if path == "b.png.yaml":
            raise ZeroDivisionError("no such digit")
        return real(inbox, path, *args)

    monkeypatch.setattr(finder, name, read)
    site.put("a.png", "a")
    site.put("sub.txt")
    site.put("b.png", "b")
    site.put("b.png.yaml", "priority: 3\n")
    site.settle()
    assert "a.png" in [job.name for job in site.jobs()]
    if name == "read_reference":
        assert "no such digit" in site.waiting()["b.png.yaml"]


def test_a_claim_that_cannot_be_read_fails_alone(site, monkeypatch) -> None:
    for name in ("a.png", "b.png"):
        site.put(name)
    real = claim.hash_in_place

    def hash_in_place(path: Path):
        if path.name == "a.png":
            raise claim.Busy("Permission denied")
        return real(path)

    monkeypatch.setattr(claim, "hash_in_place", hash_in_place)
    site.settle()
    assert {job.name: job.status for job in site.jobs()} == {"a.png": "failed", "b.png": "queued"}


def test_a_sidecar_that_cannot_be_read_is_what_is_wrong(site, monkeypatch) -> None:
    site.put("cat.png")
    site.put("cat.yaml", "priority: 1")

    def read(_: Path) -> bytes:
        raise OSError(errno.EIO, "the disk is broken there")

    monkeypatch.setattr("dna_pipeline.intake.planning.job_rows.read_sidecar", read)
    site.settle()  # from now on it is waited for
    site.now += 3600
    site.settle()
    assert site.job().error["code"] == "sidecar_invalid"
    assert "the disk is broken there" in site.job().error["detail"]


# --- trouble ---


def test_an_inbox_that_goes_and_comes_back(site) -> None:
    site.put("cat.png")
    site.settle()
    site.inbox.rename(site.root / "away")
    site.settle()
    assert site.gate.finder.problem == (
        f"the folder {site.inbox} does not exist any more; connect its disk or share, or mend the "
        "path in pipeline.yaml, line 2"
    )
    (site.root / "away").rename(site.inbox)
    site.put("dog.png")
    site.settle()
    assert site.gate.finder.problem is None
    assert [job.name for job in site.jobs()] == ["cat.png", "dog.png"]


def test_claims_of_an_inbox_that_is_away_at_the_start_are_taken_up_later(site) -> None:
    site.put("cat.png")
    site.settle()
    job = site.job()
    drop = site.drop(job)
    site.ledger.transact(lambda s: s.delete(s.get(type(job), job.seq)))
    site.ledger.transact(lambda s: setattr(s.get(type(drop), drop.id), "state", "claiming"))
    site.inbox.rename(site.root / "away")
    site.restart()
    site.settle()
    assert site.jobs() == []
    (site.root / "away").rename(site.inbox)
    site.settle()
    assert site.job().name == "cat.png"
    assert site.drop(site.job()).id == drop.id


@pytest.mark.slow
def test_a_claim_that_was_away_when_it_was_disposed_of_makes_no_second_job(make_site) -> None:
    site = make_site(originals="delete")  # with `archive` its result would wait for the source
    site.put("cat.png")
    site.settle()
    site.claim_next()
    site.inbox.rename(site.root / "away")
    site.inbox.mkdir()
    site.finish(site.job())
    site.publish()
    assert site.drop(site.job()).state == "gone"
    site.inbox.rmdir()
    (site.root / "away").rename(site.inbox)
    site.restart()
    site.settle()
    assert site.job().status == "completed"
    assert site.claims() == []
    assert not (site.config.data / "recovered").exists()


def test_a_claim_without_a_row_is_adopted(site) -> None:
    folder = claim.make_claim_dir(site.inbox, site.ledger.id, "f" * 32)
    (folder / "cat.png").write_bytes(b"cat")
    (folder / "cat.yaml").write_text("priority: 5")
    stray = claim.make_claim_dir(site.inbox, site.ledger.id, "e" * 32)
    (stray / "dog.yaml").write_text("priority: 6")
    site.restart()
    site.settle()
    assert (site.job().name, site.job().priority) == ("cat.png", 5)
    assert site.left() == {"dog.yaml"}


def test_an_error_in_a_step_is_told_and_gone_on_from(site, monkeypatch) -> None:
    site.put("cat.png")
    site.tick(6)
    monkeypatch.setattr(site.gate.claimer, "finish", lambda claims: 1 / 0)
    gate = gates.IntakeService.__new__(gates.IntakeService)
    site.gate.finder.request_scan(site.now + 4)
    assert gate._step_one(site.gate, site.now + 4) == 0
    assert "division by zero" in site.gate.finder.problem
    assert site.gate.next_at == site.now + 4 + inbox_intake.FAILED_RETRY_S
    monkeypatch.undo()
    site.now += 10
    site.settle()
    assert site.job().status == "queued"
    assert site.gate.finder.problem is None
