"""Whatever door a job comes through, its parameters may tell its image's name, place and bytes."""

import hashlib
import io

import pytest

from dna_pipeline.ledger import queue
from dna_pipeline.ledger.tables import Job
from dna_pipeline.operations import check_jobs, check_plan
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.operations.submit import Submission, Submitter, document_from_options

SEED = int(hashlib.sha256(b"cat").hexdigest()[:8], 16)
FROM_CONTENT = {"img2img": {"seed": "from_content"}}


@pytest.fixture
def site(make_site):
    return make_site(pipeline="paint", recursive=True, defaults=FROM_CONTENT)


def told(job: Job) -> str:
    assert job.error is None, job.error
    return job.stages[0]["params"]["prompt"]


def test_dropped(site) -> None:
    site.put("a/b/cat.png", b"cat")
    site.put("a/b/copy of cat.png", b"cat")
    site.settle()
    assert [told(job) for job in site.jobs()] == [
        f"a/b/cat.png in in, {SEED}",
        f"a/b/copy of cat.png in in, {SEED}",
    ]
    assert {job.stages[0]["params"]["seed"] for job in site.jobs()} == {SEED}


def test_told_by_a_sidecar_that_came_late(site) -> None:
    site.put("a/cat.png", b"cat")
    site.settle()
    site.put("a/cat.png.yaml", "img2img: {prompt: '{folder} {stem} {seed}'}")
    site.settle()
    assert told(site.job()) == f"a cat {SEED}"


def test_looked_at_before(site) -> None:
    site.put("a/cat.png", b"cat")
    (candidate,) = check_plan.candidates(site.config.inboxes[0])
    (told,) = check_jobs.planned_jobs(site.config, site.config.inboxes[0], candidate, site.prober)
    assert told.probed is not None
    assert (told.probed.width, told.probed.height) == (64, 48)
    assert told.spec is not None
    assert told.spec.stages[0].params["prompt"] == f"a/cat.png in in, {SEED}"


def test_submitted(site) -> None:
    settings = ["img2img.seed=from_content", "img2img.prompt={name} {inbox} {seed}"]
    submitter = Submitter(site.config, site.ledger, document_from_options("paint", settings))
    submitter.submit(Submission("cat.png", io.BytesIO(b"cat")), site.prober)
    assert told(site.job()) == f"cat.png submit {SEED}"


def test_retried(site) -> None:
    site.put("a/cat.png", b"cat")
    site.put("a/cat.yaml", "img2img: {prompt: '{nme}'}")
    site.settle()
    job = site.job()
    assert job.error["code"] == "parameter_invalid"
    site.publish()
    (sidecar,) = site.outbox.rglob("source/cat.yaml")
    sidecar.write_text("img2img: {prompt: '{folder}/{name} {seed}'}")
    Retrier(site.config, site.ledger).retry(job.id, site.prober)
    assert told(site.job()) == f"a/cat.png {SEED}"


def test_a_choice_by_a_drawn_seed_makes_no_new_version(make_site) -> None:
    defaults = {"img2img": {"seed": -1, "prompt": "{a|b|c|d|e|f|g|h} {seed}"}}
    site = make_site(pipeline="paint", originals="keep", defaults=defaults)
    path = site.put("cat.png", b"cat")
    site.settle()
    seed = site.job().stages[0]["params"]["seed"]
    assert told(site.job())[1:] == f" {seed}"
    assert site.ledger.transact(queue.claim_next) is not None
    for _ in range(4):
        path.touch()
        site.settle()
    assert len(site.jobs()) == 1
