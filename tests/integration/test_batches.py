"""Several jobs of one drop: matrix, job files with several images, tables."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.layout import BATCH_REPORT
from dna_pipeline.ledger import batches, pauses, queue
from dna_pipeline.ledger.tables import Batch, BatchRow, Drop, Job
from dna_pipeline.operations import check_jobs, check_plan
from tests.integration.conftest import Site

MakeSite = Callable[..., Site]


def report(site: Site) -> list[dict[str, str]]:
    """The rows of the one batch.csv there is, or of the newest."""
    site.accounts().write()
    newest = max(site.rows(Batch), key=lambda batch: batch.created_at)
    (path,) = site.outbox.rglob(f"{newest.stem}-{newest.id[:8]}/{BATCH_REPORT}")
    text = re.sub(r"\Asep=.\s+", "", path.read_bytes().decode("utf-8-sig"))
    delimiter = text.removeprefix("row")[0]
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def statuses(site: Site) -> dict[str, str]:
    return {row["row"]: row["status"] for row in report(site)}


def run_all(site: Site) -> None:
    while site.ledger.transact(queue.next_runnable) is not None:
        site.run_next()


def params(job: Job) -> dict[str, Any]:
    return job.stages[0]["params"]


# --- matrix ---


MATRIX = "matrix: {remove_background.force: [true, false]}\ntags: [hero]\n"


def test_a_matrix_makes_a_job_of_each_combination(site: Site) -> None:
    site.put("cat.png.yaml", MATRIX)
    site.put("cat.png")
    site.settle()
    jobs = site.jobs()
    assert [params(job)["force"] for job in jobs] == [True, False]
    assert len({job.batch for job in jobs}) == 1
    assert {job.drop_id for job in jobs} == {jobs[0].drop_id}
    assert [job.tags for job in jobs] == [["hero"], ["hero"]]
    run_all(site)
    (batch,) = site.rows(Batch)
    home = f"in/cat-{batch.id[:8]}"
    names = {
        job.id[:8]: f"{home}/cat-{force}-"
        for job, force in zip(jobs, ("true", "false"), strict=True)
    }
    assert site.folders() == sorted(name + job for job, name in names.items())
    assert batch.axes == [{"name": "remove_background.force", "values": [True, False]}]
    rows = report(site)
    assert [row["status"] for row in rows] == ["completed", "completed"]
    folder = site.outbox / f"in/cat-{batch.id[:8]}"
    for row in rows:
        assert (folder / row["result"] / "source/cat.png").read_bytes() == b"an image"
        assert (folder / row["result"] / "source/cat.png.yaml").read_text() == MATRIX
    assert (site.left(), site.claims()) == (set(), [])


def test_a_matrix_with_a_wrong_value_fails_as_a_whole(site: Site) -> None:
    site.put("cat.yaml", "matrix: {remove_background.force: [true, 7]}\n")
    site.put("cat.png")
    site.settle()
    error = site.job().error
    assert error is not None
    assert error["code"] == "parameter_invalid"
    assert "line 1: remove_background.force" in error["detail"]
    assert site.rows(Batch) == []


@pytest.mark.slow
def test_a_failed_combination_can_be_mended_alone(site: Site) -> None:
    site.put("cat.png.yaml", MATRIX)
    site.put("cat.png")
    site.settle()
    first = site.claim_next()
    failure = {"code": "black_image", "message": "m", "detail": "d"}
    from dna_pipeline.base.errors import Failure

    site.ledger.transact(lambda s: queue.fail(s, first.id, Failure.from_dict(failure)))
    site.publish()
    source = site.outbox / f"in/failed/cat-{first.id[:8]}/source"
    told = json.loads((source / "cat.png.yaml").read_text())
    assert told == {"remove_background": {"force": True}, "tags": ["hero"]}
    from dna_pipeline.operations.retry import Retrier

    Retrier(site.config, site.ledger).retry(first.id, site.prober)  # pyright: ignore
    run_all(site)
    assert set(statuses(site).values()) == {"completed"}


# --- job files with images ---


@pytest.mark.slow
def test_thirty_images_then_their_job_file(make_site: MakeSite) -> None:
    site = make_site(sidecar_wait_seconds=5)
    for number in range(30):
        site.put(f"{number:02}.jpg", f"image {number}")
        site.tick(4)
    site.put("all.yaml", 'images: "*.jpg"\nremove_background: {force: true}\n')
    site.settle()
    jobs = site.jobs()
    assert [job.name for job in jobs] == [f"{number:02}.jpg" for number in range(30)]
    assert all(params(job)["force"] for job in jobs)
    run_all(site)
    assert set(statuses(site).values()) == {"completed"}
    assert (site.left(), site.claims()) == (set(), [])
    (batch,) = site.rows(Batch)
    folder = site.outbox / f"in/all-{batch.id[:8]}"
    assert (folder / "source/all.yaml").is_file()
    manifest = json.loads((next(folder.glob("07-*")) / "manifest.json").read_text())
    assert manifest["sidecar"].startswith("images:")
    assert manifest["job"]["batch"] == batch.id
    texts = [drop.sidecar_text for drop in site.rows(Drop) if drop.sidecar_text is not None]
    assert len(texts) == 1, "it may be long, and its images many"


def test_a_job_file_waits_for_what_it_names(site: Site) -> None:
    site.put("both.yaml", "images: [a.png, b.png]\n")
    site.put("a.png")
    site.settle()
    assert site.jobs() == []
    assert "both.yaml waits for b.png" in site.waiting()["a.png"]
    site.put("b.png")
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png", "b.png"]


@pytest.mark.slow
def test_what_a_job_file_names_in_vain_is_a_wrong_row(site: Site) -> None:
    site.put("both.yaml", "images: [a.png, b.png]\n")
    site.put("a.png")
    site.tick(3700)
    assert [job.name for job in site.jobs()] == ["a.png"]
    rows = report(site)
    assert [(row["status"], row["code"]) for row in rows] == [
        ("queued", ""),
        ("wrong", "image_missing"),
    ]


@pytest.mark.slow
def test_images_and_matrix(site: Site) -> None:
    site.put("all.yaml", 'images: ["?.png"]\nmatrix: {remove_background.force: [true, false]}\n')
    for name in "ab":
        site.put(f"{name}.png", name)
    site.settle()
    told = [(job.name, params(job)["force"]) for job in site.jobs()]
    assert told == [("a.png", True), ("a.png", False), ("b.png", True), ("b.png", False)]
    run_all(site)
    assert set(statuses(site).values()) == {"completed"}
    assert (site.left(), site.claims()) == (set(), [])


def test_a_job_file_that_leads_out_fails(site: Site) -> None:
    site.put("all.yaml", 'images: ["../*.png"]\n')
    site.settle()
    error = site.job().error
    assert error is not None
    assert error["code"] == "path_escapes_inbox"


def test_an_image_with_a_sidecar_of_its_own_is_no_part_of_a_glob(site: Site) -> None:
    site.put("all.yaml", 'images: "*.png"\npipeline: other\n')
    for name in "ab":
        site.put(f"{name}.png", name)
    site.put("b.png.yaml", "priority: 3\n")
    site.settle()
    assert {job.name: (job.pipeline, job.priority) for job in site.jobs()} == {
        "a.png": ("other", 0),
        "b.png": ("cut", 3),
    }


# --- tables ---


def library(site: Site, *names: str) -> Path:
    root = site.root / "library"
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(f"image {name}".encode())
    return root


def from_library(make_site: MakeSite, table: str = "image\na.png\n") -> Site:
    """A site that has taken in a table of one image, which stays in a library."""
    site = make_site(source_roots=["library"])
    library(site, "a.png")
    site.put("shots.csv", table)
    site.settle()
    return site


TABLE = """image,pipeline,priority,remove_background.force,meta.asset
a.png,,5,true,chair
b.png,other,,,"a, b"
"""


@pytest.mark.slow
def test_a_table(site: Site) -> None:
    for name in "ab":
        site.put(f"{name}.png", name)
    site.put("shots.csv", TABLE)
    site.settle()
    a, b = site.jobs()
    assert (a.name, a.pipeline, a.priority, params(a)["force"], a.meta) == (
        "a.png", "cut", 5, True, {"asset": "chair"},
    )  # fmt: skip
    assert (b.pipeline, b.priority, b.meta) == ("other", 0, {"asset": "a, b"})
    run_all(site)
    rows = report(site)
    assert [row["row"] for row in rows] == ["2", "3"]
    assert [row["status"] for row in rows] == ["completed", "completed"]
    (batch,) = site.rows(Batch)
    assert batch.state == "done"
    folder = site.outbox / f"in/shots-{batch.id[:8]}"
    assert (folder / "source/shots.csv").read_text() == TABLE
    assert json.loads((folder / rows[0]["result"] / "manifest.json").read_text())["sidecar"]
    assert (site.left(), site.claims()) == (set(), [])


@pytest.mark.slow
@pytest.mark.parametrize("wait", [0, 0.5, 5])
@pytest.mark.parametrize("settle", [0, 2])
@pytest.mark.parametrize("teller", ["shots.csv", "all.yaml", "one.yaml"])
def test_what_is_named_is_looked_for_before_it_is_missing(
    make_site: MakeSite, teller: str, settle: float, wait: float
) -> None:
    """An image in a subfolder, and one that the inbox does not include."""
    keys = {"sidecar_wait_seconds": wait, "settle_seconds": settle, "include": ["*.gif"]}
    texts = {
        "shots.csv": "image\nchairs/c.png\nd.png\n",
        "all.yaml": "images: [chairs/c.png, d.png]\n",
        "one.yaml": "image: chairs/c.png\n",
    }
    site = make_site(**keys)
    site.put("chairs/c.png", "c")
    site.put("d.png", "d")
    site.put(teller, texts[teller])
    told = check_plan.candidates(site.config.inboxes[0])
    assert [c.error for c in told] == [None]
    site.tick(25)
    names = {"one.yaml": ["c.png"]}.get(teller, ["c.png", "d.png"])
    assert [(job.name, job.status) for job in site.jobs()] == [(name, "queued") for name in names]


def test_an_image_that_is_really_not_there_is_missing_without_a_wait(make_site: MakeSite) -> None:
    site = make_site(sidecar_wait_seconds=0)
    site.put("shots.csv", "image\nchairs/c.png\n")
    site.tick(4)
    assert [row["code"] for row in report(site)] == ["image_missing"]


def test_json_lines(site: Site) -> None:
    site.put("a.png", "a")
    lines = [
        {"image": "a.png", "remove_background": {"force": True}, "meta": {"x": [1]}},
        {"image": "a.png", "remove_background.force": False},
        {"image": "a.png", "remove_background.force": "no"},
    ]
    site.put("shots.jsonl", "\n".join(map(json.dumps, lines)))
    site.settle()
    assert [params(job)["force"] for job in site.jobs()] == [True, False]
    assert [(r["row"], r["column"]) for r in report(site) if r["status"] == "wrong"] == [
        ("3", "remove_background.force")
    ]


WRONG = """image,pipeline,priority,remove_background.force,remove_background.strenth,seed
good.png,,,,,
none.png,,,,,
../x.png,,,,,
good.png,nowhere,,,,
good.png,,high,,,
good.png,,,maybe,,
good.png,,,,0.5,
,,,true,,
broken.png,,,,,
good.png,,,,,,extra
"""
CODES = {
    "3": ("image_missing", "image"),
    "4": ("path_escapes_inbox", "image"),
    "5": ("unknown_pipeline", "pipeline"),
    "6": ("parameter_invalid", "priority"),
    "7": ("parameter_invalid", "remove_background.force"),
    "8": ("sidecar_invalid", "remove_background.strenth"),
    "9": ("parameter_invalid", "image"),
    "10": ("image_unreadable", "image"),
    "11": ("sidecar_invalid", ""),
}


def wrong_table(site: Site) -> None:
    site.put("good.png", "good")
    site.put("broken.png", "broken")
    site.put("shots.csv", WRONG)


@pytest.mark.slow
def test_wrong_rows_are_lines_and_no_jobs(site: Site) -> None:
    wrong_table(site)
    site.settle()
    assert [job.name for job in site.jobs()] == ["good.png"]
    rows = {row["row"]: row for row in report(site)}
    assert {n: (r["code"], r["column"]) for n, r in rows.items() if r["status"] == "wrong"} == CODES
    for number, row in rows.items():
        assert number == "2" or row["detail"].startswith(f"row {number}:")
    # What only wrong rows name stays where it is, and is not taken in alone.
    assert site.left() == {"broken.png"}
    site.restart()
    site.settle()
    assert len(site.jobs()) == 1
    assert "shots.csv names it in row 10" in site.waiting()["broken.png"]


def test_check_tells_the_same(site: Site) -> None:
    wrong_table(site)
    inbox = site.config.inboxes[0]
    (candidate,) = check_plan.candidates(inbox)
    found = list(check_jobs.planned_jobs(site.config, inbox, candidate, site.prober))  # pyright: ignore
    wrong = {str(o.row): (o.error.code, o.error.where) for o in found if o.error}
    assert wrong == CODES
    assert site.left() == {"good.png", "broken.png", "shots.csv"}


@pytest.mark.slow
def test_a_table_again_makes_only_what_is_missing(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    library(site, "a.png", "b.png")
    text = "image,remove_background.force\na.png,true\nb.png,7\n"
    site.put("shots.csv", text)
    site.settle()
    run_all(site)
    site.put("shots.csv", text)
    site.settle()
    assert len(site.jobs()) == 1
    assert statuses(site) == {"2": "skipped", "3": "wrong"}
    assert report(site)[0]["result"].endswith(f"a-{site.jobs()[0].id[:8]}")
    site.put("shots.csv", text.replace("7", "false"))
    site.settle()
    run_all(site)
    assert statuses(site) == {"2": "skipped", "3": "completed"}
    assert (site.root / "library/a.png").read_bytes() == b"image a.png"
    # Changed bytes under the same name are something new.
    (site.root / "library/a.png").write_bytes(b"newer")
    site.put("shots.csv", text)
    site.settle()
    assert statuses(site) == {"2": "queued", "3": "wrong"}


@pytest.mark.slow
def test_a_table_again_after_its_images_were_archived(site: Site) -> None:
    wrong_table(site)
    site.settle()
    run_all(site)
    site.put("shots.csv", WRONG)
    site.settle()
    assert len(site.jobs()) == 1
    assert statuses(site)["2"] == "skipped"
    site.put("shots.csv", WRONG.replace(",maybe,", ",true,"))
    site.put("broken.png", "mended")
    site.settle()
    told = statuses(site)
    # Row 7 names an image that was archived: it would have to be dropped again.
    assert (told["2"], told["7"], told["10"]) == ("skipped", "wrong", "queued")


@pytest.mark.slow
def test_a_result_that_was_removed_is_made_again(make_site: MakeSite) -> None:
    import shutil

    site = from_library(make_site)
    run_all(site)
    shutil.rmtree(next(site.outbox.glob("in/shots-*/a-*")))
    site.put("shots.csv", "image\na.png\n")
    site.settle()
    assert statuses(site) == {"2": "queued"}


def test_equal_rows_are_each_made_and_made_again_if_told_so(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    library(site, "a.png")
    site.put("shots.csv", "image\na.png\na.png\n")
    site.settle()
    assert statuses(site) == {"2": "queued", "3": "queued"}
    site.put("again.csv", "image\na.png\na.png\n")
    site.settle()
    assert statuses(site) == {"2": "skipped", "3": "skipped"}
    site.put("again.csv", "image\na.png\na.png\n")
    site.put("again.csv.yaml", "on_duplicate: run\npipeline: other\n")
    site.settle()
    assert statuses(site) == {"2": "queued", "3": "queued"}
    assert [job.pipeline for job in site.jobs()] == ["cut", "cut", "other", "other"]


@pytest.mark.parametrize("where", ["{root}/library/a.png", "a.png", "../library/a.png"])
def test_a_source_root_is_read_and_never_written(make_site: MakeSite, where: str) -> None:
    site = make_site(source_roots=["library"], originals="delete")
    root = library(site, "a.png")
    before = (root / "a.png").stat()
    site.put("shots.csv", "image\n" + where.format(root=site.root) + "\n")
    site.settle()
    run_all(site)
    assert statuses(site) == {"2": "completed"}
    after = (root / "a.png").stat()
    assert (after.st_mtime_ns, after.st_ino, after.st_ctime_ns) == (
        before.st_mtime_ns, before.st_ino, before.st_ctime_ns,
    )  # fmt: skip
    assert (site.left(), site.claims()) == (set(), [])


def test_a_batch_waits_for_a_source_root_that_is_not_mounted(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    site.put("shots.csv", "image\na.png\n")
    for _ in range(2):
        site.settle()
        assert site.rows(Batch) == []
        assert (
            "library, one of the inbox's source_roots, is not there"
            in (site.waiting()["shots.csv"])
        )
        (site.root / "library").mkdir(exist_ok=True)  # where it will be mounted
    assert site.left() == {"shots.csv"}
    library(site, "a.png")
    site.settle()
    assert statuses(site) == {"2": "queued"}


def checked(site: Site) -> list[tuple[str | None, str | None]]:
    """What `check` says of each row: its image, and what is wrong with it."""
    inbox = site.config.inboxes[0]
    return [
        (look.image, look.error.code if look.error else None)
        for candidate in check_plan.candidates(inbox)
        for look in check_jobs.planned_jobs(site.config, inbox, candidate, site.prober)  # pyright: ignore
    ]


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
@pytest.mark.parametrize("where", ["library", "other"])
def test_a_link_within_the_source_roots_is_read_through(
    make_site: MakeSite, originals: str, where: str
) -> None:
    site = make_site(source_roots=["library", "other"], originals=originals)
    (site.root / "other").mkdir()
    (site.root / "other" / "x.png").write_bytes(b"x")
    root = library(site, "b.png")
    target = site.root / where / "v003.png"
    target.write_bytes(b"the third version")
    (root / "a.png").symlink_to(target)
    site.put("shots.csv", "image\na.png\nb.png\n")
    assert checked(site) == [("a.png", None), ("b.png", None)]
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png", "b.png"]
    assert site.waiting() == {}
    run_all(site)
    (folder,) = [name for name in site.folders() if "/a-" in name]
    if originals == "archive":
        archived = site.outbox / folder / "source" / "a.png"
        assert (archived.read_bytes(), archived.is_symlink()) == (b"the third version", False)
    assert (root / "a.png").readlink() == target
    assert target.read_bytes() == b"the third version"


TELLERS = {
    "shots.csv": "image\na.png\nb.png\n",
    "all.yaml": "images: [a.png, b.png]\n",
    "glob.yaml": "images: '*.png'\n",
}


@pytest.mark.parametrize("teller", TELLERS)
def test_a_link_out_of_a_source_root_is_a_wrong_row(make_site: MakeSite, teller: str) -> None:
    site = make_site(source_roots=["library"])
    root = library(site, "b.png")
    (site.root / "secret.png").write_bytes(b"secret")
    (root / "a.png").symlink_to(site.root / "secret.png")
    site.put(teller, TELLERS[teller])
    codes = [code for _, code in checked(site)]
    site.settle()
    rows = report(site)
    # A glob names only what may be had.
    expected = [] if teller == "glob.yaml" else [("path_escapes_inbox", "wrong")]
    assert [(row["code"], row["status"]) for row in rows] == [*expected, ("", "queued")]
    assert codes == [row["code"] or None for row in rows]
    assert b"secret" not in b"".join(path.read_bytes() for path in site.claims())


def test_globs_pass_over_litter_in_source_roots_and_its_names_are_had(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    copy = "a.sync-conflict-20260101-120000-ABCDEFG.png"
    root = library(site, "a.png")
    for name in ("@eaDir/a.png/SYNOPHOTO_THUMB_XL.jpg", "#recycle/b.png", "sub/@eaDir/c.png", copy):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    site.put("glob.yaml", "images: '**/*.png'\n")
    site.put("shots.csv", f"image\n#recycle/b.png\n{copy}\n")
    site.settle()
    assert sorted(job.name for job in site.jobs()) == ["a.png", copy, "b.png"]


def test_a_job_file_of_a_link_that_leads_out_fails(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    root = library(site, "b.png")
    (root / "a.png").symlink_to("/etc/hostname")
    site.put("one.yaml", "image: a.png\n")
    assert checked(site) == [(None, "path_escapes_inbox")]
    site.settle()
    assert (site.job().error or {})["code"] == "path_escapes_inbox"


def odd_things(folder: Path) -> dict[str, str]:
    """What is no image there, by name, and how a row says so."""
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "broken.png").symlink_to(folder / "none")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    return {
        "folder.png": "is a folder",
        "pipe.png": "is not a regular file",
        "broken.png": "is a broken link",
        "circle.png": "is a broken link",
        "none.png": "there is no 'none.png'",
    }


@pytest.mark.slow
@pytest.mark.parametrize("where", ["in", "in/sub", "library"])
def test_what_is_no_image_is_a_wrong_row_and_holds_nothing_up(
    make_site: MakeSite, where: str
) -> None:
    site = make_site(source_roots=["library"])
    library(site, "x.png")
    (site.root / where).mkdir(exist_ok=True)
    odd = odd_things(site.root / where)
    site.put("b.png")
    prefix = "sub/" if where == "in/sub" else ""
    if prefix:
        odd = {name: text.replace(name, f"sub/{name}") for name, text in odd.items()}
    site.put("shots.csv", "image\n" + "".join(f"{prefix}{name}\n" for name in odd) + "b.png\n")
    codes = [code for _, code in checked(site)]
    assert codes == ["image_missing"] * len(odd) + [None]
    site.settle()
    *wrong, right = report(site)
    assert right["status"] == "queued"
    assert [row["code"] for row in wrong] == codes[:-1]
    assert all(text in row["detail"] for row, text in zip(wrong, odd.values(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["in/sub", "library/sub"])
def test_a_row_whose_image_cannot_be_looked_for_waits(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A folder on the way gives no right, or its server does not answer."""
    monkeypatch.setattr("dna_pipeline.intake.claiming.blocked.IMAGE_WAIT_S", 600.0)
    site = make_site(source_roots=["library"])
    library(site, "x.png")
    (site.root / where).mkdir()
    (site.root / where / "a.png").write_bytes(b"a")
    site.put("b.png")
    lstat, isfile = Path.lstat, os.path.isfile

    def deny(path: Path) -> os.stat_result:
        if path.parent.name == "sub":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", deny)
    monkeypatch.setattr(
        "os.path.isfile", lambda path: Path(path).parent.name != "sub" and isfile(path)
    )
    site.put("shots.csv", "image\nsub/a.png\nb.png\n")
    assert checked(site) == [("sub/a.png", "image_unreadable"), ("b.png", None)]
    site.tick(500)
    assert site.jobs() == []
    assert "cannot be looked at: Permission denied" in site.waiting()["shots.csv"]
    site.tick(200)
    wrong, right = report(site)
    assert (wrong["code"], right["status"]) == ("image_unreadable", "queued")


