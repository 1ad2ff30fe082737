"""The audit of the campaign finds what it is there to find."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger.drops import finish_claims
from dna_pipeline.ledger.sqlite import sqlite_module
from dna_pipeline.ledger.store import Ledger
from tests.conftest import load_script
from tests.ledgers import lay_out

audit = load_script("audit")
IMAGE = b"an image"
SHA256 = hashlib.sha256(IMAGE).hexdigest()
DROPPED = [audit.Dropped("archive", "a.png", SHA256)]
FIRST = IMAGE + b"\nfirst"
FAILS = "last: {fails: true}\n"


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
        "stages": [{"id": "last"}],
        "artifacts": [{"path": "a.png", "sha256": sha256(IMAGE + b"\nlast")}],
    }
    (result / "manifest.json").write_text(json.dumps(account))
    committed = sha256((result / "manifest.json").read_bytes())
    record(tmp_path, "1", manifest_sha256=committed)
    return tmp_path


def record(root: Path, job_id: str, **values: object) -> None:
    """Add a job with a drop; values named `drop_…` are the drop's."""
    from sqlalchemy import insert

    from dna_pipeline.ledger.tables import Drop

    of_drop = {k.removeprefix("drop_"): v for k, v in values.items() if k.startswith("drop_")}
    values = {k: v for k, v in values.items() if not k.startswith("drop_")}
    drop = {
        "id": f"drop{job_id}", "inbox": "archive", "state": "gone", "originals": "archive",
        "folder": "", "claim": "", "image": "a.png", "sidecar": None, "stat": {}, "error": None,
        "sha256": SHA256, "bytes": len(IMAGE), "created_at": utcnow(), **of_drop,
    }  # fmt: skip
    job = {
        "id": job_id, "drop_id": drop["id"], "batch": None, "inbox": "archive", "folder": "",
        "name": "a.png", "stem": "a", "pipeline": "p", "priority": 0, "status": "completed",
        "hold": None, "hold_detail": None, "not_before": None, "models": "", "tags": [],
        "stages": [{"id": "last"}], "meta": {}, "error": None, "created_at": utcnow(),
        "finished_at": utcnow(), "publish": "done", "publish_name": f"archive/a-{job_id}",
        "manifest_sha256": None, **values,
    }  # fmt: skip
    path = root / "data/ledger.db"
    if not path.exists():
        lay_out(path)
    ledger = Ledger(path)
    ledger.transact(lambda s: s.execute(insert(Drop), [drop]))
    ledger.transact(lambda s: finish_claims(s, [], [job]))
    ledger.close()


def change(root: Path, statement: str, *values: object) -> None:
    """Run SQL on the ledger."""
    with closing(sqlite_module().connect(root / "data/ledger.db")) as database, database:
        database.execute(statement, values)


def write_account(root: Path, job_id: str, path: Path, **changes: object) -> None:
    """Change keys of an account, and what the ledger says of its bytes."""
    account = json.loads(path.read_bytes()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(account | changes))
    change(root, "UPDATE jobs SET manifest_sha256 = ? WHERE id = ?", sha256(path.read_bytes()),
           job_id)  # fmt: skip


def test_nothing_is_found_where_all_is_well(root: Path) -> None:
    found = audit.audit(root, DROPPED)
    assert found.sentences() == []
    assert (found.jobs, found.results, found.failures) == (1, 1, 0)


def broken(
    root: Path, kind: str, dropped: list | None = None, batches: list = (), also: tuple = ()
) -> None:
    """Something is found, all of it of that kind or of those in `also`."""
    found = audit.audit(root, DROPPED if dropped is None else dropped, batches)
    kinds = {sentence.partition(":")[0] for sentence in found.sentences()}
    assert kinds == {kind, *also}, found.sentences()


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


