"""Masks in retries, submissions, repairs and previews."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dna_pipeline.base.errors import BlackImage, ConfigError
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.ledger import queue
from dna_pipeline.operations import submit as submit_operation
from dna_pipeline.operations.check_jobs import planned_jobs
from dna_pipeline.operations.check_plan import preview
from dna_pipeline.operations.repair.rebuild import rebuild
from dna_pipeline.operations.repair.takeover import take_over
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.operations.submit import (
    Submission,
    Submitter,
    document_from_options,
    submit_all,
)
from tests.hashes import sha256
from tests.integration.companions import MASKED
from tests.integration.conftest import Site, StubProber
from tests.pictures import png

MakeSite = Callable[..., Site]

NAMED = "img2img: {mask: shapes/round.png}\n"
MASK = b"a mask"


def fail(site: Site) -> Path:
    """The failure folder of the next job, which fails while it runs, or of one that failed."""
    if any(job.status == "queued" for job in site.jobs()):
        job = site.claim_next()
        site.ledger.transact(lambda s: queue.fail(s, job.id, BlackImage().failure()))
    site.publish()
    (folder,) = site.outbox.glob("in/failed/*")
    return folder


def retry(site: Site) -> list[dict[str, Any]]:
    """The companions of the one job after its retry."""
    Retrier(site.config, site.ledger).retry(site.job().id, site.prober)  # pyright: ignore
    assert site.job().status == "queued"
    return [
        {k: file.get(k) for k in ("name", "sha256", "reference")}
        for file in site.drop(site.job()).companions or ()
    ]


# --- retry ---


def test_a_retry_keeps_the_mask_beside_the_image(make_site: MakeSite) -> None:
    site = make_site(**MASKED)
    site.put("cat.mask.png", MASK)
    site.put("cat.png")
    site.settle()
    folder = fail(site)
    assert (folder / "source/cat.mask.png").read_bytes() == MASK
    (folder / "source/cat.mask.png").write_bytes(b"mended")
    expected = {"name": "cat.mask.png", "sha256": sha256(b"mended"), "reference": None}
    assert retry(site) == [expected]
    assert not folder.exists()


def test_a_retry_keeps_the_mask_that_was_named(make_site: MakeSite) -> None:
    site = make_site(pipeline="two_stages")
    site.put("shapes/round.png", MASK)
    site.put("cat.png.yaml", NAMED)
    site.put("cat.png")
    site.settle()
    folder = fail(site)
    (site.inbox / "shapes/round.png").unlink()
    expected = {"name": "round.mask.png", "sha256": sha256(MASK), "reference": "shapes/round.png"}
    assert retry(site) == [expected]
    assert not folder.exists()


def test_a_retry_keeps_the_stages_that_its_mask_leaves_as_they_were(make_site: MakeSite) -> None:
    """Also where another job of the drop names another mask."""
    site = make_site(pipeline="two_stages")
    for name in ("round", "square"):
        site.put(f"shapes/{name}.png", name.encode())
    matrix = "matrix: {img2img.mask: [shapes/round.png, shapes/square.png]}\n"
    site.put("cat.png.yaml", matrix)
    site.put("cat.png")
    site.settle()
    first, second = site.jobs()
    assert site.claim_next().id == first.id
    stage = first.stages[0]
    work = site.config.work / first.id / "img2img"
    work.mkdir(parents=True)
    (work / "cat.png").write_bytes(b"painted")
    run = {
        "stage_id": "img2img", "type": "img2img", "provider": "diffusers", "model": None,
        "params": stage["params"], "device": "cpu", "dtype": "float32", "batch_size": 1,
        "attempt": 1, "seconds": 0.5, "warnings": [], "environment": {},
    }  # fmt: skip
    file = {
        "path": "cat.png", "role": "image", "media_type": "image/png", "bytes": 7,
        "sha256": sha256(b"painted"), "facts": {"width": 64, "height": 48},
    }  # fmt: skip
    site.ledger.transact(lambda s: queue.finish_stage(s, first.id, run, [file]))
    site.ledger.transact(lambda s: queue.fail(s, first.id, BlackImage().failure()))
    site.publish()
    result = Retrier(site.config, site.ledger).retry(first.id, site.prober)  # pyright: ignore
    assert result.stages == ["img2img"]
    assert [f["reference"] for f in site.drop(site.jobs()[0]).companions or ()] == [
        "shapes/round.png"
    ]
    assert second.status == "queued"


def test_a_mask_that_comes_later_mends_the_failed_job(make_site: MakeSite) -> None:
    site = make_site(**MASKED)
    site.put("cat.png")
    site.settle()
    folder = fail(site)
    account = json.loads((folder / "error.json").read_bytes())
    assert (account["code"], account["detail"]) == (
        "mask_missing", "mask: no cat.mask.png came beside cat.png",
    )  # fmt: skip
    assert "Put it into source/, beside this file, as cat.mask.png" in account["hint"]
    assert "as cat.mask.png, and retry the job" in (folder / "ERROR.txt").read_text()
    with pytest.raises(ConfigError, match="mask_missing"):
        Retrier(site.config, site.ledger).retry(site.job().id, site.prober)  # pyright: ignore
    (folder / "source/cat.mask.png").write_bytes(MASK)
    assert retry(site) == [{"name": "cat.mask.png", "sha256": sha256(MASK), "reference": None}]


def test_the_failed_image_and_its_mask_may_be_dropped_again(make_site: MakeSite) -> None:
    site = make_site(**MASKED)
    site.put("cat.png")
    site.settle()
    fail(site)
    site.put("cat.mask.png", MASK)
    site.settle()
    assert "cat.png was taken in at" in site.waiting()["cat.mask.png"]
    assert "drop it again" in site.waiting()["cat.mask.png"]
    site.put("cat.png")
    site.settle()
    assert [job.status for job in site.jobs()] == ["failed", "queued"]
    assert site.left() == set()


def test_a_path_may_be_mended_in_the_failure_folder(make_site: MakeSite) -> None:
    site = make_site(pipeline="two_stages")
    site.put("cat.png.yaml", NAMED)
    site.put("cat.png")
    site.tick(3700)
    folder = fail(site)
    (folder / "source/cat.png.yaml").write_text("img2img: {mask: mine.png}")
    (folder / "source/mine.png").write_bytes(MASK)
    expected = {"name": "mine.mask.png", "sha256": sha256(MASK), "reference": "mine.png"}
    assert retry(site) == [expected]


def test_a_missing_mask_may_also_be_put_where_its_path_says(make_site: MakeSite) -> None:
    site = make_site(pipeline="two_stages")
    site.put("cat.png.yaml", NAMED)
    site.put("cat.png")
    site.tick(3700)
    fail(site)
    site.put("shapes/round.png", MASK)
    assert [file["reference"] for file in retry(site)] == ["shapes/round.png"]
    assert (site.inbox / "shapes/round.png").read_bytes() == MASK


# --- submit ---


def submit(site: Site, image: Path, *settings: str, mask: Path | None = None) -> list[Any]:
    document = document_from_options("two_stages", list(settings))
    submission = Submission(image.name, image, mask)
    Submitter(site.config, site.ledger, document).submit(submission, StubProber())  # pyright: ignore
    files = site.drop(site.jobs()[-1]).companions or ()
    return [(file["name"], file["sha256"], file.get("reference")) for file in files]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "desk").mkdir()
    path = tmp_path / "desk/cat.png"
    path.write_bytes(b"an image")
    return path


@pytest.mark.parametrize("name", ["cat.mask.png", "cat.png.mask.png"])
def test_a_submission_takes_the_mask_beside_the_image(site: Site, image: Path, name: str) -> None:
    image.with_name(name).write_bytes(MASK)
    assert submit(site, image) == []
    assert submit(site, image, "img2img.mask=file") == [("cat.mask.png", sha256(MASK), None)]
    assert image.with_name(name).read_bytes() == MASK


def test_a_submission_names_a_mask_anywhere(
    site: Site, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "round.png").write_bytes(MASK)
    monkeypatch.chdir(image.parent)
    for path in ("../round.png", str(tmp_path / "round.png")):
        files = submit(site, image, f"img2img.mask={path}")
        assert files == [("round.mask.png", sha256(MASK), path)]
    files = submit(site, image, "img2img.mask=file", mask=tmp_path / "round.png")
    assert files == [("cat.mask.png", sha256(MASK), None)]


def test_a_submission_without_its_mask_is_refused(site: Site, image: Path) -> None:
    with pytest.raises(ConfigError, match=r"no cat\.mask\.png lies beside it.*--mask"):
        submit(site, image, "img2img.mask=file")
    with pytest.raises(ConfigError, match=r"there is no 'round\.png' \(mask_missing\)"):
        submit(site, image, "img2img.mask=round.png")
    assert (site.jobs(), site.claims()) == ([], [])


def test_a_broken_mask_is_refused_at_once(site: Site, image: Path) -> None:
    image.with_name("cat.mask.png").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"mask cat\.mask\.png: breaks off \(mask_unreadable"):
        submit(site, image, "img2img.mask=file")
    named = image.with_name("cat.mask.png")
    with pytest.raises(ConfigError, match=r"mask \S+cat\.mask\.png: breaks off"):
        submit(site, image, f"img2img.mask={named}")
    assert (site.jobs(), site.claims()) == ([], [])


def test_a_retry_names_the_mask_that_is_broken(make_site: MakeSite) -> None:
    site = make_site(**MASKED)
    site.put("cat.mask.png", MASK)
    site.put("cat.png")
    site.settle()
    folder = fail(site)
    (folder / "source/cat.mask.png").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"mask cat\.mask\.png: breaks off"):
        retry(site)


def test_standard_input_has_a_mask_only_by_its_option(site: Site, image: Path) -> None:
    document = document_from_options("two_stages", ["img2img.mask=file"])
    submitter = Submitter(site.config, site.ledger, document)
    with pytest.raises(ConfigError, match="name its mask with --mask"):
        submitter.submit(Submission("stdin", BytesIO(b"x")), StubProber())  # pyright: ignore
    submitter.submit(Submission("stdin", BytesIO(b"x"), image), StubProber())  # pyright: ignore
    assert [f["name"] for f in site.drop(site.job()).companions or ()] == ["stdin.mask.png"]


def test_the_mask_of_a_submission_asks_for_itself(
    site: Site, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit_operation, "Prober", ClosingStub)
    image.with_name("round.png").write_bytes(MASK)
    submission = Submission(image.name, image, image.with_name("round.png"))
    config = site.config
    jobs, problems = submit_all(config, [(image.name, submission)], "two_stages", [])
    assert (len(jobs), problems) == (1, [])
    assert [f["sha256"] for f in site.drop(site.job()).companions or ()] == [sha256(MASK)]


class ClosingStub(StubProber):
    def close(self) -> None:
        """Nothing is open."""


# --- both repairs ---

WAYS = {
    "beside": (MASKED, {"cat.mask.png": MASK, "cat.png": b"an image"}, None),
    "named": (
        {"pipeline": "two_stages"},
        {"shapes/round.png": MASK, "cat.png.yaml": NAMED.encode(), "cat.png": b"an image"},
        "shapes/round.png",
    ),
}  # fmt: skip


def destroy(site: Site) -> None:
    site.close()
    site.config.ledger_path.write_bytes(b"not a database" * 1000)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_a_rebuilt_ledger_finds_the_masks_of_claims(
    make_site: MakeSite, way: str, originals: str
) -> None:
    keys, files, reference = WAYS[way]
    site = make_site(originals=originals, **keys)
    for name, data in files.items():
        site.put(name, data)
    site.settle()
    if originals == "archive" and reference is not None:
        (site.inbox / reference).unlink()
    destroy(site)
    rebuild(site.config)
    site.restart()
    site.settle()
    (mask,) = site.drop(site.job()).companions or []
    assert (mask["sha256"], mask.get("reference")) == (sha256(MASK), reference)
    assert site.job().status == "queued"
    assert site.claims() != []


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_claim_that_is_taken_over_keeps_its_mask(
    make_site: MakeSite, way: str, tmp_path: Path
) -> None:
    keys, files, reference = WAYS[way]
    dead = make_site(tmp_path / "dead", **keys)
    for name, data in files.items():
        dead.put(name, data)
    dead.settle()
    dead.close()
    heir = make_site(tmp_path / "heir", **{**keys, "path": str(dead.inbox)})
    (found,) = take_over(heir.config)
    assert found.taken == 1
    heir.restart()
    heir.settle()
    (mask,) = heir.drop(heir.job()).companions or []
    assert (mask["sha256"], mask.get("reference")) == (sha256(MASK), reference)
    assert heir.job().status == "queued"


@pytest.mark.slow
def test_a_rebuilt_ledger_knows_the_masks_of_results(make_site: MakeSite) -> None:
    keys, files, _ = WAYS["named"]
    site = make_site(**keys)
    for name, data in files.items():
        site.put(name, data)
    site.settle()
    fail(site)
    destroy(site)
    rebuild(site.config)
    site.restart()
    expected = {"name": "round.mask.png", "sha256": sha256(MASK), "reference": "shapes/round.png"}
    assert retry(site) == [expected]


@pytest.mark.slow
def test_a_submitted_mask_is_recovered_with_its_image(site: Site, image: Path) -> None:
    image.with_name("round.png").write_bytes(MASK)
    submit(site, image, f"img2img.mask={image.with_name('round.png')}")
    for path in (image, image.with_name("round.png")):
        path.unlink()
    destroy(site)
    rebuild(site.config)
    recovered = [path.read_bytes() for path in site.config.recovered.rglob("*.png")]
    assert sorted(recovered) == [MASK, b"an image"]


# --- check ---


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cat.png.yaml": b"img2img: {mask: shapes/round.png}"}, [None]),
        ({"all.csv": b"image,img2img.mask\ncat.png,shapes/round.png\n"}, [None]),
        ({"all.csv": b"image,img2img.mask\ncat.png,round.png\n"}, ["mask_missing"]),
        ({"all.csv": b"image,img2img.mask\ncat.png,shapes/broken.png\n"}, ["mask_unreadable"]),
        ({"cat.png.yaml": b"img2img: {mask: file}"}, ["mask_missing"]),
        ({"cat.png.yaml": b"img2img: {mask: shapes/broken.png}"}, ["mask_unreadable"]),
    ],
)
def test_a_check_looks_for_masks(
    make_site: MakeSite, files: dict[str, bytes], expected: list[str | None]
) -> None:
    site = make_site(pipeline="two_stages")
    picture = png(np.zeros((64, 64, 3), np.uint8))
    for name, data in {"cat.png": picture, "shapes/round.png": picture, **files}.items():
        site.put(name, data)
    site.put("shapes/broken.png", b"broken")
    inbox = site.config.inboxes[0]
    with closing(Prober()) as prober:
        content = preview(site.config, inbox)
        jobs = [
            job
            for candidate in content.candidates
            for job in planned_jobs(site.config, inbox, candidate, prober)
        ]
    assert [job.error.code if job.error else None for job in jobs] == expected