def test_a_link_in_the_inbox_is_a_wrong_row(make_site: MakeSite) -> None:
    site = make_site()
    (site.root / "far.png").write_bytes(b"far")
    (site.inbox / "a.png").symlink_to(site.root / "far.png")
    site.put("b.png")
    site.put("shots.csv", "image\na.png\nb.png\n")
    site.settle()
    wrong, right = report(site)
    assert (wrong["code"], right["status"]) == ("image_missing", "queued")
    assert "'a.png' is a link" in wrong["detail"]


def test_what_is_no_table_fails(site: Site) -> None:
    site.put("shots.csv", "name,pipeline\na.png,cut\n")
    site.settle()
    job = site.job()
    assert job.error is not None
    assert (job.error["code"], job.name) == ("sidecar_invalid", "shots.csv")
    assert "no column is called 'image'" in job.error["detail"]
    assert job.error["message"] == (
        "The table cannot be used as it is; correct it and drop it again."
    )
    site.publish()
    (folder,) = site.outbox.glob("in/failed/shots-*")
    assert (folder / "source/shots.csv").is_file()
    told = (folder / "ERROR.txt").read_text()
    assert "drop it into its inbox again" in told
    assert "dna-pipeline retry" not in told


@pytest.mark.parametrize("told", ["matrix: {remove_background.force: [true]}", 'images: "*.png"'])
def test_the_yaml_beside_a_table_asks_for_no_jobs_of_its_own(site: Site, told: str) -> None:
    site.put("a.png")
    site.put("shots.csv", "image\na.png\n")
    site.put("shots.csv.yaml", f"tags: [x]\n{told}\n")
    site.settle()
    (failed,) = [job for job in site.jobs() if job.status == "failed"]
    assert failed.error is not None
    assert failed.error["code"] == "sidecar_invalid"
    assert f"line 2: {told.partition(':')[0]}: belongs into a job file" in failed.error["detail"]