@pytest.mark.parametrize("fault", ["", "not claimed", "not listed", "not archived"])
def test_a_mask_that_is_gone_is_lost(root: Path, fault: str) -> None:
    mask = {"role": "mask", "name": "a.png.mask.png", "sha256": sha256(b"mask")}
    if fault != "not claimed":
        change(root, "UPDATE drops SET companions = ?", json.dumps([mask]))
    result = root / "outbox/archive/a-1"
    listed = [] if fault == "not listed" else [mask]
    write_account(root, "1", result / "manifest.json", input={"sha256": SHA256, "files": listed})
    if fault in ("", "not listed"):
        (result / "source/a.png.mask.png").write_bytes(b"mask")
    found = audit.audit(root, [audit.Dropped("archive", "a.png", SHA256, mask=mask["sha256"])])
    assert [text.partition(":")[0] for text in found.sentences()] == ["lost"] * bool(fault)


def test_a_kept_mask_that_is_gone_is_lost(root: Path) -> None:
    (root / "inbox/keep/k.png").write_bytes(IMAGE)
    (root / "inbox/keep/k.png.mask.png").write_bytes(b"mask")
    record(root, "2", inbox="keep", name="k.png", drop_inbox="keep", drop_originals="keep")
    dropped = audit.Dropped("keep", "k.png", SHA256, mask=sha256(b"mask"), is_certain=False)
    before = audit.audit(root, [*DROPPED, dropped]).lost
    (root / "inbox/keep/k.png.mask.png").unlink()
    after = audit.audit(root, [*DROPPED, dropped]).lost
    assert set(after) - set(before) == {"keep/k.png.mask.png is not where it was left any more"}


def test_two_jobs_of_one_drop_are_doubled(root: Path) -> None:
    record(root, "2")
    broken(root, "doubled", also=("lost",))


def test_a_folder_that_is_nobodys_is_doubled(root: Path) -> None:
    shutil.copytree(root / "outbox/archive/a-1", root / "outbox/archive/a-1-2")
    broken(root, "doubled")


@pytest.mark.parametrize("name", ["a.png", "manifest.json"])
def test_bytes_that_changed_are_corrupt(root: Path, name: str) -> None:
    (root / "outbox/archive/a-1" / name).write_bytes(b"other")
    broken(root, "corrupt")


def test_a_file_taken_in_half_is_corrupt(root: Path) -> None:
    broken(root, "corrupt", [audit.Dropped("archive", "a.png", "0" * 64)], also=("lost",))


def test_a_stage_that_ran_twice_is_corrupt(root: Path) -> None:
    data = IMAGE + b"\nlast\nlast"
    result = root / "outbox/archive/a-1"
    (result / "a.png").write_bytes(data)
    files = [{"path": "a.png", "sha256": sha256(data)}]
    write_account(root, "1", result / "manifest.json", artifacts=files)
    broken(root, "corrupt")


@pytest.mark.parametrize(
    "name",
    [
        "outbox/.dna/x/1/a.png",
        "outbox/.12-0123456789abcdef.tmp",
        "data/work/1/last/a.png",
        "data/claims/1/a.png",
        "data/recovered/1/a.png",
        "inbox/archive/.dna/x/1/a.png",
        "inbox/delete/b.png",
    ],
)
def test_leftovers_are_found(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"x")
    broken(root, "half_written")


def test_the_last_copy_of_an_overwritten_version_is_no_leftover(root: Path) -> None:
    kept = root / "inbox/keep/b.png"
    kept.write_bytes(b"new")
    record(root, "2", drop_inbox="keep", drop_originals="keep", drop_image="b.png",
           drop_sha256=sha256(b"new"), inbox="keep", name="b.png", stem="b")  # fmt: skip
    copy = root / "data/recovered/x/b.png"
    copy.parent.mkdir(parents=True)
    item = audit.Dropped("keep", "b.png", sha256(b"new"), older=(sha256(b"old"),))

    def leftovers() -> list[str]:
        return [
            text for text in audit.audit(root, [*DROPPED, item]).half_written if "left over" in text
        ]

    copy.write_bytes(b"old")
    assert leftovers() == []
    copy.write_bytes(b"ol")
    assert leftovers() == ["left over: data/recovered/x/b.png"]


