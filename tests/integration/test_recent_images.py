"""Job files and tables that come after their images were taken in alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from dna_pipeline.intake.claiming import late_sidecars
from dna_pipeline.intake.planning import recent_images
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.tables import Batch, BatchRow, Job
from tests.integration.conftest import Site
from tests.integration.test_batches import report, run_all

MakeSite = Callable[..., Site]


def clock(job: Job) -> str:
    return f"{job.created_at.astimezone():%H:%M}"


@pytest.mark.parametrize(
    "text", ['images: "*.png"', "images: [cat.png]", 'images: ["c?t.*", "none.png"]']
)
def test_a_job_file_that_waits_names_the_job_that_took_its_image(site: Site, text: str) -> None:
    site.put("cat.png", "cat")
    site.settle()
    job = site.job()
    site.put("jobs.yaml", text)
    site.settle()
    reason = site.waiting()["jobs.yaml"]
    assert reason.startswith("jobs.yaml waits for ")
    assert f"cat.png was taken in at {clock(job)} as job {job.id[:8]}" in reason
    assert f"`dna-pipeline cancel {job.id[:8]}`" in reason
    site.put("cat.png", "cat")
    site.put("none.png", "none")
    site.settle()
    assert site.left() == set()


@pytest.mark.slow
def test_an_image_of_another_table_is_that_tables_and_nobody_is_advised_to_cancel_it(
    site: Site,
) -> None:
    site.put("cat.png", "cat")
    site.put("first.csv", "image\ncat.png\n")
    site.settle()
    job = site.job()
    site.put("jobs.yaml", "images: [cat.png]")
    site.put("second.csv", "image,pipeline\ncat.png,other\n")
    site.settle()
    sentence = (
        f"cat.png was taken in at {clock(job)} as job {job.id[:8]} of first.csv, before this file "
        "came; that job does what first.csv says. To have this file used too, drop it again"
    )
    assert site.waiting()["jobs.yaml"].endswith(sentence)
    (wrong,) = site.rows(BatchRow, BatchRow.status == "wrong")
    assert wrong.detail.endswith(sentence)


def test_many_waiting_files_read_the_ledger_and_pair_the_masks_once(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(pipeline="two_stages", defaults={"img2img": {"mask": "file"}})
    calls = {"jobs": 0, "masks": 0}

    def count(name: str, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return real(*arguments)

        return call

    monkeypatch.setattr(drops, "recent_jobs", count("jobs", drops.recent_jobs))
    monkeypatch.setattr(late_sidecars, "masks_of", count("masks", late_sidecars.masks_of))
    for number in range(5):
        site.put(f"{number}.mask.png")
        site.put(f"{number}.yaml", f"images: [{number}.png]")
    for seconds in (0, 9, 10):
        site.gate.finder.find(site.now + seconds)
    calls.update(jobs=0, masks=0)
    site.gate.late_sidecars.explain()
    assert len(site.gate.finder.waiting) == 10
    assert calls == {"jobs": 1, "masks": 1}
    site.gate.finder.find(site.now + 20)
    site.gate.late_sidecars.explain()
    assert calls == {"jobs": 1, "masks": 1}


def test_it_still_says_so_at_each_look_and_after_a_restart(site: Site) -> None:
    site.put("cat.png", "cat")
    site.settle()
    run_all(site)
    site.put("jobs.yaml", 'images: "*.png"')
    site.settle()
    first = site.waiting()
    site.settle()
    assert site.waiting() == first
    site.restart()
    site.settle()
    assert site.waiting() == first


def test_of_many_images_the_newest_is_named(make_site: MakeSite) -> None:
    site = make_site(recursive=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        site.put(name, name)
        site.settle()
    site.put("all.yaml", 'images: "**/*.png"')
    site.put("top.yaml", 'images: "*.png"')
    site.put("jpegs.yaml", 'images: "*.jpg"')
    site.settle()
    waiting = site.waiting()
    assert "sub/c.png (at " in waiting["all.yaml"]
    assert "and 2 more images were taken in" in waiting["all.yaml"]
    assert "b.png (at " in waiting["top.yaml"]
    assert "and 1 more image were taken in" in waiting["top.yaml"]
    assert waiting["jpegs.yaml"] == "jpegs.yaml waits for *.jpg"


def test_a_row_of_a_table_says_so(site: Site) -> None:
    site.put("cat.png", "cat")
    site.settle()
    job = site.job()
    site.put("shots.csv", "image,pipeline\ncat.png,other\ndog.png,\n")
    site.settle()
    cat, dog = report(site)
    assert (cat["code"], cat["column"], dog["code"]) == ("image_missing", "image", "image_missing")
    assert cat["detail"].startswith("row 2: image: there is no 'cat.png'; cat.png was taken in at")
    assert f"as job {job.id[:8]}, before this file came" in cat["detail"]
    assert dog["detail"] == "row 3: image: there is no 'dog.png'"


@pytest.mark.slow
def test_a_job_file_that_waited_in_vain_says_so(site: Site) -> None:
    site.put("cat.png", "cat")
    site.settle()
    site.put("jobs.yaml", "images: [cat.png]")
    site.tick(3700)
    (row,) = report(site)
    assert (
        f"did not come within an hour; cat.png was taken in at {clock(site.job())}" in row["detail"]
    )


@pytest.mark.slow
def test_a_job_file_whose_globs_fit_nothing_fails_and_says_so(site: Site) -> None:
    site.put("cat.png", "cat")
    site.settle()
    site.put("jobs.yaml", 'images: "*.png"')
    site.put("jpegs.yaml", 'images: ["*.jpg", "x/*.jpg"]')
    site.tick(3700)
    first, *failed = site.jobs()
    errors = {job.name: job.error for job in failed if job.error is not None}
    assert {error["code"] for error in errors.values()} == {"image_missing"}
    assert errors["jpegs.yaml"]["detail"] == "no image fits *.jpg, x/*.jpg"
    assert errors["jobs.yaml"]["detail"].startswith(
        f"no image fits *.png; cat.png was taken in at {clock(first)} as job {first.id[:8]}"
    )
    assert site.left() == set()


def test_what_was_taken_in_long_ago_is_not_meant(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("cat.png", "cat")
    site.settle()
    later = datetime.now().astimezone() + recent_images.WINDOW + timedelta(minutes=1)
    monkeypatch.setattr(recent_images, "utcnow", lambda: later)
    site.put("jobs.yaml", 'images: "*.png"')
    site.settle()
    assert site.waiting()["jobs.yaml"] == "jobs.yaml waits for *.png"


def test_where_originals_are_kept_the_image_is_still_there(make_site: MakeSite) -> None:
    site = make_site(originals="keep")
    site.put("cat.png", "cat")
    site.settle()
    site.put("jobs.yaml", 'images: "*.png"\npipeline: other')
    site.settle()
    assert [job.pipeline for job in site.jobs()] == ["cut", "other"]


def test_a_job_file_that_names_an_image_of_an_earlier_one_is_taken_in(make_site: MakeSite) -> None:
    """Its row counts as done only if the same image, of the same folder, was done."""
    site = make_site(recursive=True, on_duplicate="skip")
    for name in ("a.png", "b.png"):
        site.put(name, name)
    site.put("first.yaml", "images: [a.png, b.png]")
    site.settle()
    run_all(site)
    site.put("c.png", "c")
    site.put("second.yaml", "images: [a.png, c.png]")
    site.put("sub/d.png", "d")
    site.put("sub/third.yaml", "images: [b.png, d.png]")
    site.tick(3700)
    assert {job.name for job in site.jobs()} == {"a.png", "b.png", "c.png", "d.png"}
    rows = {
        batch.name: site.rows(BatchRow, BatchRow.batch_id == batch.id) for batch in site.rows(Batch)
    }
    assert [row.status for row in rows["second.yaml"]] == ["skipped", None]
    assert [row.code for row in rows["third.yaml"]] == ["image_missing", None]
