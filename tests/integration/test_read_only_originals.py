"""Read-only originals, on a file system that refuses to remove or replace them, as Windows does.

Windows itself was not at hand.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.intake.claiming import claims
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.operations.submit import Submission, Submitter, document_from_options
from tests.integration.conftest import Site
from tests.integration.test_batches import report, run_all
from tests.windows import protect_read_only_files


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return protect_read_only_files(monkeypatch)


def put(site: Site, name: str, data: bytes | str) -> Path:
    path = site.put(name, data)
    path.chmod(0o444)
    return path


def is_writable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IWUSR)


@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
def test_they_become_results_and_leave_nothing_behind(
    make_site: Callable[..., Site], originals: str
) -> None:
    site = make_site(originals=originals)
    put(site, "cat.png", b"cat")
    put(site, "cat.png.yaml", "priority: 3")
    site.settle()
    job = site.run_next()
    assert site.job().status == "completed"
    assert site.drop(job).state == "gone"
    assert site.claims() == []
    folder = site.outbox / f"in/cat-{job.id[:8]}"
    kept = {"cat.png", "cat.png.yaml"} if originals == "keep" else set[str]()
    assert site.left() == kept
    assert not any(is_writable(site.inbox / name) for name in kept)
    archived = list(folder.rglob("source/*"))
    assert len(archived) == (2 if originals == "archive" else 0)
    assert all(is_writable(path) for path in folder.rglob("*"))
    shutil.rmtree(folder)  # as a person would, without our help


@pytest.mark.slow
def test_a_failure_is_retried(site: Site) -> None:
    put(site, "cat.png", b"broken")
    put(site, "cat.png.yaml", "priority: 3")
    site.tick(120)
    site.publish()
    (folder,) = site.folders()
    source = site.outbox / folder / "source"
    (source / "cat.png").write_bytes(b"mended")
    for path in source.iterdir():
        path.chmod(0o444)
    Retrier(site.config, site.ledger).retry(site.job().id, site.prober)  # pyright: ignore
    assert site.folders() == []
    site.run_next()
    assert site.job().status == "completed"
    assert site.claims() == []


def test_a_file_that_is_not_taken_after_all_goes_back(site: Site, tmp_path: Path) -> None:
    original = put(site, "cat.png", b"cat")
    claimed = tmp_path / "claim/cat.png"
    claimed.parent.mkdir()
    original.rename(claimed)
    assert claims.put_back(claimed, original) == original
    assert (original.read_bytes(), is_writable(original)) == (b"cat", False)
    assert not claimed.exists()


def test_a_call_that_was_cut_off_between_link_and_removal_is_finished(
    site: Site, tmp_path: Path
) -> None:
    original = put(site, "cat.png", b"cat")
    claimed = tmp_path / "cat.png"
    os.link(original, claimed)
    assert claims.put_back(claimed, original) == original
    assert not claimed.exists()


@pytest.mark.slow
def test_a_batch_that_is_undone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put(site, "a.png", b"image a")
    put(site, "shots.csv", "image\na.png\n")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(claims, "hash_in_place", die)
        site.settle()
    site.restart()
    site.settle()
    assert [job.name for job in site.jobs()] == ["a.png"]
    run_all(site)
    assert [row["status"] for row in report(site)] == ["completed"]
    assert site.claims() == []


@pytest.mark.slow
def test_late_sidecars_one_after_another(site: Site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    for priority in (3, 4, 5):
        put(site, "cat.png.yaml", f"priority: {priority}")
        site.settle()
        assert site.job().priority == priority
    assert site.left() == set()
    site.run_next()
    assert site.claims() == []


def test_a_submitted_file(make_site: Callable[..., Site], tmp_path: Path) -> None:
    site = make_site()
    image = tmp_path / "chair.png"
    image.write_bytes(b"chair")
    image.chmod(0o444)
    submitter = Submitter(site.config, site.ledger, document_from_options(None, []))
    submitter.submit(Submission(image.name, image), site.prober)  # pyright: ignore
    site.run_next()
    assert site.claims() == []
    assert not is_writable(image)


def test_a_latest_file_that_was_protected_is_replaced(make_site: Callable[..., Site]) -> None:
    site = make_site(originals="keep")
    for version in (b"one", b"two, longer"):
        site.put("cat.png", version)
        site.settle()
        site.run_next(data=version)
        latest = site.outbox / "in/latest/cat.png"
        assert latest.read_bytes() == version
        latest.chmod(0o444)
