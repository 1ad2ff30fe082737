"""Tables and job files as strange programs and people make them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.intake import preview, records
from dna_pipeline.intake.resubmit import Retrier
from dna_pipeline.ledger.tables import Batch
from dna_pipeline.probe import Prober
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
    Retrier(site.config, site.ledger).retry(site.job().id, Prober())
    assert params(site.job()) == before


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
    Retrier(site.config, site.ledger).retry(site.job().id, Prober())
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
    """Names of files that another program lets nobody read."""
    names: set[str] = set()
    opened, read = Path.open, records.read_sidecar

    def refuse(path: Path) -> None:
        if path.name in names:
            raise PermissionError(13, "Permission denied", str(path))

    def read_sidecar(path: Path) -> bytes:
        refuse(path)
        return read(path)

    def open_path(path: Path, *args, **options):
        refuse(path)
        return opened(path, *args, **options)

    monkeypatch.setattr(records, "read_sidecar", read_sidecar)
    monkeypatch.setattr(preview, "read_sidecar", read_sidecar)
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
    assert teller in [c.sidecar for c in preview.candidates(site.config.inboxes[0]) if c.error]
    held.clear()
    site.settle()
    job = site.job()
    assert (job.name, job.status) == ("a.png", "queued")
    assert (job.batch is not None) == (teller in ("shots.csv", "jobs.yaml"))
    assert site.left() == set()


def test_an_image_waits_no_longer_than_an_hour_for_what_cannot_be_read(
    site: Site, held: set[str]
) -> None:
    site.put("a.png")
    site.put("shots.csv", TELLS["shots.csv"])
    held.add("shots.csv")
    site.put("shots.csv.yaml", "priority: 3")
    site.tick(10)
    assert set(site.waiting()) == {"a.png", "shots.csv", "shots.csv.yaml"}
    site.now += 3600
    site.tick()
    assert site.job().batch is None
    assert site.left() == {"shots.csv", "shots.csv.yaml"}


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
    assert preview.new_candidates(site.config, inbox) == []
