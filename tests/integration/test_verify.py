"""`verify` compares the outbox with the ledger, and single jobs with their results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import EmptyMesh
from dna_pipeline.ledger import queue
from tests.commands import call
from tests.integration.conftest import Site


@pytest.fixture
def two(site: Site) -> Site:
    """Two results."""
    for name in ("cat", "dog"):
        site.put(f"{name}.png", name)
        site.settle()
        site.run_next()
    return site


def folders(site: Site) -> list[Path]:
    return [site.outbox / str(job.publish_name) for job in site.jobs()]


def verified(site: Site, *targets: str) -> tuple[int, list[dict[str, Any]]]:
    done = call(site.root, "verify", "--json", *targets)
    return done.returncode, json.loads(done.stdout)


def test_a_result_folder_that_is_gone_is_missing(two: Site) -> None:
    cat, dog = folders(two)
    shutil.rmtree(cat)
    status, (there, gone) = verified(two)
    assert status == 1
    assert (there["folder"], there["problems"], there["missing"]) == (str(dog), [], False)
    job = two.jobs()[0].id
    assert (gone["folder"], gone["job"], gone["missing"]) == (str(cat), job, True)
    assert gone["problems"] == [f"missing: the result folder of job {job[:8]} is not there"]
    done = call(two.root, "verify")
    assert f"{cat}: missing: " in done.stdout
    assert "2 results with 1 files looked at, 1 with problems" in done.stderr


def test_a_manifest_that_is_gone_is_missing(two: Site) -> None:
    (folders(two)[0] / "manifest.json").unlink()
    status, results = verified(two)
    assert status == 1
    assert [result["missing"] for result in results] == [False, True]
    assert "missing: manifest.json of job" in results[1]["problems"][0]


def test_a_result_that_people_moved_within_the_outbox_is_not_missing(two: Site) -> None:
    (two.outbox / "best").mkdir()
    folders(two)[0].rename(two.outbox / "best" / folders(two)[0].name)
    assert verified(two)[0] == 0
    status, (result,) = verified(two, two.jobs()[0].id)
    assert (status, Path(result["folder"]).parent) == (0, two.outbox / "best")


def test_only_the_jobs_that_are_named_are_looked_at(two: Site) -> None:
    cat, dog = two.jobs()
    shutil.rmtree(folders(two)[0])
    status, (result,) = verified(two, dog.id[:10])
    assert (status, result["job"], result["files"]) == (0, dog.id, 1)
    status, (result,) = verified(two, cat.id[:10])
    assert (status, result["missing"]) == (1, True)
    next(folders(two)[1].glob("*.png")).write_bytes(b"changed")
    assert verified(two, dog.id)[0] == 1
    assert verified(two, str(two.outbox))[0] == 1


def test_a_failed_job_and_one_whose_failure_was_retried_miss_nothing(two: Site) -> None:
    two.put("owl.png", b"owl")
    two.settle()
    job = two.claim_next()
    two.ledger.transact(lambda s: queue.fail(s, job.id, EmptyMesh("none").failure(), None))
    two.publish()
    assert verified(two)[0] == 0
    done = call(two.root, "verify", job.id)
    assert done.returncode == 2
    assert f"job {job.id[:8]} is failed; only completed jobs have results" in done.stderr


def test_what_is_neither_a_job_nor_a_path_is_a_wrong_call(two: Site) -> None:
    for target, words in (("ffff", "no job's id begins with"), ("x/y", "no such file or folder")):
        done = call(two.root, "verify", target)
        assert done.returncode == 2
        assert words in done.stderr
