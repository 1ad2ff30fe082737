"""The names of result folders: from a template, through a restart and a retry."""

from __future__ import annotations

from collections.abc import Callable

from dna_pipeline.ledger.tables import Batch
from dna_pipeline.operations.retry import Retrier
from tests.integration.conftest import Site
from tests.integration.test_batches import fail_next, run_all

MakeSite = Callable[..., Site]
MATRIX = "matrix: {remove_background.force: [true, false]}\n"


def names(site: Site) -> list[str]:
    """The names of the published folders, without the jobs' ids."""
    return [folder.rpartition("/")[2].rpartition("-")[0] for folder in site.folders()]


def test_without_a_template_it_is_that_of_the_image(site: Site) -> None:
    site.put("cat.png")
    site.settle()
    run_all(site)
    assert site.folders() == [f"in/cat-{site.job().id[:8]}"]
    assert site.job().result_name is None


def test_the_inboxs_template(make_site: MakeSite) -> None:
    site = make_site(result_name="{pipeline}_{stem}")
    site.put("cat.png")
    site.settle()
    site.restart()
    run_all(site)
    assert site.folders() == [f"in/cut_cat-{site.job().id[:8]}"]
    assert (site.outbox / site.folders()[0] / "cat.matte.png").is_file()


def test_that_of_a_job_file(site: Site) -> None:
    for image in "ab":
        site.put(f"{image}.png", image)
    site.put("all.yaml", f'images: "*.png"\nresult_name: "{{row}}-{{batch}}-{{name}}"\n{MATRIX}')
    site.settle()
    run_all(site)
    assert names(site) == ["1-all-a.png", "2-all-a.png", "3-all-b.png", "4-all-b.png"]


def test_that_of_a_tables_sidecar(site: Site) -> None:
    site.put("a.png")
    site.put("shots.csv", "image,meta.shot\na.png,s01\na.png,s02\n")
    site.put("shots.csv.yaml", 'result_name: "{meta.shot}"\non_duplicate: run\n')
    site.settle()
    run_all(site)
    assert names(site) == ["s01", "s02"]


def test_a_wrong_placeholder_fails_the_drop(site: Site) -> None:
    site.put("cat.png")
    site.put("cat.yaml", 'result_name: "{img2img.strength}"\n')
    site.settle()
    job = site.job()
    assert (job.status, job.error and job.error["code"]) == ("failed", "parameter_invalid")
    assert "remove_background.force" in job.error["detail"]


def test_a_retry_keeps_the_name_that_the_matrix_gave(site: Site) -> None:
    site.put("cat.png")
    site.put("cat.yaml", MATRIX)
    site.settle()
    fail_next(site)
    (failed,) = (job for job in site.jobs() if job.status == "failed")
    assert site.folders() == [f"in/failed/cat-{failed.id[:8]}"]
    Retrier(site.config, site.ledger).retry(failed.id, site.prober)
    site.restart()
    run_all(site)
    assert sorted(names(site)) == ["cat-false", "cat-true"]


def test_the_rows_of_a_plan_know_their_axes(site: Site) -> None:
    for image in "ab":
        site.put(f"{image}.png", image)
    site.put("all.yaml", f'images: "*.png"\n{MATRIX}')
    site.settle()
    run_all(site)
    (batch,) = site.rows(Batch)
    assert batch.axes == [
        {"name": "image", "values": ["a.png", "b.png"]},
        {"name": "remove_background.force", "values": [True, False]},
    ]
    assert sorted(names(site)) == ["a-false", "a-true", "b-false", "b-true"]
