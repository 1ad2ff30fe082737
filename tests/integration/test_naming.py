"""How job files and tables name their images, and what becomes of those they might name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.intake.discovery.waits import LONGEST_RESTART_S
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.operations import check_jobs, check_plan
from dna_pipeline.operations.retry import Retrier
from tests.integration.conftest import Site
from tests.integration.test_batches import fail_next, library, params, report, run_all, statuses
from tests.integration.test_batches_odd import quoted
from tests.integration.test_cli import picture

MakeSite = Callable[..., Site]

ODD_TEXT = "a 🐈, \x7f \x85 \u2028 of {stem}"


@pytest.mark.parametrize("name", ["shots.jsonl", "shots.csv"])
def test_any_text_goes_through_a_table_and_a_retry(make_site: MakeSite, name: str) -> None:
    site = make_site(source_roots=["library"])
    picture(library(site) / "a.png")
    row = {"image": "a.png", "img2img.prompt": ODD_TEXT, "pipeline": "paint"}
    lines = f"{quoted(*row)}\r\n{quoted(*row.values())}"
    site.put(name, lines if name.endswith(".csv") else json.dumps(row))
    site.settle()
    before = params(site.job())
    assert before["prompt"] == ODD_TEXT.format(stem="a")
    fail_next(site)
    assert site.job().status == "failed"
    Retrier(site.config, site.ledger).retry(site.job().id, site.prober)  # pyright: ignore
    assert site.job().status == "queued"
    assert params(site.job()) == before


def test_the_image_of_a_wrong_line_stays(site: Site) -> None:
    lines = (
        '{"image": "a.png", "priority": 1, "priority": 2}',
        '{"image": "b.png", "tags": ["x\\u0000"]}',
        '{"image": "c.png", "meta.x": 1',
        '{"image": "d.png", "meta": "\\ud83d"}',
        '{"image": "\\ud83d.png", "meta": }',
        '{"image": 5, "meta": }',
        '{"image": "é.png"}',
    )
    for letter in "abcdé":
        site.put(f"{letter}.png", letter)
    site.put("shots.jsonl", "\n".join(lines))
    site.settle()
    assert [job.name for job in site.jobs()] == ["é.png"]
    assert site.left() == {"a.png", "b.png", "c.png", "d.png"}
    assert {r["row"]: r["image"] for r in report(site) if r["status"] == "wrong"} == {
        "1": "a.png", "2": "b.png", "3": "c.png", "4": "d.png", "5": "", "6": "",
    }  # fmt: skip


@pytest.mark.slow
def test_no_cell_holds_a_nul(site: Site) -> None:
    site.put("a.png")
    site.put("shots.csv", "image,meta.x\na.png,b\0c\n")
    site.settle()
    assert site.jobs() == []
    (row,) = report(site)
    assert (row["code"], row["column"]) == ("sidecar_invalid", "meta.x")


HELD = ["shots.csv", "jobs.yaml", "job.yaml", "a.yaml"]
TELLS = dict(
    zip(HELD, ["image\na.png\n", "images: [a.png]", "image: a.png", "priority: 3"], strict=True)
)


@pytest.fixture
def held(monkeypatch) -> set[str]:
    """Names of files that another program lets nobody read where they lie."""
    names: set[str] = set()
    opened, read = Path.open, job_rows.read_sidecar

    def refuse(path: Path) -> None:
        if path.name in names and ".dna" not in path.parts:
            raise PermissionError(13, "Permission denied", str(path))

    def read_sidecar(path: Path) -> bytes:
        refuse(path)
        return read(path)

    def open_path(path: Path, *args, **options):
        refuse(path)
        return opened(path, *args, **options)

    monkeypatch.setattr(job_rows, "read_sidecar", read_sidecar)
    monkeypatch.setattr(check_jobs, "read_sidecar", read_sidecar)
    monkeypatch.setattr(Path, "open", open_path)
    return names


@pytest.mark.parametrize("teller", HELD)
def test_what_is_held_open_is_waited_for(site: Site, held: set[str], teller: str) -> None:
    site.put("a.png")
    site.put(teller, TELLS[teller])
    held.add(teller)
    site.tick(120)
    assert site.jobs() == []
    waiting = site.waiting()
    assert waiting.pop(teller) == "cannot be read: Permission denied"
    assert "cannot be read" in waiting.pop("a.png")
    assert waiting == {}
    assert not site.gate.is_busy()
    assert teller in [c.sidecar for c in check_plan.candidates(site.config.inboxes[0]) if c.error]
    held.clear()
    site.settle()
    job = site.job()
    assert (job.name, job.status) == ("a.png", "queued")
    assert (job.batch is not None) == (teller in ("shots.csv", "jobs.yaml"))
    assert site.left() == set()


@pytest.mark.parametrize("teller", HELD)
def test_what_cannot_be_read_for_an_hour_is_given_up(
    site: Site, held: set[str], teller: str
) -> None:
    site.put("a.png")
    site.put(teller, TELLS[teller])
    site.put(f"{teller}.yaml", "priority: 3")
    held.add(teller)
    site.tick(10)
    assert set(site.waiting()) == {"a.png", teller, f"{teller}.yaml"}
    site.now += 3600
    site.tick()
    codes = {job.name: job.error and job.error["code"] for job in site.jobs()}
    assert codes.pop(f"{teller}.yaml", "image_missing") == "image_missing"
    assert codes == (
        {"a.png": "sidecar_invalid"}
        if teller == "a.yaml"
        else {"a.png": None, teller: "sidecar_invalid"}
    )


@pytest.mark.parametrize("teller", ["shots.csv", "jobs.yaml", "job.yaml"])
def test_what_cannot_be_read_holds_images_like_files_that_keep_coming(
    make_site: MakeSite, held: set[str], teller: str
) -> None:
    site = make_site(recursive=True)
    site.put("a.png")
    site.put("below/b.png")
    site.put(teller, TELLS[teller])
    held.add(teller)
    site.tick(20)
    assert [job.name for job in site.jobs()] == ["b.png"]
    assert site.waiting()["a.png"] == f"waits for {teller}, which may name it and cannot be read"
    site.now += LONGEST_RESTART_S
    site.settle()
    assert [job.name for job in site.jobs()] == ["b.png", "a.png"]
    assert site.left() == {teller}


def test_a_name_that_no_file_system_takes_is_a_wrong_row(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    library(site, "b.png")
    site.put("a.png")
    long = "a clay figurine, " * 20
    site.put("shots.csv", f'image\na.png\n"{long}"\nb.png\n"{site.root}/library/{long}"\n')
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png", "b.png"]
    assert {r["row"]: r["code"] for r in report(site) if r["status"] == "wrong"} == {
        "3": "image_missing",
        "5": "image_missing",
    }


def test_a_job_file_that_names_what_no_file_system_takes(site: Site) -> None:
    site.put("a.png")
    site.put("jobs.yaml", f"images: [a.png, {'long ' * 60}x.png]\n")
    site.tick(10)
    site.now += 3600
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png"]
    assert statuses(site)["2"] == "wrong"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("**.png", ["b.PNG", "c.png"]),
        ("*", ["a.jpg", "b.PNG", "c.png"]),
        ("*.png", ["b.PNG", "c.png"]),
        ("**/*.Png", ["b.PNG", "c.png", "d.png"]),
        ("S*/*.png", ["d.png"]),
        ("linked/*.png", ["d.png"]),
        ("[z-a]*.png", []),
    ],
)
def test_a_glob_in_a_source_root_fits_what_it_would_in_an_inbox(
    make_site: MakeSite, glob: str, found: list[str]
) -> None:
    site = make_site(source_roots=["library"])
    names = (
        "a.jpg", "b.PNG", "c.png", "sub/d.png", "._b.png", ".cache/e.png", "x.tmp", "notes.txt",
    )  # fmt: skip
    root = library(site, *names)
    (root / "linked").symlink_to("sub")
    (root / "round").symlink_to("round")
    site.put("all.yaml", f"images: {json.dumps(glob)}")
    site.tick(10)
    site.now += 3600
    site.settle()
    assert [job.name for job in site.jobs() if job.error is None] == found


def test_a_name_that_reads_like_a_glob_is_a_name_where_it_is_there(site: Site) -> None:
    for name in ("[a].png", "a.png", "b.png"):
        site.put(name, name)
    site.put("all.yaml", 'images: ["[a].png", "[b].png"]')
    site.settle()
    assert [job.name for job in site.jobs() if job.batch] == ["[a].png", "b.png"]


def test_too_many_globs_are_refused(site: Site) -> None:
    site.put("a.png")
    site.put("all.yaml", json.dumps({"images": [f"{n}*.png" for n in range(1001)]}))
    site.settle()
    (job,) = [job for job in site.jobs() if job.error]
    assert (job.error["code"], job.error["detail"]) == (
        "parameter_invalid",
        "images: more than 1,000 globs",
    )


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "keep"])
@pytest.mark.parametrize("where", ["../library/a.png", "../jobs/../library/a.png", "{inbox}"])
def test_a_job_file_names_an_image_beside_its_folder(
    make_site: MakeSite, originals: str, where: str
) -> None:
    site = make_site(originals=originals, recursive=True)
    site.put("library/a.png")
    text = where.format(inbox=f"{site.inbox}/library/a.png")
    site.put("jobs/one.yaml", f"image: {text}\npriority: 3\n")
    site.settle()
    job = site.job()
    assert (job.folder, job.name, job.priority, job.batch) == ("library", "a.png", 3, None)
    site.run_next()
    assert site.job().status == "completed"
    assert site.left() == (
        {"library/a.png", "jobs/one.yaml"} if originals == "keep" else set[str]()
    )


@pytest.mark.parametrize("where", ["a.png", "../library/a.png", "{root}/library/a.png"])
def test_a_job_file_names_an_image_in_a_source_root(make_site: MakeSite, where: str) -> None:
    site = make_site(source_roots=["library"], originals="delete")
    root = library(site, "a.png", "b.png")
    site.put("one.yaml", f"image: {where.format(root=site.root)}\npriority: 3\n")
    site.settle()
    assert [(job.name, job.priority) for job in site.jobs()] == [("a.png", 3)]
    run_all(site)
    assert statuses(site) == {"1": "completed"}
    assert (root / "a.png").read_bytes() == b"image a.png"
    assert (site.left(), site.claims()) == (set(), [])


def test_a_job_file_waits_for_an_image_that_comes_to_a_source_root(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    library(site, "b.png")
    site.put("one.yaml", "image: a.png\n")
    site.settle()
    assert site.waiting() == {"one.yaml": "waits for a.png, which its image: key names"}
    library(site, "a.png")
    site.settle()
    assert site.job().name == "a.png"


def test_a_job_file_names_what_is_in_no_source_root(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    library(site, "b.png")
    site.put("one.yaml", "image: ../library/a.png\n")
    site.settle()
    (row,) = report(site)
    assert (row["code"], row["detail"]) == ("image_missing", "there is no ../library/a.png")


def test_an_image_of_the_inbox_comes_before_one_of_a_source_root(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    library(site, "a.png")
    site.put("a.png", "of the inbox")
    site.put("one.yaml", "image: a.png\n")
    site.settle()
    job = site.job()
    assert (job.batch, site.drop(job).bytes) == (None, len("of the inbox"))


@pytest.mark.slow
def test_a_job_file_waits_for_a_source_root_that_is_away(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    site.put("one.yaml", "image: a.png\n")
    site.tick(10)
    site.now += 4000
    site.settle()
    assert site.jobs() == []
    assert "one of the inbox's source_roots, is not there" in site.waiting()["one.yaml"]
    library(site, "a.png")
    site.settle()
    assert site.job().name == "a.png"


def test_a_job_file_is_taken_once_its_source_root_is_there(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    site.put("one.yaml", "image: a.png\n")
    site.settle()
    assert site.jobs() == []
    library(site, "a.png")
    site.settle()
    assert site.job().name == "a.png"
    assert site.left() == set()


def test_a_matrix_of_an_image_in_a_source_root(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"], originals="keep")
    library(site, "[a].png", "a.png")
    site.put("one.yaml", 'image: "[a].png"\nmatrix: {priority: [1, 2]}\n')
    site.settle()
    assert [(job.name, job.priority) for job in site.jobs()] == [("[a].png", 1), ("[a].png", 2)]
    site.restart()
    site.settle()
    assert len(site.jobs()) == 2
    inbox = site.config.inboxes[0]
    assert check_plan.preview(site.config, inbox).candidates == []
