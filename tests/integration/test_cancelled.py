"""Jobs that were cancelled: those that waited, those that ran, and the rows of a batch."""

import csv
import json
from pathlib import Path

import pytest

from dna_pipeline.base.errors import Cancelled
from dna_pipeline.ledger import batches, queue, requests
from dna_pipeline.ledger.tables import Batch, Drop, Job
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.publish import cancelled_rows
from tests.integration.test_repair import destroy, mended

TABLE = """\
image,priority,remove_background.force
chairs/a.png,1,true
chairs/a.png,2,false
chairs/b.png,3,
a.png,4,
"""
PICTURES = {"chairs/a.png": b"chair a", "chairs/b.png": b"chair b", "a.png": b"a"}


def table_of(make_site, root: Path, **keys):
    """A site with a batch of four rows of three images."""
    site = make_site(root, **keys)
    for name, data in PICTURES.items():
        site.put(name, data)
    site.put("shots.csv", TABLE)
    site.settle()
    assert len(site.jobs()) == 4
    return site


def cancel_batch(site) -> None:
    batch = site.jobs()[0].batch
    site.ledger.transact(lambda s: batches.cancel(s, batch))


def cancel(site, job: Job) -> None:
    site.ledger.transact(lambda s: requests.request_cancel(s, job.id))


def retry(site, job: Job) -> None:
    Retrier(site.config, site.ledger).retry(job.id, site.prober)


def shared(site) -> Path:
    batch = site.rows(Batch)[0]
    return site.outbox / f"in/shots-{batch.id[:8]}/cancelled"


def files_in_claims(site) -> list[Path]:
    """Those of claims that a killed command may have left unfinished go after an hour."""
    unfinished = {row.id for row in site.rows(Drop, Drop.state == "claiming")}
    return [path for path in site.claims() if path.parent.name not in unfinished]


def originals(folder: Path) -> dict[str, bytes]:
    source = folder / "source"
    files = [path for path in source.rglob("*") if path.is_file()]
    return {path.relative_to(source).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["archive", "delete", "keep"])
def test_cancelled_rows_share_a_folder_with_each_original_once(make_site, tmp_path, kept) -> None:
    site = table_of(make_site, tmp_path, originals=kept)
    cancel_batch(site)
    site.publish()
    assert originals(shared(site)) == PICTURES
    assert not (site.outbox / "in/failed").exists()
    assert {job.status for job in site.jobs()} == {"cancelled"}
    accounts = {path.name: json.loads(path.read_bytes()) for path in shared(site).glob("*.json")}
    assert accounts.keys() == {f"{job.stem}-{job.id[:8]}.json" for job in site.jobs()}
    assert {account["code"] for account in accounts.values()} == {"cancelled"}
    for account in accounts.values():
        assert (shared(site) / account["source"]).read_bytes() in PICTURES.values()
    text = (shared(site) / "CANCELLED.txt").read_text()
    assert f"retry --failed --batch {site.jobs()[0].batch[:8]}" in text


@pytest.mark.slow
def test_the_account_of_the_batch_says_where_they_are(make_site, tmp_path) -> None:
    site = table_of(make_site, tmp_path)
    cancel_batch(site)
    site.publish()
    site.accounts().write()
    rows = list(csv.DictReader((shared(site).parent / "batch.csv").read_text().splitlines()))
    assert [(row["status"], row["result"]) for row in rows] == [("cancelled", "cancelled")] * 4
    assert files_in_claims(site) == []


@pytest.mark.slow
def test_a_retried_row_takes_its_files_with_it(make_site, tmp_path) -> None:
    site = table_of(make_site, tmp_path)
    cancel_batch(site)
    site.publish()
    first, second, third, fourth = site.jobs()
    request = shared(site) / f"a-{first.id[:8]}.yaml"
    request.write_text(request.read_text().replace("1", "9"))
    retry(site, first)
    assert site.jobs()[0].priority == 9
    assert originals(shared(site)) == PICTURES, "the second row has the same original"
    assert not request.exists()
    retry(site, second)
    assert set(originals(shared(site))) == {"chairs/b.png", "a.png"}
    retry(site, third)
    retry(site, fourth)
    assert not shared(site).exists()
    for _ in range(4):
        site.run_next()
    assert {job.status for job in site.jobs()} == {"completed"}
    forced = [job.stages[0]["params"]["force"] for job in site.jobs()]
    assert forced == [True, False, False, False]