def test_a_damaged_ledger_is_corrupt(root: Path) -> None:
    with closing(sqlite_module().connect(root / "data/ledger.db")) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        sql = "UPDATE sqlite_schema SET sql = replace(sql, 'hold TEXT', 'hold TEXT NOT NULL')"
        assert database.execute(f"{sql} WHERE sql LIKE '%hold TEXT,%'").rowcount == 1
    broken(root, "corrupt")


def test_a_job_that_is_not_published_is_lost(root: Path) -> None:
    change(root, "UPDATE jobs SET publish = 'planned'")
    found = audit.audit(root, DROPPED)
    assert found.lost == ["job a.png (completed) has no folder"]


def test_a_drop_that_is_open_is_half_written(root: Path) -> None:
    change(root, "UPDATE drops SET state = 'claimed'")
    broken(root, "half_written")


def test_a_file_that_is_no_part_of_a_result_is_doubled(root: Path) -> None:
    (root / "outbox/archive/a-1/b.png").write_bytes(b"x")
    broken(root, "doubled")


def test_a_result_made_of_other_bytes_is_corrupt(root: Path) -> None:
    account = root / "outbox/archive/a-1/manifest.json"
    write_account(root, "1", account, input={"sha256": "0" * 64})
    broken(root, "corrupt")


def test_the_account_of_another_job_is_doubled(root: Path) -> None:
    write_account(root, "1", root / "outbox/archive/a-1/manifest.json", job={"id": "2"})
    broken(root, "doubled")


def test_a_result_without_one_of_its_stages_is_lost(root: Path) -> None:
    write_account(root, "1", root / "outbox/archive/a-1/manifest.json", stages=[])
    broken(root, "lost")


def test_a_result_elsewhere_is_lost(root: Path) -> None:
    target = root / "outbox/archive/cancelled/a-1"
    target.parent.mkdir()
    (root / "outbox/archive/a-1").rename(target)
    change(root, "UPDATE jobs SET publish_name = 'archive/cancelled/a-1'")
    broken(root, "lost")


def test_an_older_version_may_have_one_job(root: Path) -> None:
    (root / "inbox/keep/k.png").write_bytes(b"newer")
    change(root, "UPDATE jobs SET inbox = 'keep', name = 'k.png'")
    newer = audit.Dropped("keep", "k.png", sha256(b"newer"), older=(SHA256,))
    broken(root, "lost", [newer])


# --- jobs that fail in their last stage ---


@pytest.fixture
def failed(root: Path) -> Path:
    """The site, whose job has failed in its last stage."""
    shutil.rmtree(root / "outbox/archive/a-1")
    failure = root / "outbox/archive/failed/a-1"
    (failure / "source").mkdir(parents=True)
    (failure / "source/a.png").write_bytes(IMAGE)
    (failure / "source/a.png.yaml").write_text(FAILS)
    (failure / "a.first.png").write_bytes(FIRST)
    change(root, "UPDATE drops SET sidecar = ?, sidecar_text = ?", b"a.png.yaml", FAILS)
    change(
        root, "UPDATE jobs SET status = 'failed', stage = 'last', stages = ?, publish_name = ?",
        json.dumps([{"id": "first"}, {"id": "last"}]), "archive/failed/a-1",
    )  # fmt: skip
    change(
        root, """INSERT INTO artifacts (job_id, stage_id, path, role, media_type, bytes, sha256,
            facts) VALUES ('1', 'first', 'a.first.png', 'image', 'image/png', 1, ?, '{}')""",
        sha256(FIRST),
    )  # fmt: skip
    write_account(
        root, "1", failure / "error.json",
        job={"id": "1"}, input={"sha256": SHA256}, stage="last", code="empty_foreground",
        stages=[{"id": "first"}], artifacts=[{"path": "a.first.png", "sha256": sha256(FIRST)}],
    )  # fmt: skip
    return root


ASKED = [audit.Dropped("archive", "a.png", SHA256, FAILS)]


