"""Tables and job files as strange programs and people make them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.intake.discovery.names import is_sidecar_of
from dna_pipeline.ledger.tables import Batch
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.publish.outbox import Outbox
from tests.integration.conftest import Site
from tests.integration.test_batches import fail_next, library, params, report, run_all, statuses
from tests.integration.test_cli import picture

MakeSite = Callable[..., Site]

NAMES = (
    "a b.png",
    "=1+1.png",
    "été 漢字.png",
    'in "quotes".png',
    "two\nlines.png",
    "semi;colon, .png",
    "-x.png",
    "'.png",
    "100%.png",
    "#1.png",
    "{name}.png",
    "[a].png",
    "*.png",
)


def quoted(*cells: str) -> str:
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_odd_names_in_cells(make_site: MakeSite, originals: str) -> None:
    site = make_site(originals=originals)
    for name in NAMES:
        site.put(name, name)
    lines = [quoted("image", "meta.told"), *(quoted(name, f"{name} told") for name in NAMES)]
    site.put("shots.csv", "\r\n".join(lines))
    site.settle()
    assert [job.name for job in site.jobs()] == list(NAMES)
    assert [job.meta["told"] for job in site.jobs()] == [f"{name} told" for name in NAMES]
    run_all(site)
    assert set(statuses(site).values()) == {"completed"}
    assert {row["row"] for row in report(site)} == {str(n) for n in range(2, len(NAMES) + 2)}


ROWS = (
    ["image", "remove_background.force", "meta.note"],
    ["a.png", "true", "two\nlines"],
    ["b.png", "x", "é"],
)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_as_any_spreadsheet_writes_it(
    site: Site, encoding: str, delimiter: str, end: str
) -> None:
    for name in "ab":
        site.put(f"{name}.png", name)
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in ROWS]
    site.put("shots.csv", (end.join(lines) + end).encode(encoding))
    site.settle()
    (job,) = site.jobs()
    assert (job.name, job.meta) == ("a.png", {"note": "two\nlines"})
    assert [(r["row"], r["column"]) for r in report(site) if r["status"] == "wrong"] == [
        ("3", "remove_background.force")
    ]


def test_columns_twice_make_no_table(site: Site) -> None:
    site.put("a.png")
    site.put("shots.csv", "image,seed,seed\na.png,1,2\n")
    site.settle()
    assert (
        "two columns are called 'seed'"
        in {j.name: j for j in site.jobs()}["shots.csv"].error["detail"]
    )
    assert site.rows(Batch) == []


def test_a_table_that_is_replaced_while_it_is_read(make_site: MakeSite, monkeypatch) -> None:
    site = make_site(source_roots=["library"])
    library(site, "a.png", "b.png")
    site.put("shots.csv", "image\na.png\n")
    site.tick(4)
    probe, done = site.prober.probe, []

    def replaced(path):
        if not done:
            done.append(site.put("new", "image\nb.png\n").rename(site.inbox / "shots.csv"))
        return probe(path)

    site.prober.probe = replaced
    site.settle()
    assert done
    assert [job.name for job in site.jobs()] == ["b.png"]
    assert len(site.rows(Batch)) == 1
    assert site.left() == set()


@pytest.mark.slow
def test_two_tables_of_one_image(site: Site) -> None:
    site.put("a.png", "a")
    site.put("1.csv", "image\na.png\n")
    site.put("2.csv", "image\na.png\n")
    site.settle()
    assert len(site.jobs()) == 1
    assert statuses(site) == {"2": "skipped"}
    site.put("1.csv", "image,remove_background.force\nb.png,true\n")
    site.put("2.csv", "image,remove_background.force\nb.png,false\n")
    site.put("b.png", "b")
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png", "b.png"]
    assert statuses(site) == {"2": "wrong"}


def test_two_tables_of_one_image_kept(make_site: MakeSite) -> None:
    site = make_site(originals="keep")
    site.put("a.png", "a")
    site.put("1.csv", "image,remove_background.force\na.png,true\n")
    site.put("2.csv", "image,remove_background.force\na.png,false\n")
    site.settle()
    assert [job.stages[0]["params"]["force"] for job in site.jobs()] == [True, False]


def test_the_yaml_of_a_table_comes_late(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    library(site, "a.png")
    site.put("shots.csv", "image\na.png\n")
    site.settle()
    assert [job.priority for job in site.jobs()] == [0]
    site.put("shots.csv.yaml", "priority: 7\n")
    site.settle()
    job, late = site.jobs()
    assert (job.status, job.priority, late.status, late.name) == (
        "queued",
        0,
        "failed",
        "shots.csv.yaml",
    )
    assert late.error is not None
    assert late.error["code"] == "image_missing"
    (batch,) = site.rows(Batch)
    assert f"batch shots-{batch.id[:8]}" in late.error["detail"]


def test_the_yaml_of_a_table_waits_for_it(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    library(site, "a.png")
    site.put("shots.csv.yaml", "priority: 7\n")
    site.settle()
    assert site.waiting() == {"shots.csv.yaml": "waits for a table called shots.csv"}
    site.put("shots.csv", "image\na.png\n")
    site.settle()
    assert [job.priority for job in site.jobs()] == [7]
    # The next one is on its way, as far as anyone can tell.
    site.put("shots.csv.yaml", "priority: 7\n")
    site.settle()
    assert len(site.jobs()) == 1


@pytest.mark.slow
def test_a_job_file_in_a_folder_names_a_library(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"], recursive=True)
    library(site, "a.png", "b.png")
    site.put("sub/all.yaml", 'images: "../../library/*.png"\n')
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png", "b.png"]
    run_all(site)
    assert set(statuses(site).values()) == {"completed"}
    (batch,) = site.rows(Batch)
    assert (site.outbox / f"in/sub/all-{batch.id[:8]}/batch.csv").is_file()


@pytest.mark.parametrize("text", ['images: ["A.png"]', 'images: "a.*"', "images: A.PNG"])
def test_the_case_of_extensions_and_globs_is_passed_over(site: Site, text: str) -> None:
    site.put("A.PNG", "a")
    site.put("all.yaml", text)
    site.settle()
    assert [job.name for job in site.jobs()] == ["A.PNG"]
    assert statuses(site) == {"1": "queued"}


@pytest.mark.parametrize("folder", ["failed", "latest", "sub/failed"])
def test_folders_with_names_of_ours(make_site: MakeSite, folder: str) -> None:
    site = make_site(recursive=True)
    for name in ("a.png", "b.png"):
        site.put(f"{folder}/{name}", name)
    site.put(f"{folder}/shots.csv", "image,remove_background.force\na.png,true\nb.png,7\n")
    site.settle()
    run_all(site)
    (batch,) = site.rows(Batch)
    assert statuses(site) == {"2": "completed", "3": "wrong"}
    shown = folder if "/" in folder else f"{folder}_"
    assert (site.outbox / f"in/{shown}/shots-{batch.id[:8]}/source/shots.csv").is_file()
    assert site.left() == {f"{folder}/b.png"}
    manifest = json.loads(next(site.outbox.rglob("manifest.json")).read_bytes())
    assert manifest["input"]["name"] == "a.png"


def test_the_image_of_a_row_with_a_cell_too_many_stays(site: Site) -> None:
    site.put("a.png", "a")
    site.put("b.png", "b")
    site.put("shots.csv", "image\na.png\nb.png,astray\n")
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png"]
    assert site.left() == {"b.png"}
    site.put("shots.csv", "image\na.png\nb.png\n")
    site.settle()
    assert statuses(site) == {"2": "skipped", "3": "queued"}


def test_a_row_that_is_retried_says_what_it_said(make_site: MakeSite) -> None:
    site = make_site(source_roots=["library"])
    picture(library(site) / "a.png")
    site.put("my shots.csv", "image,img2img.prompt,pipeline\na.png,{batch} {row},paint\n")
    site.settle()
    before = params(site.job())
    assert before["prompt"] == "my shots 2"
    fail_next(site)
    Retrier(site.config, site.ledger).retry(site.job().id, site.prober)  # pyright: ignore
    assert params(site.job()) == before


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_a_data_folder_below_one_called_as_ours(
    make_site: MakeSite, tmp_path: Path, originals: str
) -> None:
    """Copies lie in the data folder: it is not told by its name what was moved."""
    site = make_site(tmp_path / ".dna", originals=originals, source_roots=["library"])
    library(site, "b.png")
    site.put("a.png")
    site.put("shots.csv", "image\na.png\nb.png\n")
    site.settle()
    run_all(site)
    assert statuses(site) == {"2": "completed", "3": "completed"}
    assert not (site.inbox / ".dna").exists()


@pytest.mark.slow
def test_what_was_done_before_is_archived_by_its_place(make_site: MakeSite) -> None:
    site = make_site(recursive=True)
    for name in ("a.png", "sub/a.png"):
        site.put(name, name)
    table = "image\na.png\n../a.png\n"
    site.put("sub/shots.csv", table)
    site.settle()
    run_all(site)
    for name in ("a.png", "sub/a.png"):
        site.put(name, name)
    site.put("sub/shots.csv", table)
    site.settle()
    assert statuses(site) == {"2": "skipped", "3": "skipped"}
    newest = max(site.rows(Batch), key=lambda batch: batch.created_at)
    source = site.outbox / f"in/sub/shots-{newest.id[:8]}/source"
    assert (source / "a.png").read_text() == "sub/a.png"
    assert (source / "_/a.png").read_text() == "a.png"


LONGEST = "é" * 125 + "x.png"


@pytest.mark.slow
def test_the_longest_name_has_room_for_a_yaml(site: Site) -> None:
    site.put(LONGEST, "a")
    site.put("shots.csv", f"image,remove_background.force\n{LONGEST},true\n{LONGEST},false\n")
    site.settle()
    fail_next(site)
    (told,) = site.outbox.glob("in/failed/*/source/*.y*ml")
    assert is_sidecar_of(told.name, LONGEST)
    Retrier(site.config, site.ledger).retry(site.jobs()[0].id, site.prober)  # pyright: ignore
    run_all(site)
    assert set(statuses(site).values()) == {"completed"}


TWINS = [("q?b", "q_b"), ("..", "_")]


@pytest.mark.slow
@pytest.mark.parametrize("folders", TWINS)
@pytest.mark.parametrize("killed", [False, True])
def test_originals_of_folders_that_become_one_are_all_kept(
    make_site: MakeSite, folders: tuple[str, str], killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images of equal size that were done before come once more, and so make no jobs."""
    site = make_site(recursive=True)
    images = {f"jobs/{folder}/x.png": f"image {n}" for n, folder in enumerate(folders)}
    names = [name.removeprefix("jobs/") for name in images]
    for _ in range(2):
        (site.inbox / "jobs").mkdir(exist_ok=True)
        for name, data in images.items():
            site.put(name, data)
        site.put("jobs/shots.csv", "\n".join(["image", *names]))
        site.settle()
        run_all(site)
        if killed:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(Outbox, "put", _die)
                report(site)
            site.restart()
        report(site)
    assert site.left() == set()
    batch = max(site.rows(Batch), key=lambda batch: batch.created_at)
    assert set(statuses(site).values()) == {"skipped"}
    source = site.outbox / f"in/jobs/shots-{batch.id[:8]}/source"
    kept = sorted(path.read_text() for path in source.rglob("*") if path.is_file())
    assert kept == sorted([*images.values(), (source / "shots.csv").read_text()])