@pytest.mark.slow
def test_cancelled_twice(make_site, tmp_path) -> None:
    site = table_of(make_site, tmp_path)
    cancel_batch(site)
    site.publish()
    job = site.jobs()[2]
    retry(site, job)
    cancel(site, job)
    site.publish()
    assert originals(shared(site)) == PICTURES
    assert len(list(shared(site).glob("*.json"))) == 4


@pytest.mark.slow
def test_a_row_is_retried_while_another_of_its_original_is_published(
    make_site, tmp_path, monkeypatch
) -> None:
    site = table_of(make_site, tmp_path)
    first, second = site.jobs()[:2]
    cancel(site, first)
    site.publish()
    cancel(site, second)
    real = cancelled_rows.put_original

    def put_original(*arguments) -> str:
        place = real(*arguments)
        if site.jobs()[0].status == "cancelled":
            retry(site, first)
        return place

    monkeypatch.setattr(cancelled_rows, "put_original", put_original)
    site.publish()
    assert originals(shared(site)) == {"chairs/a.png": b"chair a"}
    assert (shared(site) / "CANCELLED.txt").exists()
    retry(site, second)
    assert [job.status for job in site.jobs()[:2]] == ["queued", "queued"]


@pytest.mark.slow
@pytest.mark.parametrize("names", [("a?b", "a_b"), ("caf\u00e9", "cafe\u0301")])
def test_equal_images_of_folders_that_become_one(make_site, tmp_path, names) -> None:
    site = make_site(tmp_path, originals="delete", recursive=True)
    for name in names:
        site.put(f"{name}/x.png", b"the same")
    site.put("shots.csv", "\n".join(["image", *(f"{name}/x.png" for name in names)]))
    site.settle()
    cancel_batch(site)
    site.publish()
    first, second = site.jobs()
    retry(site, first)
    site.run_next()
    assert list(originals(shared(site)).values()) == [b"the same"]
    retry(site, second)
    assert not shared(site).exists()


@pytest.mark.slow
def test_images_of_one_name_in_folders_of_a_source_root(make_site, tmp_path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "roots" / folder).mkdir(parents=True)
        (tmp_path / "roots" / folder / "x.png").write_bytes(folder.encode())
    site = make_site(tmp_path, source_roots=["roots"])
    site.put("shots.csv", "image\na/x.png\nb/x.png\n")
    site.settle()
    cancel_batch(site)
    site.publish()
    assert sorted(originals(shared(site)).values()) == [b"a", b"b"]
    for job in site.jobs():
        retry(site, job)
        site.run_next()
    assert {job.status for job in site.jobs()} == {"completed"}
    assert len({site.drop(job).sha256 for job in site.jobs()}) == 2
    assert not shared(site).exists()


def test_a_row_whose_original_was_removed_says_so(make_site, tmp_path) -> None:
    from dna_pipeline.base.errors import ConfigError

    site = table_of(make_site, tmp_path)
    cancel_batch(site)
    site.publish()
    (shared(site) / "source/chairs/b.png").unlink()
    with pytest.raises(
        ConfigError, match=r"its image is not in .*cancelled/source/chairs any more"
    ):
        retry(site, site.jobs()[2])
    assert site.jobs()[2].status == "cancelled"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "overwritten"])
def test_repair_finds_cancelled_rows(make_site, tmp_path, how) -> None:
    site = table_of(make_site, tmp_path, recursive=True)
    cancel_batch(site)
    site.publish()
    site.accounts().write()
    before = [(job.id, job.status, job.publish_name, job.name) for job in site.jobs()]
    folder = shared(site)
    destroy(site, how)
    report = mended(site)
    assert report.jobs == {"cancelled": 4}
    after = [(job.id, job.status, job.publish_name, job.name) for job in site.jobs()]
    assert sorted(after) == sorted(before)
    for job in site.jobs():
        retry(site, job)
    assert {job.priority for job in site.jobs()} == {1, 2, 3, 4}
    assert not folder.exists()