def test_a_failure_with_the_files_of_its_first_stage_is_well(failed: Path) -> None:
    found = audit.audit(failed, ASKED)
    assert found.sentences() == []
    assert (found.results, found.failures, found.cancelled) == (0, 1, 0)


def test_a_yaml_that_was_mended_and_not_retried_is_well(failed: Path) -> None:
    path = failed / "outbox/archive/failed/a-1/source/a.png.yaml"
    path.write_text(FAILS.replace("true", "false"))
    assert audit.audit(failed, ASKED).sentences() == []


@pytest.mark.parametrize("name", ["source/a.png", "source/a.png.yaml"])
def test_a_failure_without_what_was_dropped_is_lost(failed: Path, name: str) -> None:
    (failed / "outbox/archive/failed/a-1" / name).unlink()
    broken(failed, "lost", ASKED)


@pytest.mark.parametrize("data", [None, b"other", FIRST + b"\nfirst"])
def test_a_first_stage_s_file_that_is_not_as_it_was_is_corrupt(
    failed: Path, data: bytes | None
) -> None:
    path = failed / "outbox/archive/failed/a-1/a.first.png"
    path.unlink() if data is None else path.write_bytes(data)
    broken(failed, "corrupt", ASKED)


def test_a_first_stage_s_file_of_half_an_image_is_corrupt(failed: Path) -> None:
    failure = failed / "outbox/archive/failed/a-1"
    (failure / "a.first.png").write_bytes(b"an\nfirst")
    sha = sha256(b"an\nfirst")
    change(failed, "UPDATE artifacts SET sha256 = ?", sha)
    files = [{"path": "a.first.png", "sha256": sha}]
    write_account(failed, "1", failure / "error.json", artifacts=files)
    broken(failed, "corrupt", ASKED)


def test_a_finished_stage_that_the_failure_does_not_have_is_lost(failed: Path) -> None:
    failure = failed / "outbox/archive/failed/a-1"
    (failure / "a.first.png").unlink()
    change(failed, "UPDATE jobs SET stage = 'first'")
    write_account(failed, "1", failure / "error.json", artifacts=[], stages=[], stage="first")
    broken(failed, "lost", ASKED)


def test_a_last_stage_that_failed_without_a_first_one_is_lost(failed: Path) -> None:
    failure = failed / "outbox/archive/failed/a-1"
    (failure / "a.first.png").unlink()
    change(failed, "DELETE FROM artifacts")
    write_account(failed, "1", failure / "error.json", artifacts=[], stages=[])
    broken(failed, "lost", ASKED)


def test_a_failure_that_nothing_asked_for_is_corrupt(failed: Path) -> None:
    fine = FAILS.replace("true", "false")
    (failed / "outbox/archive/failed/a-1/source/a.png.yaml").write_text(fine)
    change(failed, "UPDATE drops SET sidecar_text = ?", fine)
    broken(failed, "corrupt", ASKED)


def test_a_failure_elsewhere_is_lost(failed: Path) -> None:
    target = failed / "outbox/archive/a-1"
    (failed / "outbox/archive/failed/a-1").rename(target)
    change(failed, "UPDATE jobs SET publish_name = 'archive/a-1'")
    broken(failed, "lost", ASKED)


def test_a_job_that_is_completed_although_it_was_to_fail_is_corrupt(root: Path) -> None:
    change(root, "UPDATE drops SET sidecar = ?, sidecar_text = ?", b"a.png.yaml", FAILS)
    (root / "outbox/archive/a-1/source/a.png.yaml").write_text(FAILS)
    broken(root, "corrupt", ASKED)


def test_a_job_that_is_completed_after_it_was_mended_is_well(root: Path) -> None:
    fine = FAILS.replace("true", "false")
    change(root, "UPDATE drops SET sidecar = ?, sidecar_text = ?", b"a.png.yaml", fine)
    (root / "outbox/archive/a-1/source/a.png.yaml").write_text(fine)
    assert audit.audit(root, ASKED).sentences() == []


# --- commands ---


