"""The audit of the campaign finds what it is there to find."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from dna_pipeline.ledger.store import Ledger, finish_claims
from dna_pipeline.ledger.times import utcnow
from tests.conftest import load_script

audit = load_script("audit")
IMAGE = b"an image"
SHA256 = hashlib.sha256(IMAGE).hexdigest()
DROPPED = [audit.Dropped("archive", "a.png", SHA256)]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A site with one drop and its result."""
    for name in ("archive", "delete", "keep"):
        (tmp_path / "inbox" / name).mkdir(parents=True)
    result = tmp_path / "outbox/archive/a-1"
    (result / "source").mkdir(parents=True)
    (result / "source/a.png").write_bytes(IMAGE)
    (result / "a.png").write_bytes(IMAGE + b"\nlast")
    account = {
        "job": {"id": "1"},
        "input": {"sha256": SHA256},
        "artifacts": [{"path": "a.png", "sha256": sha256(IMAGE + b"\nlast")}],
    }
    (result / "manifest.json").write_text(json.dumps(account))
    committed = sha256((result / "manifest.json").read_bytes())
    record(tmp_path, "1", manifest_sha256=committed)
    return tmp_path


def record(root: Path, job_id: str, **values: object) -> None:
    from sqlalchemy import insert

    from dna_pipeline.ledger.tables import Drop

    drop = {
        "id": f"drop{job_id}", "inbox": "archive", "state": "gone", "originals": "archive",
        "folder": "", "claim": "", "image": "a.png", "sidecar": None, "stat": {}, "error": None,
        "sha256": SHA256, "bytes": len(IMAGE), "created_at": utcnow(),
    }  # fmt: skip
    job = {
        "id": job_id, "drop_id": drop["id"], "batch": None, "inbox": "archive", "folder": "",
        "name": "a.png", "stem": "a", "pipeline": "p", "priority": 0, "status": "completed",
        "hold": None, "hold_detail": None, "not_before": None, "models": "", "tags": [],
        "stages": [{"id": "last"}], "meta": {}, "error": None, "created_at": utcnow(),
        "finished_at": utcnow(), "publish": "done", "publish_name": f"archive/a-{job_id}",
        "manifest_sha256": None, **values,
    }  # fmt: skip
    ledger = Ledger(root / "data/ledger.db")
    ledger.transact(lambda s: s.execute(insert(Drop), [drop]))
    ledger.transact(lambda s: finish_claims(s, [], [job]))
    ledger.close()


def test_nothing_is_found_where_all_is_well(root: Path) -> None:
    found = audit.audit(root, DROPPED)
    assert found.sentences() == []
    assert (found.jobs, found.results, found.failures) == (1, 1, 0)


def broken(root: Path, kind: str, dropped: list | None = None) -> None:
    numbers = audit.audit(root, DROPPED if dropped is None else dropped).numbers()
    assert numbers[kind] > 0, numbers


def test_a_drop_without_a_job_is_lost(root: Path) -> None:
    broken(root, "lost", [*DROPPED, audit.Dropped("archive", "b.png", "0" * 64)])


def test_a_job_without_a_folder_is_lost(root: Path) -> None:
    shutil.rmtree(root / "outbox/archive/a-1")
    broken(root, "lost")


def test_a_source_that_is_gone_is_lost(root: Path) -> None:
    (root / "outbox/archive/a-1/source/a.png").unlink()
    broken(root, "lost")


def test_a_sidecar_that_was_not_heard_is_lost(root: Path) -> None:
    broken(root, "lost", [audit.Dropped("archive", "a.png", SHA256, "priority: 1")])


def test_a_kept_file_that_changed_is_lost(root: Path) -> None:
    (root / "inbox/keep/k.png").write_bytes(b"other")
    broken(root, "lost", [*DROPPED, audit.Dropped("keep", "k.png", SHA256)])


def test_two_jobs_of_one_drop_are_doubled(root: Path) -> None:
    record(root, "2")
    broken(root, "doubled")


def test_a_folder_that_is_nobodys_is_doubled(root: Path) -> None:
    shutil.copytree(root / "outbox/archive/a-1", root / "outbox/archive/a-1-2")
    broken(root, "doubled")


@pytest.mark.parametrize("name", ["a.png", "manifest.json"])
def test_bytes_that_changed_are_corrupt(root: Path, name: str) -> None:
    (root / "outbox/archive/a-1" / name).write_bytes(b"other")
    broken(root, "corrupt")


def test_a_file_taken_in_half_is_corrupt(root: Path) -> None:
    broken(root, "corrupt", [audit.Dropped("archive", "a.png", "0" * 64)])


def test_a_stage_that_ran_twice_is_corrupt(root: Path) -> None:
    data = IMAGE + b"\nlast\nlast"
    result = root / "outbox/archive/a-1"
    (result / "a.png").write_bytes(data)
    account = json.loads((result / "manifest.json").read_bytes())
    account["artifacts"][0]["sha256"] = sha256(data)
    (result / "manifest.json").write_text(json.dumps(account))
    text = (result / "manifest.json").read_bytes()
    ledger = Ledger(root / "data/ledger.db")
    from sqlalchemy import update

    from dna_pipeline.ledger.tables import Job

    ledger.transact(lambda s: s.execute(update(Job).values(manifest_sha256=sha256(text))))
    ledger.close()
    broken(root, "corrupt")


@pytest.mark.parametrize(
    "name",
    [
        "outbox/.dna/x/1/a.png",
        "outbox/.12-0123456789abcdef.tmp",
        "data/work/1/last/a.png",
        "data/claims/1/a.png",
        "inbox/archive/.dna/x/1/a.png",
        "inbox/delete/b.png",
    ],
)
def test_leftovers_are_found(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"x")
    broken(root, "half_written")