@pytest.mark.slow
def test_a_waiting_job_of_no_batch(site) -> None:
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "priority: 2")
    site.settle()
    cancel(site, site.job())
    site.publish()
    name = f"in/cancelled/cat-{site.job().id[:8]}"
    assert site.folders() == [name]
    assert (site.outbox / name / "source/cat.png").read_bytes() == b"cat"
    assert json.loads((site.outbox / name / "error.json").read_bytes())["code"] == "cancelled"
    retry(site, site.job())
    assert site.folders() == []
    cancel(site, site.job())
    site.publish()
    assert site.folders() == [name]


@pytest.mark.slow
def test_a_job_cancelled_while_it_ran(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, Cancelled("while it ran").failure()))
    site.publish()
    assert site.folders() == [f"in/failed/cat-{job.id[:8]}"]


def test_a_running_job_that_is_put_back_and_then_cancelled_counts_as_one_that_ran(site) -> None:
    site.put("cat.png", b"cat")
    site.settle()
    job = site.claim_next()
    cancel(site, job)
    site.ledger.transact(queue.recover)
    site.publish()
    assert site.job().status == "cancelled"
    assert site.folders() == [f"in/failed/cat-{job.id[:8]}"]


def test_a_row_that_has_computed_something_keeps_a_folder_of_its_own(make_site, tmp_path) -> None:
    site = table_of(make_site, tmp_path)
    job = site.claim_next()
    site.finish(job, b"half the work")
    site.ledger.transact(lambda s: queue.requeue(s, job.id, "its files are gone"))
    cancel_batch(site)
    site.publish()
    own = shared(site) / f"{job.stem}-{job.id[:8]}"
    assert (own / f"{job.stem}.matte.png").read_bytes() == b"half the work"
    assert len(list(shared(site).glob("*.json"))) == 3


def test_a_mirrored_subfolder_called_cancelled_gets_an_underscore(make_site) -> None:
    site = make_site(recursive=True)
    site.put("Cancelled/cat.png", b"cat")
    site.settle()
    site.run_next()
    assert site.folders() == [f"in/Cancelled_/cat-{site.job().id[:8]}"]


@pytest.mark.slow
def test_killed_at_any_step_of_cancelling_rows(make_site, kill_everywhere) -> None:
    def prepare(root: Path):
        site = table_of(make_site, root)
        cancel_batch(site)
        return site

    def check(site) -> None:
        roots = [site.inbox, site.outbox, site.config.data / "claims"]
        there = {path.read_bytes() for root in roots for path in root.rglob("*.png")}
        assert set(PICTURES.values()) <= there
        site.publish()
        assert originals(shared(site)) == PICTURES
        assert {(job.status, job.publish) for job in site.jobs()} == {("cancelled", "done")}
        assert len(list(shared(site).glob("*.json"))) == 4
        site.accounts().write()
        site.restart()
        assert files_in_claims(site) == []
        assert not list(shared(site).rglob(".*"))
        for job in site.jobs():
            retry(site, job)

    assert kill_everywhere(prepare, lambda site: site.publish(), check, every=5) > 10


@pytest.mark.slow
def test_killed_at_any_step_of_retrying_rows(make_site, kill_everywhere) -> None:
    def prepare(root: Path):
        site = table_of(make_site, root)
        cancel_batch(site)
        site.publish()
        return site

    def act(site) -> None:
        for job in site.jobs():
            if job.status == "cancelled":
                retry(site, job)

    def check(site) -> None:
        roots = [site.inbox, site.outbox, site.config.data / "claims"]
        there = {path.read_bytes() for root in roots for path in root.rglob("*.png")}
        assert set(PICTURES.values()) <= there
        act(site)
        for _ in range(4):
            site.run_next()
        assert {(job.status, job.publish) for job in site.jobs()} == {("completed", "done")}
        assert not shared(site).exists()
        site.accounts().write()
        assert files_in_claims(site) == []

    assert kill_everywhere(prepare, act, check, every=7) > 10


def test_a_cancelled_matrix_loses_nothing_that_was_written(site) -> None:
    text = "matrix: {remove_background.force: [true, false]}  # both, please\n"
    site.put("cat.png", b"cat")
    site.put("cat.png.yaml", text)
    site.settle()
    cancel_batch(site)
    site.publish()
    site.accounts().write()
    (folder,) = site.outbox.glob("in/cat-*")
    assert (folder / "source/cat.png.yaml").read_text() == text
    assert originals(folder / "cancelled") == {"cat.png": b"cat"}
    assert len(list((folder / "cancelled").glob("cat-*.yaml"))) == 2