def claiming(root: Path, inbox: str = "submit") -> None:
    """A drop whose claim a command was filling when it was killed."""
    record(root, "9", drop_state="claiming", drop_inbox=inbox, drop_image="s.png")
    change(root, "DELETE FROM jobs WHERE id = '9'")
    claim = root / "data/claims/drop9"
    (claim / ".stages/first").mkdir(parents=True)
    (claim / ".12-0123456789abcdef.tmp").write_bytes(b"half")


def test_the_claim_of_a_killed_command_is_allowed(root: Path) -> None:
    claiming(root)
    found = audit.audit(root, DROPPED, killed_commands=1)
    assert found.sentences() == []
    assert found.unfinished_claims == 1


def test_an_unfinished_claim_without_a_killed_command_is_half_written(root: Path) -> None:
    claiming(root)
    broken(root, "half_written")


def test_an_unfinished_claim_of_an_inbox_is_half_written(root: Path) -> None:
    claiming(root, "archive")
    shutil.rmtree(root / "data/claims")
    broken(root, "half_written")


def test_a_claim_beside_an_unfinished_one_is_half_written(root: Path) -> None:
    claiming(root)
    (root / "data/claims/other").mkdir()
    found = audit.audit(root, DROPPED, killed_commands=1)
    assert found.sentences() == ["half_written: left over: data/claims/other"]


def test_a_job_whose_claim_is_unfinished_is_half_written(root: Path) -> None:
    change(root, "UPDATE drops SET state = 'claiming', inbox = 'submit'")
    found = audit.audit(root, DROPPED, killed_commands=1)
    assert found.sentences() == ["half_written: job a.png has a claim that is unfinished"]


@pytest.fixture
def submitted(root: Path) -> Path:
    (root / "submitted").mkdir()
    (root / "submitted/a.png").write_bytes(IMAGE)
    (root / "outbox/archive").rename(root / "outbox/submit")
    change(root, "UPDATE jobs SET inbox = 'submit', publish_name = 'submit/a-1'")
    return root


def test_what_was_submitted_stays(submitted: Path) -> None:
    dropped = [audit.Dropped("submit", "a.png", SHA256)]
    assert audit.audit(submitted, dropped).sentences() == []
    (submitted / "submitted/a.png").unlink()
    broken(submitted, "lost", dropped)


def test_a_submit_that_was_killed_may_have_one_job_or_none(submitted: Path) -> None:
    (submitted / "submitted/b.png").write_bytes(b"other")
    dropped = [
        audit.Dropped("submit", "a.png", SHA256, is_certain=False),
        audit.Dropped("submit", "b.png", sha256(b"other"), is_certain=False),
    ]
    assert audit.audit(submitted, dropped).sentences() == []
    record(submitted, "2", inbox="submit", publish="done", publish_name="submit/a-1")
    found = audit.audit(submitted, dropped)
    assert "submit/a.png has 2 jobs, not 1" in found.doubled


# --- batches and cancelled rows ---

