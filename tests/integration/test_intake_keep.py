"""Inboxes that keep their originals: a file is known by its path, its bytes and its spec."""

import os
from collections.abc import Callable

import pytest

from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.candidates import Unreadable
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.references import read_reference
from dna_pipeline.ledger import requests


@pytest.fixture
def keep(make_site: Callable):
    return make_site(originals="keep")


def touch(path) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


def test_the_original_stays_and_a_copy_is_worked_on(keep) -> None:
    path = keep.put("cat.png", b"cat")
    before = path.stat()
    keep.settle()
    assert path.read_bytes() == b"cat"
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not (keep.inbox / ".dna").exists()
    copy = keep.claims()[0]
    assert (copy.read_bytes(), copy.stat().st_ino != before.st_ino) == (b"cat", True)


def test_a_touch_makes_nothing(keep) -> None:
    path = keep.put("cat.png", b"cat")
    keep.settle()
    for _ in range(2):
        touch(path)
        keep.settle()
    keep.restart()
    touch(path)
    keep.settle()
    assert len(keep.jobs()) == 1
    assert len(keep.claims()) == 1
    asked = len(keep.prober.asked)
    keep.settle()
    assert len(keep.prober.asked) == asked, "a file that is known is not decoded again"


def test_changed_bytes_take_the_place_of_the_queued_job(keep) -> None:
    keep.put("cat.png", b"one")
    keep.put("dog.png", b"dog")
    keep.settle()
    first = next(job for job in keep.jobs() if job.name == "cat.png")
    keep.put("cat.png", b"two")
    keep.settle()
    touch(keep.inbox / "cat.png")  # tells nothing new, and does not hide the queued job
    keep.settle()
    keep.put("cat.png", b"three")
    keep.settle()
    jobs = {job.name: job for job in keep.jobs()}
    assert len(keep.jobs()) == 2
    assert (jobs["cat.png"].id, jobs["cat.png"].seq) == (first.id, first.seq)
    drop = keep.drop(jobs["cat.png"])
    assert keep.claims() == sorted(
        [
            claims.Path(drop.claim) / "cat.png",
            claims.Path(keep.drop(jobs["dog.png"]).claim) / "dog.png",
        ]
    )
    assert (claims.Path(drop.claim) / "cat.png").read_bytes() == b"three"


@pytest.mark.slow
def test_a_changed_sidecar_makes_a_new_job_once_the_first_has_begun(keep) -> None:
    keep.put("cat.png", b"cat")
    keep.settle()
    first = keep.run_next()
    keep.put("cat.yaml", "remove_background: {force: true}")
    keep.settle()
    assert len(keep.jobs()) == 2
    second = keep.jobs()[1]
    assert second.id != first.id
    assert second.stages[0]["params"]["force"] is True
    keep.put("cat.yaml", "# the same, said otherwise\nremove_background:\n  force: true\n")
    keep.settle()
    assert len(keep.jobs()) == 2


@pytest.mark.slow
def test_a_touched_sidecar_makes_nothing_and_an_edited_one_a_job_of_the_same_bytes(keep) -> None:
    image = keep.put("cat.png", b"cat")
    sidecar = keep.put("cat.yaml", "meta: {asset: a}")
    keep.settle()
    keep.run_next()
    touch(sidecar)
    keep.settle()
    keep.restart()
    touch(sidecar)
    keep.settle()
    assert len(keep.jobs()) == 1
    keep.put("cat.yaml", "meta: {asset: b}")
    keep.settle()
    keep.run_next()
    first, second = keep.jobs()
    assert (first.meta, second.meta) == ({"asset": "a"}, {"asset": "b"})
    assert keep.drop(first).sha256 == keep.drop(second).sha256
    sidecar.unlink()
    keep.settle()
    assert [job.meta for job in keep.jobs()][2:] == [{}]
    assert image.read_bytes() == b"cat"


def test_an_edited_sidecar_takes_the_place_of_the_queued_job(keep) -> None:
    keep.put("cat.png", b"cat")
    keep.put("cat.yaml", "priority: 1")
    keep.settle()
    keep.put("cat.yaml", "priority: 2")
    keep.settle()
    assert [job.priority for job in keep.jobs()] == [2]