def test_images_of_a_table_that_are_slow_to_come(make_site: MakeSite) -> None:
    site = make_site(sidecar_wait_seconds=5)
    site.put("shots.csv", "image\n" + "".join(f"{n}.png\n" for n in range(10)))
    for number in range(10):
        site.tick(4)
        site.put(f"{number}.png", f"image {number}")
    site.settle()
    assert len(site.jobs()) == 10
    assert set(statuses(site).values()) == {"queued"}


def test_a_half_written_image_keeps_the_batch_waiting(site: Site) -> None:
    site.put("a.png", "broken")
    site.put("shots.csv", "image\na.png\n")
    site.tick(9)
    assert site.rows(Batch) == []
    site.put("a.png", "whole")
    site.settle()
    assert statuses(site) == {"2": "queued"}


# --- kept ---


@pytest.mark.slow
def test_a_kept_table_is_touched_never_and_runs_again_when_changed(make_site: MakeSite) -> None:
    site = make_site(originals="keep")
    site.put("a.png", "a")
    site.put("b.png", "b")
    table = site.put("shots.csv", "image,remove_background.force\na.png,true\nb.png,false\n")
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png", "b.png"]
    site.run_next()
    site.restart()
    site.settle()
    assert len(site.rows(Batch)) == 1
    # b is still queued as it was: the newer version of the batch takes its place.
    table.write_text("image,remove_background.force\na.png,true\nb.png,true\n")
    site.settle()
    assert [(job.name, params(job)["force"]) for job in site.jobs()] == [
        ("a.png", True),
        ("b.png", True),
    ]
    assert statuses(site) == {"2": "skipped", "3": "queued"}
    run_all(site)
    assert site.left() == {"a.png", "b.png", "shots.csv"}
    site.put("b.png", "newer b")
    site.settle()
    assert statuses(site) == {"2": "skipped", "3": "queued"}
    run_all(site)
    site.restart()
    site.settle()
    assert site.claims() == []