BATCH = "b" * 32
TABLE = b"image\na.png\na.png\n"
HOME = f"archive/t-{BATCH[:8]}"
OF_BATCH = [audit.Dropped("archive", "a.png", SHA256, jobs=2)]
BATCHES = [audit.DroppedBatch("archive", "t.csv", (("t.csv", sha256(TABLE)),), 2)]
REQUEST = "{}\n"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A site with a table of two rows of one image, both cancelled as they waited."""
    for name in ("archive", "delete", "keep"):
        (tmp_path / "inbox" / name).mkdir(parents=True)
    folder = tmp_path / "outbox" / HOME
    shared = folder / "cancelled"
    (shared / "source").mkdir(parents=True)
    (shared / "source/a.png").write_bytes(IMAGE)
    (shared / "CANCELLED.txt").write_text("text")
    (folder / "source").mkdir()
    (folder / "source/t.csv").write_bytes(TABLE)
    lines = ["row,job,status,result"]
    for number, job_id in ((1, "1" * 32), (2, "2" * 32)):
        record(
            tmp_path, job_id, batch=BATCH, status="cancelled", cancelled_while="waiting",
            request=REQUEST, publish_name=f"{HOME}/cancelled",
        )  # fmt: skip
        (shared / f"a-{job_id[:8]}.yaml").write_text(REQUEST)
        write_account(
            tmp_path, job_id, shared / f"a-{job_id[:8]}.json",
            job={"id": job_id}, input={"sha256": SHA256}, source="source/a.png",
        )  # fmt: skip
        lines.append(f"{number},{job_id[:8]},cancelled,cancelled")
    (folder / "batch.csv").write_text("\n".join([*lines, ""]))
    change(
        tmp_path, """INSERT INTO batches (id, inbox, folder, name, stem, kind, state, originals,
            rows, wrong, created_at) VALUES (?, 'archive', '', 't.csv', 't', 'table', 'done',
            'archive', 2, 0, '2026-01-01')""", BATCH,
    )  # fmt: skip
    return tmp_path


def test_rows_that_share_a_folder_are_well(rows: Path) -> None:
    found = audit.audit(rows, OF_BATCH, BATCHES)
    assert found.sentences() == []
    assert (found.jobs, found.cancelled, found.shared) == (2, 2, 2)


def broken_rows(root: Path, kind: str, batches: list | None = None) -> None:
    broken(root, kind, OF_BATCH, BATCHES if batches is None else batches)


@pytest.mark.parametrize(
    "name", ["CANCELLED.txt", "source/a.png", "a-11111111.yaml", "../source/t.csv", "../batch.csv"]
)
def test_a_file_of_the_rows_that_is_missing_is_lost(rows: Path, name: str) -> None:
    (rows / "outbox" / HOME / "cancelled" / name).unlink()
    found = audit.audit(rows, OF_BATCH, BATCHES)
    assert found.lost
    assert found.sentences() == [f"lost: {what}" for what in found.lost]


@pytest.mark.parametrize("name", ["a-33333333.json", "a-33333333.yaml", "source/b.png", "x.tmp2"])
def test_a_file_of_no_row_is_doubled(rows: Path, name: str) -> None:
    (rows / "outbox" / HOME / "cancelled" / name).write_bytes(b"x")
    broken_rows(rows, "doubled")


def test_an_original_that_lies_there_twice_is_doubled(rows: Path) -> None:
    shared = rows / "outbox" / HOME / "cancelled"
    (shared / "source/a (2).png").write_bytes(IMAGE)
    account = shared / "a-22222222.json"
    write_account(rows, "2" * 32, account, source="source/a (2).png")
    broken_rows(rows, "doubled")


def test_an_original_that_was_changed_is_corrupt(rows: Path) -> None:
    (rows / "outbox" / HOME / "cancelled/source/a.png").write_bytes(b"other")
    found = audit.audit(rows, OF_BATCH, BATCHES)
    assert len(found.corrupt) == 2, "one for each row"


def test_a_row_without_an_original_is_lost(rows: Path) -> None:
    account = rows / "outbox" / HOME / "cancelled/a-22222222.json"
    write_account(rows, "2" * 32, account, source=None)
    broken_rows(rows, "lost")


def test_an_account_of_a_row_that_was_changed_is_corrupt(rows: Path) -> None:
    path = rows / "outbox" / HOME / "cancelled/a-22222222.json"
    path.write_text(path.read_text() + " ")
    found = audit.audit(rows, OF_BATCH, BATCHES)
    assert found.corrupt == ["cancelled/a-22222222.json is not as it was committed"]


def test_a_row_that_computed_something_does_not_belong_there(rows: Path) -> None:
    change(
        rows, """INSERT INTO artifacts (job_id, stage_id, path, role, media_type, bytes, sha256,
            facts) VALUES (?, 'first', 'a.first.png', 'image', 'image/png', 1, '0', '{}')""",
        "1" * 32,
    )  # fmt: skip
    broken_rows(rows, "lost")


def test_a_row_that_ran_does_not_belong_there(rows: Path) -> None:
    change(rows, "UPDATE jobs SET cancelled_while = 'running' WHERE id = ?", "1" * 32)
    broken_rows(rows, "lost")


def test_a_row_that_is_in_two_folders_is_doubled(rows: Path) -> None:
    own = rows / "outbox/archive/failed/a-11111111"
    own.mkdir(parents=True)
    shutil.copy(rows / "outbox" / HOME / "cancelled/a-11111111.json", own / "error.json")
    broken_rows(rows, "doubled")


def test_a_row_too_few_is_lost(rows: Path) -> None:
    dropped = [audit.Dropped("archive", "a.png", SHA256, jobs=3)]
    broken(rows, "lost", dropped, BATCHES)


def test_a_row_too_many_is_doubled(rows: Path) -> None:
    broken(rows, "doubled", DROPPED, BATCHES)


def test_a_table_without_a_batch_is_lost(rows: Path) -> None:
    other = audit.DroppedBatch("archive", "u.csv", (), 1)
    broken_rows(rows, "lost", [*BATCHES, other])


def test_a_table_of_other_rows_is_lost(rows: Path) -> None:
    broken_rows(rows, "lost", [audit.DroppedBatch("archive", "t.csv", BATCHES[0].files, 3)])


def test_a_table_with_a_wrong_row_is_lost(rows: Path) -> None:
    change(rows, "UPDATE batches SET wrong = 1")
    broken_rows(rows, "lost")


def test_a_kept_table_that_was_changed_is_lost(rows: Path) -> None:
    change(rows, "UPDATE batches SET inbox = 'keep'")
    home = rows / "outbox/keep" / f"t-{BATCH[:8]}"
    (home / "cancelled").mkdir(parents=True)
    (rows / "outbox" / HOME / "batch.csv").rename(home / "batch.csv")
    (rows / "inbox/keep/t.csv").write_bytes(b"other")
    broken_rows(rows, "lost", [audit.DroppedBatch("keep", "t.csv", BATCHES[0].files, 2)])


def test_two_batches_of_one_table_are_doubled(rows: Path) -> None:
    other = rows / "outbox/archive" / f"t-{'c' * 8}"
    other.mkdir()
    (other / "batch.csv").write_text("row,job,status,result\n")
    (other / "source").mkdir()
    (other / "source/t.csv").write_bytes(TABLE)
    change(
        rows, """INSERT INTO batches SELECT ?, inbox, folder, name, stem, kind, state, originals,
            max_failures, paused, 0, 0, created_at, finished_at, axes, sheet FROM batches""",
        "c" * 32,
    )  # fmt: skip
    found = audit.audit(rows, OF_BATCH, BATCHES)
    assert found.doubled == ["archive/t.csv has become 2 batches"]


def test_a_batch_that_has_not_ended_is_half_written(rows: Path) -> None:
    change(rows, "UPDATE batches SET state = 'open'")
    broken_rows(rows, "half_written")


def test_a_report_without_a_row_is_lost(rows: Path) -> None:
    path = rows / "outbox" / HOME / "batch.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    broken_rows(rows, "lost")


@pytest.mark.parametrize("change_to", [",completed,cancelled", ",cancelled,a-2"])
def test_a_report_that_is_not_true_is_corrupt(rows: Path, change_to: str) -> None:
    path = rows / "outbox" / HOME / "batch.csv"
    path.write_text(path.read_text().replace(",cancelled,cancelled", change_to, 1))
    broken_rows(rows, "corrupt")


@pytest.mark.slow
@pytest.mark.parametrize("status", ["waiting", "running"])
def test_a_single_job_that_was_cancelled(failed: Path, status: str) -> None:
    change(failed, "UPDATE jobs SET status = 'cancelled', cancelled_while = ?", status)
    if status == "running":
        assert audit.audit(failed, ASKED).sentences() == []
        assert audit.audit(failed, ASKED).cancelled == 1
    else:
        broken(failed, "lost", ASKED)