def test_on_change_all_runs_each_version(make_site) -> None:
    site = make_site(originals="keep", on_change="all")
    for data in (b"one", b"two", b"one"):
        site.put("cat.png", data)
        site.settle()
    assert [site.drop(job).bytes for job in site.jobs()] == [3, 3, 3]
    assert len({job.id for job in site.jobs()}) == 3


def test_two_job_files_of_one_image_are_two_jobs_and_no_more(keep) -> None:
    keep.put("cat.png", b"cat")
    keep.put("a.yaml", "image: cat.png\npriority: 1")
    keep.put("b.yaml", "image: cat.png\npriority: 2")
    for _ in range(3):
        keep.settle()
    assert [job.priority for job in keep.jobs()] == [1, 2]
    keep.put("b.yaml", "image: cat.png\npriority: 9")
    keep.settle()
    assert [job.priority for job in keep.jobs()] == [1, 9]


def test_an_ambiguity_that_is_mended_makes_a_job(keep) -> None:
    keep.put("cat.png", b"cat")
    keep.put("cat.jpg", b"dog")
    keep.put("cat.yaml", "priority: 1")
    for _ in range(2):
        keep.settle()
    assert [job.error["code"] for job in keep.jobs()] == ["sidecar_ambiguous"] * 2
    (keep.inbox / "cat.jpg").unlink()
    keep.settle()
    assert [(job.name, job.status) for job in keep.jobs()][2:] == [("cat.png", "queued")]


def test_existing_files_are_ignored_and_stay_so(make_site) -> None:
    site = make_site(originals="keep", existing="ignore")
    site.put("old.png", b"old")
    site.put("job.yaml", "image: old.png")
    site.settle()
    site.restart()
    site.settle()
    assert site.jobs() == []
    site.put("old.png", b"changed")
    site.settle()
    assert len(site.jobs()) == 1


def test_the_newest_input_wins_latest(keep) -> None:
    keep.put("cat.png", b"one")
    keep.settle()
    first = keep.claim_next()
    keep.put("cat.png", b"two")
    keep.settle()
    keep.run_next(b"of two")
    latest = keep.outbox / "in/latest/cat.png"
    assert latest.read_bytes() == b"of two"
    keep.finish(first, b"of one")
    keep.publish()
    assert latest.read_bytes() == b"of two"
    assert [path.name for path in latest.parent.iterdir()] == ["cat.png"]


def test_latest_has_each_format_of_a_mesh_and_what_an_obj_names(keep) -> None:
    """The material and the picture keep the names by which the OBJ and the MTL call them."""
    keep.put("cat.png", b"one")
    keep.settle()
    roles = {
        "cat.b.obj": "mesh", "cat.b.ply": "mesh", "cat.b.mtl": "material",
        "cat.b.texture.png": "texture", "cat.b.preview.png": "preview", "cat.matte.png": "matte",
    }  # fmt: skip
    keep.finish(keep.claim_next(), b"made", roles)
    keep.publish()
    latest = keep.outbox / "in/latest"
    assert sorted(path.name for path in latest.iterdir()) == [
        "cat.b.mtl", "cat.b.texture.png", "cat.obj", "cat.ply", "cat.png",
    ]  # fmt: skip


@pytest.mark.slow
def test_overwrites_while_the_job_runs(keep) -> None:
    for number in range(10):
        keep.put("cat.png", f"version {number}".encode())
        keep.settle()
        if number == 0:
            first = keep.claim_next()
    assert len(keep.jobs()) == 2
    keep.finish(first)
    keep.publish()
    second = keep.claim_next()
    source = claims.Path(keep.drop(second).claim) / "cat.png"
    assert source.read_bytes() == b"version 9"


def test_a_file_that_changes_while_it_is_copied_is_left_for_the_next_look(
    keep, monkeypatch
) -> None:
    path = keep.put("cat.png", b"one")
    real = claims._copy

    def copy(reader, writer):
        monkeypatch.undo()
        path.write_bytes(b"two")
        return real(reader, writer)

    monkeypatch.setattr(claims, "_copy", copy)
    keep.settle()
    assert keep.drop(keep.job()).bytes == 3
    assert [path.read_bytes() for path in keep.claims()] == [b"two"]