def test_a_kept_table_that_grows_while_it_waits_loses_no_row(make_site: MakeSite) -> None:
    """The older version's jobs are withdrawn, so no row may be skipped for one of them."""
    site = make_site(originals="keep")
    for name in ("cat", "dog"):
        site.put(f"{name}.png", name)
    site.put("shots.csv", "image\ncat.png\ndog.png\n")
    site.tick(60)
    assert [job.name for job in site.jobs()] == ["cat.png", "dog.png"]

    site.put("fox.png", "fox")
    site.put("shots.csv", "image\ncat.png\ndog.png\nfox.png\n")
    site.tick(60)

    assert sorted(job.name for job in site.jobs()) == ["cat.png", "dog.png", "fox.png"]
    ids = {job.id for job in site.jobs()}
    newest = next(row for row in site.rows(BatchRow) if row.number == 4).batch_id
    assert {row.job_id for row in site.rows(BatchRow, BatchRow.batch_id == newest)} == ids


def test_a_kept_matrix_is_replaced_while_it_waits(make_site: MakeSite) -> None:
    site = make_site(originals="keep")
    site.put("cat.png.yaml", MATRIX)
    image = site.put("cat.png", "one")
    site.settle()
    image.write_bytes(b"two")
    site.settle()
    assert len(site.jobs()) == 2
    assert len({site.drop(job).sha256 for job in site.jobs()}) == 1
    replaced = [row.status for row in site.rows(BatchRow) if row.status]
    assert replaced == ["replaced", "replaced"]