def _die(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("table", ["image\nchairs\\a.png\n", "image\n.\\chairs\\a.png\n"])
def test_paths_with_the_separators_of_windows(site: Site, table: str) -> None:
    site.put("chairs/a.png", "a")
    site.put("shots.csv", table)
    site.settle()
    assert [(job.folder, job.name) for job in site.jobs()] == [("chairs", "a.png")]
    assert [row["image"] for row in report(site)] == ["chairs/a.png"]


@pytest.mark.parametrize(
    "text", ["images: 'chairs\\*.png'", "images: ['chairs\\a.png']", "image: chairs\\a.png"]
)
def test_job_files_with_the_separators_of_windows(make_site: MakeSite, text: str) -> None:
    site = make_site(recursive=True)
    site.put("chairs/a.png", "a")
    site.put("all.yaml", text)
    site.settle()
    assert [(job.folder, job.name, job.status) for job in site.jobs()] == [
        ("chairs", "a.png", "queued")
    ]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("..\\a.png", "leads out of the inbox"),
        ("C:\\Users\\me\\chairs\\a.png", "begins with a drive of Windows; write the path from the"),
        ("\\\\nas\\share\\a.png", "is a folder on the network"),
        ("https://example.org/a.png", "is a web address; save the image in the inbox"),
    ],
)
def test_paths_that_lead_nowhere_are_called_what_they_are(
    site: Site, path: str, words: str
) -> None:
    site.put("shots.csv", f"image\n{path}\n")
    site.settle()
    (row,) = report(site)
    assert (row["code"], row["column"]) == ("path_escapes_inbox", "image")
    assert words in row["detail"]