def test_a_cancelled_version_is_not_brought_back_by_a_touch(keep) -> None:
    path = keep.put("cat.png", b"one")
    keep.settle()
    keep.ledger.transact(lambda s: requests.request_cancel(s, keep.job().id))
    touch(path)
    keep.settle()
    assert keep.job().status == "cancelled"


def swap_before(name: str, monkeypatch: pytest.MonkeyPatch, swap: Callable[[], None]) -> None:
    """Do it right before `claim` does that for the first time."""
    real = getattr(claims, name)

    def act(*args, **options):
        monkeypatch.setattr(claims, name, real)
        swap()
        return real(*args, **options)

    monkeypatch.setattr(claims, name, act)


@pytest.mark.parametrize("files", [{}, {"shots.csv": "image,priority\ncat.png,1\n"}])
def test_a_writer_that_begins_between_the_look_and_the_copy(keep, monkeypatch, files) -> None:
    """It pauses with half of the file, which is then as still as a whole one."""
    path = keep.put("cat.png", b"an old version")
    for name, text in files.items():
        keep.put(name, text)
    swap_before("snapshot", monkeypatch, lambda: path.write_bytes(b"broken"))
    keep.tick(8)
    assert keep.jobs() == []
    path.write_bytes(b"a new version")
    keep.settle()
    assert keep.drop(keep.job()).bytes == len(b"a new version")


def test_a_folder_that_became_a_link_after_the_look(make_site, tmp_path, monkeypatch) -> None:
    site = make_site(originals="keep", recursive=True)
    site.put("sub/cat.png", b"cat")
    site.put("sub/cat.png.yaml", "priority: 1")
    (tmp_path / "home").mkdir()
    for name in ("cat.png", "cat.png.yaml"):
        (tmp_path / "home" / name).write_text("secret: 1")

    def swap() -> None:
        (site.inbox / "sub").rename(site.inbox / "gone")
        (site.inbox / "sub").symlink_to(tmp_path / "home")

    swap_before("snapshot", monkeypatch, swap)
    site.tick(5)
    assert [job.name for job in site.jobs() if job.folder == "sub"] == []
    assert not any(b"secret" in path.read_bytes() for path in site.claims())


def test_a_yaml_that_became_a_link_or_a_pipe_after_the_look(tmp_path) -> None:
    (tmp_path / "secret.yaml").write_text("image: a.png")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    inbox = Inbox("in", tmp_path, "cut")
    assert read_reference(inbox, "secret.yaml") == "a.png"
    for name in ("link.yaml", "pipe.yaml"):
        with pytest.raises(OSError, match=r"symbolic links|regular file"):
            job_rows.read_sidecar(tmp_path / name)
        assert isinstance(read_reference(inbox, name), Unreadable)


@pytest.mark.slow
def test_renders_in_subfolders_are_known_by_content_and_spec(make_site) -> None:
    site = make_site(originals="keep", recursive=True)
    path = site.put("shots/a/beauty.0001.exr", b"light")
    site.put("shots/b/beauty.0001.exr", b"light")
    site.put("shots/a/beauty.0002.exr.tmp", b"half")
    site.settle()
    first, second = site.run_next(), site.run_next()
    assert {first.folder, second.folder} == {"shots/a", "shots/b"}
    assert all(name.startswith(("in/shots/a/", "in/shots/b/")) for name in site.folders())
    touch(path)
    site.settle()
    assert len(site.jobs()) == 2
    site.put("shots/a/beauty.0001.exr.yaml", "remove_background: {force: true}")
    site.settle()
    third = site.run_next()
    assert (len(site.jobs()), third.folder) == (3, "shots/a")
    assert third.stages[0]["params"]["force"] is True
    touch(path)
    touch(site.inbox / "shots/a/beauty.0001.exr.yaml")
    site.settle()
    assert len(site.jobs()) == 3
    site.put("shots/a/beauty.0001.exr.yaml", "remove_background: {force: false}")
    site.settle()
    assert len(site.jobs()) == 4