# --- control ---


def three(site: Site, told: str = "") -> str:
    for number in range(3):
        site.put(f"{number}.png", f"image {number}")
    site.put("all.yaml", f'images: "*.png"\n{told}')
    site.settle()
    (batch,) = site.rows(Batch)
    return batch.id


def fail_next(site: Site) -> None:
    from dna_pipeline.base.errors import BlackImage

    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, BlackImage().failure()))
    site.ledger.transact(lambda s: pauses.check_batch(s, job.batch))
    site.publish()


@pytest.mark.slow
def test_max_failures_pauses_a_batch(site: Site) -> None:
    batch = three(site, "max_failures: 1\n")
    fail_next(site)
    assert site.ledger.transact(lambda s: pauses.of_job(s, "cut", batch)) is None
    fail_next(site)
    pause = site.ledger.transact(lambda s: pauses.of_job(s, "cut", batch))
    assert pause is not None and "its max_failures is 1" in pause.why
    assert site.ledger.transact(queue.next_runnable) is None
    assert [row["status"] for row in report(site)] == ["failed", "failed", "queued"]
    assert report(site)[2]["code"] == "paused"
    site.ledger.transact(lambda s: pauses.resume(s, batch))
    run_all(site)
    assert [row["status"] for row in report(site)] == ["failed", "failed", "completed"]
    assert report(site)[0]["result"].startswith("../failed/")


