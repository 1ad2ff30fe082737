"""Texts beside images: prompt files, and prompts and counts that change which jobs there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dna_pipeline.ledger.tables import Job
from dna_pipeline.operations import check_plan
from tests.integration.conftest import Site
from tests.integration.test_batches import statuses

MakeSite = Callable[..., Site]


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site(prompt_files=True, pipeline="paint")


def params(job: Job) -> dict[str, Any]:
    return job.stages[0]["params"]


def test_the_text_is_the_prompt_and_goes_with_the_image(site: Site) -> None:
    site.put("cat.txt", "a {stem}, red\n--negative_prompt low")
    site.put("cat.png")
    site.settle()
    job = site.job()
    assert (params(job)["prompt"], params(job)["negative_prompt"]) == ("a cat, red", "low")
    assert site.drop(job).sidecar == "cat.txt"
    assert site.left() == set()
    site.run_next()
    (source,) = site.outbox.rglob("cat.txt")
    assert source.read_text() == "a {stem}, red\n--negative_prompt low"


def test_a_yaml_beside_the_image_counts_and_the_text_stays(site: Site) -> None:
    site.put("cat.png.txt", "from text")
    site.put("cat.yaml", "img2img: {prompt: from yaml}")
    site.put("cat.png")
    site.settle()
    site.tick(5000)
    assert params(site.job())["prompt"] == "from yaml"
    assert site.left() == {"cat.png.txt"}


def test_other_texts_stay(site: Site) -> None:
    site.put("readme.txt", "hello")
    site.put("cat.png")
    site.settle()
    site.tick(5000)
    assert params(site.job())["prompt"].startswith("/cat.png in")
    assert site.left() == {"readme.txt"}
    assert "is the prompt of no image" in site.waiting()["readme.txt"]
    preview = check_plan.preview(site.config, site.config.inboxes[0])
    assert [candidate.paths for candidate in preview.candidates] == []


def test_a_text_that_comes_late_changes_the_queued_job(site: Site) -> None:
    site.put("cat.png")
    site.settle()
    site.put("cat.txt", "late")
    site.settle()
    assert params(site.job())["prompt"] == "late"
    assert site.left() == set()


def test_a_number_of_thousands_of_digits_fails_its_own_job_only(site: Site) -> None:
    site.put("cat.txt", f"a cat\n--seed {'9' * 5000}")
    site.put("cat.png", b"cat")
    site.put("dog.png", b"dog")
    site.settle()
    cat, dog = sorted(site.jobs(), key=lambda job: job.name)
    assert (cat.status, cat.error["code"]) == ("failed", "parameter_invalid")
    assert cat.error["detail"].startswith("line 2: img2img.seed: should be ")
    assert dog.status == "queued"


@pytest.mark.parametrize("is_late", [False, True])
def test_a_text_that_is_wrong_is_not_called_a_yaml(site: Site, is_late: bool) -> None:
    if is_late:
        site.put("cat.png")
        site.settle()
    site.put("cat.txt", '--prompt "a" --prompt "b"')
    if not is_late:
        site.put("cat.png")
    site.tick(60)
    site.publish()
    (text,) = site.outbox.rglob("ERROR.txt")
    said = text.read_text("utf-8")
    assert "The text beside the image cannot be used as its prompt file" in said
    assert "YAML" not in said


def test_an_option_that_is_no_parameter_fails(site: Site) -> None:
    site.put("cat.txt", "a cat\n--width 512")
    site.put("cat.png")
    site.settle()
    job = site.job()
    assert job.status == "failed"
    assert job.error is not None
    assert "img2img.width" in job.error["detail"]


def test_without_the_key_texts_are_no_business_of_the_inbox(make_site: MakeSite) -> None:
    site = make_site(pipeline="paint")
    site.put("cat.txt", "a cat")
    site.put("cat.png")
    site.settle()
    assert params(site.job())["prompt"] != "a cat"
    assert site.left() == {"cat.txt"}


# --- tables ---


def png(site: Site, name: str, prompt: str | None) -> None:
    info = PngInfo()
    if prompt is not None:
        info.add_text("parameters", prompt)
    site.inbox.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(site.inbox / name, pnginfo=info)


def test_rows_take_the_prompts_of_their_images(site: Site) -> None:
    png(site, "a.png", "first")
    png(site, "b.png", "second")
    png(site, "c.png", None)
    site.put("t.csv", "image,img2img.from_metadata\na.png,true\nb.png,true\nc.png,true\n")
    site.settle()
    one, two, three = site.jobs()
    assert [params(one)["prompt"], params(two)["prompt"]] == ["first", "second"]
    assert three.status == "failed"
    assert three.error is not None
    assert "no texts of a program" in three.error["detail"]


def test_a_row_with_the_prompt_of_its_image_is_done_though_that_was_archived(
    make_site: MakeSite,
) -> None:
    site = make_site(pipeline="paint", on_duplicate="skip")
    png(site, "a.png", "first")
    table = "image,img2img.from_metadata\na.png,true\n"
    site.put("t.csv", table)
    site.settle()
    site.run_next()
    site.put("again.csv", table)
    site.settle()
    assert statuses(site) == {"2": "skipped"}
    png(site, "a.png", "second")
    site.put("third.csv", table)
    site.settle()
    assert [params(job)["prompt"] for job in site.jobs()] == ["first", "second"]


def test_a_count_in_a_table_makes_jobs_with_seeds_of_their_own(site: Site) -> None:
    site.put("a.png")
    site.put("b.png")
    site.put("t.csv", "image,count,seed\na.png,2,5\nb.png,3,-1\n")
    site.settle()
    jobs = site.jobs()
    assert [job.name for job in jobs] == ["a.png", "b.png", "a.png", "b.png", "b.png"]
    assert [params(job)["seed"] for job in jobs if job.name == "a.png"] == [5, 6]
    drawn = {params(job)["seed"] for job in jobs if job.name == "b.png"}
    assert len(drawn) == 3


def test_a_sidecar_with_a_count_makes_several_jobs(site: Site) -> None:
    site.put("a.png.yaml", "count: 3\nseed: 1")
    site.put("a.png")
    site.settle()
    assert [params(job)["seed"] for job in site.jobs()] == [1, 2, 3]


def test_a_kept_image_is_made_again_when_its_text_changes(make_site: MakeSite) -> None:
    site = make_site(prompt_files=True, pipeline="paint", originals="keep", on_change="all")
    site.put("cat.png")
    site.put("cat.txt", "first")
    site.settle()
    site.put("cat.txt", "second, longer")
    site.settle()
    site.settle()
    assert [params(job)["prompt"] for job in site.jobs()] == ["first", "second, longer"]
    assert site.left() == {"cat.png", "cat.txt"}
