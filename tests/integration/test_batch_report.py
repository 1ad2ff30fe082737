"""`batch.csv` in the form of its table, with the columns in which its rows differ."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable

import pytest

from dna_pipeline.base.layout import BATCH_REPORT
from dna_pipeline.config.dialect import Dialect
from dna_pipeline.ledger import batches
from dna_pipeline.ledger.tables import Batch
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.publish.batch_report import COLUMNS
from tests.integration.conftest import Site
from tests.integration.test_batches import fail_next, report, run_all
from tests.integration.test_repair import mended

MakeSite = Callable[..., Site]


def written(site: Site) -> str:
    """The bytes of the one batch.csv there is, as text."""
    site.accounts().write()
    (path,) = site.outbox.rglob(BATCH_REPORT)
    return path.read_bytes().decode()


def dropped(site: Site, data: bytes | str, name: str = "shots.csv") -> Site:
    for image in "abc":
        site.put(f"{image}.png", image)
    site.put(name, data)
    site.settle()
    return site


EXCEL = "\ufeffsep=;\r\nimage;img2img.prompt;img2img.strength;pipeline\r\n"
ROWS = "a.png;a, b;0,6;paint\r\nb.png;=c;0,45;paint\r\n"


@pytest.mark.slow
def test_it_is_written_as_its_table_is(site: Site) -> None:
    dropped(site, EXCEL + ROWS)
    run_all(site)
    sep, head, a, b, end = written(site).split("\r\n")
    assert (sep, end) == ("\ufeffsep=;", "")
    assert head == ";".join([*COLUMNS, "img2img.prompt", "img2img.strength"])
    cells = a.split(";")
    assert (cells[:2], cells[-2:]) == (["2", "a.png"], ["a, b", "0,6"])
    assert re.fullmatch(r"[0-9]+,[0-9]", cells[COLUMNS.index("seconds")])
    assert b.split(";")[-2:] == ["'=c", "0,45"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("image\tpriority\ra.png\t1\rb.png\t2\r", "row\timage\tjob"),
        ("image|priority\na.png|1\nb.png|2\n", "row|image|job"),
        ("image,priority\na.png,1\nb.png,2\n", "row,image,job"),
        ("\ufeffimage,priority\r\na.png,1\r\nb.png,2\r\n", "\ufeffrow,image,job"),
        ("sep=;\nimage;priority\na.png;1\nb.png;2\n", "sep=;\nrow;image;job"),
    ],
)
def test_separator_mark_and_line_end(site: Site, text: str, start: str) -> None:
    made = written(dropped(site, text))
    assert made.startswith(start)
    end = "\r\n" if "\r\n" in text else "\r" if "\r" in text else "\n"
    lines = made.split(end)
    assert lines[-1] == ""
    assert len(lines) == 4 + text.startswith("sep")
    assert not set("\r\n") & set("".join(lines))


def test_a_table_in_utf16_is_answered_in_utf8_with_a_mark(site: Site) -> None:
    table = "image\timg2img.prompt\tpipeline\r\na.png\té\tpaint\r\nb.png\t猫\tpaint\r\n"
    made = written(dropped(site, table.encode("utf-16")))
    assert made.startswith("\ufeffrow\timage")
    assert [line.split("\t")[-1] for line in made.splitlines()] == ["img2img.prompt", "é", "猫"]


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
def test_the_form_outlives_a_restart(make_site: MakeSite, originals: str) -> None:
    site = dropped(make_site(originals=originals), EXCEL + ROWS)
    first = written(site)
    site.restart()
    (path,) = site.outbox.rglob(BATCH_REPORT)
    path.unlink()
    assert written(site) == first
    run_all(site)
    head, *rows = written(site).split("\r\n")[1:]
    assert head == first.split("\r\n")[1]
    assert [row.split(";")[3] for row in rows if row] == ["completed", "completed"]


def test_the_form_outlives_a_ledger_that_is_rebuilt(site: Site) -> None:
    dropped(site, EXCEL + ROWS)
    (batch,) = site.rows(Batch)
    site.close()
    mended(site)
    kept = site.ledger.transact(lambda s: batches.dialect_of(s, batch.id))
    assert Dialect.from_json(kept) == Dialect(";", "\r\n", True, True, ",")


def test_a_job_file_is_answered_in_a_plain_comma_table(site: Site) -> None:
    dropped(site, 'images: "*.png"\nmatrix: {remove_background.force: [true, false]}\n', "all.yaml")
    made = written(site)
    assert made.startswith(",".join([*COLUMNS, "remove_background.force"]) + "\r\n1,")
    rows = list(csv.DictReader(io.StringIO(made, newline="")))
    assert [(r["image"], r["remove_background.force"]) for r in rows] == [
        (f"{name}.png", force) for name in "abc" for force in ("true", "false")
    ]


def test_a_matrix_shows_its_axes(site: Site) -> None:
    axes = "{img2img.seed: [1, 2], img2img.strength: [0.4, 0.6], priority: [1, 5]}"
    site.put("cat.png.yaml", f"pipeline: paint\nmatrix: {axes}\n")
    site.put("cat.png")
    site.settle()
    rows = report(site)
    assert list(rows[0])[len(COLUMNS) :] == ["priority", "img2img.prompt", "img2img.seed",
                                              "img2img.strength"]  # fmt: skip
    told = [(r["img2img.seed"], r["img2img.strength"], r["priority"]) for r in rows]
    assert told == [(s, d, p) for s in "12" for d in ("0.4", "0.6") for p in "15"]
    # The prompt of that pipeline holds the seed, so that it differs as well.
    assert rows[0]["img2img.prompt"] == "/cat.png in in, 1"


def test_only_what_differs_has_a_column(site: Site) -> None:
    dropped(site, "image,remove_background.force,meta.a\na.png,true,x\nb.png,true,x\n")
    assert list(report(site)[0]) == list(COLUMNS)


def test_meta_tags_and_times(site: Site) -> None:
    lines = [
        {"image": "a.png", "meta": {"asset": "chair", "n": 1, "same": 0}, "tags": ["x", "y"]},
        {"image": "b.png", "meta": {"asset": "=chair", "n": -1.5, "same": 0}},
        {"image": "c.png", "meta": {"same": 0, "list": [1]}, "not_before": "2099-01-01T00:00:00Z"},
    ]
    dropped(site, "\n".join(map(json.dumps, lines)), "shots.jsonl")
    a, b, c = report(site)
    extra = list(a)[len(COLUMNS) :]
    assert extra[:2] == ["not_before", "tags"]
    assert set(extra[2:]) == {"meta.asset", "meta.n", "meta.list"}
    assert (a["meta.asset"], a["meta.n"], a["tags"]) == ("chair", "1", "x, y")
    assert (b["meta.asset"], b["meta.n"], b["tags"]) == ("'=chair", "-1.5", "")
    assert (c["meta.asset"], c["meta.list"]) == ("", "[1]")
    assert c["not_before"].startswith("2099-01-01T00:00:00")


def test_rows_of_several_pipelines_show_what_each_sets(site: Site) -> None:
    table = "image,pipeline,img2img.prompt,remove_background.force\n"
    dropped(site, f"{table}a.png,,,true\nb.png,paint,oak,\nc.png,nowhere,,\n")
    a, b, wrong = report(site)
    assert list(a)[len(COLUMNS) :] == ["pipeline", "remove_background.force", "img2img.prompt"]
    assert (a["pipeline"], a["remove_background.force"], a["img2img.prompt"]) == ("cut", "true", "")
    assert (b["pipeline"], b["remove_background.force"], b["img2img.prompt"]) == (
        "paint", "", "oak",
    )  # fmt: skip
    assert wrong["status"] == "wrong"
    assert set(list(wrong.values())[len(COLUMNS) :]) == {""}


def test_many_rows_differ_late(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "REPORTED_AT_ONCE", 4)
    table = "".join(f"a.png,{int(n == 17)}\n" for n in range(20))
    dropped(site, f"image,priority\n{table}")
    assert [row["priority"] for row in report(site)] == ["0"] * 17 + ["1"] + ["0"] * 2


@pytest.mark.slow
def test_a_row_that_is_retried_with_another_value_shows_it(site: Site) -> None:
    dropped(site, "image\na.png\nb.png\nc.png\n")
    accounts = site.accounts()
    accounts.write()
    (path,) = site.outbox.rglob(BATCH_REPORT)
    assert "force" not in path.read_text()
    job = site.jobs()[0]
    fail_next(site)
    (told,) = site.outbox.glob("in/failed/*/source/*.y*ml")
    told.write_text("remove_background: {force: true}\n")
    Retrier(site.config, site.ledger).retry(job.id, site.prober)  # pyright: ignore
    accounts.ledger_changed()
    accounts.write()
    rows = csv.DictReader(io.StringIO(path.read_text()))
    assert [row["remove_background.force"] for row in rows] == ["true", "false", "false"]