def test_a_batch_with_too_many_wrong_rows_does_not_begin(make_site: MakeSite) -> None:
    site = make_site()
    wrong_table(site)
    site.put("shots.csv.yaml", "max_failures: 0\n")
    site.settle()
    assert site.ledger.transact(queue.next_runnable) is None
    assert site.job().hold == "paused"


@pytest.mark.slow
def test_a_batch_is_cancelled_as_a_whole(site: Site) -> None:
    batch = three(site)
    site.run_next()
    site.ledger.transact(lambda s: batches.cancel(s, batch))
    site.publish()
    assert sorted(statuses(site).values()) == ["cancelled", "cancelled", "completed"]
    assert (site.left(), site.claims()) == (set(), [])


# --- hostile and broken ---


@pytest.mark.slow
def test_no_cell_of_the_account_is_a_formula(site: Site) -> None:
    site.put("=cmd.png", "x")
    site.put("all.yaml", 'images: "*.png"\n')
    site.settle()
    assert report(site)[0]["image"] == "'=cmd.png"


def test_an_image_that_vanishes_meanwhile_undoes_the_batch(site: Site) -> None:
    for name in "ab":
        site.put(f"{name}.png", name)
    site.put("all.yaml", 'images: "*.png"\n')
    site.tick(4)
    seen = {"done": False}

    def lose(path: Path) -> Any:
        answer = probe(path)
        if path.name == "b.png" and not seen["done"]:
            seen["done"] = True
            path.unlink()
        return answer

    probe = site.prober.probe
    site.prober.probe = lose
    site.settle()
    assert seen["done"]
    assert [job.name for job in site.jobs()] == ["a.png"]
    assert len(site.rows(Batch)) == 1
    assert (site.left(), len(site.claims())) == (set(), 2)


@pytest.mark.slow
def test_killed_at_any_step_a_batch_is_whole(
    make_site: MakeSite, kill_everywhere: Callable[..., int]
) -> None:
    def prepare(root: Path) -> Site:
        site = make_site(root=root, source_roots=["library"])
        library(site, "c.png")
        for name in "ab":
            site.put(f"{name}.png", name)
        site.put("shots.csv", "image,priority\na.png,1\nb.png,2\nc.png,3\nd.png,4\n")
        return site

    def act(site: Site) -> None:
        site.settle()
        site.accounts().write()

    def check(site: Site) -> None:
        lies = site.left() | {path.name for path in site.claims()}
        lies |= {path.name for path in site.outbox.rglob("source/*")}
        assert {"a.png", "b.png", "shots.csv"} <= lies
        site.settle()
        site.accounts().write()
        assert sorted(job.name for job in site.jobs()) == ["a.png", "b.png", "c.png"]
        assert statuses(site) == {"2": "queued", "3": "queued", "4": "queued", "5": "wrong"}
        run_all(site)
        assert len(site.rows(Batch)) == 1
        assert set(statuses(site).values()) == {"completed", "wrong"}
        assert (site.left(), site.claims()) == (set(), [])
        (copy,) = site.outbox.glob("in/shots-*/source/shots.csv")
        assert copy.stat().st_size > 0

    assert kill_everywhere(prepare, act, check, every=3) > 20
