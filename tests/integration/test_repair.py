"""A lost ledger is rebuilt from results and claims: nothing is lost, nothing done twice."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dna_pipeline.base.errors import ConfigError, EmptyMesh, Locked
from dna_pipeline.config.loader import load_config
from dna_pipeline.intake.claiming import owner
from dna_pipeline.ledger import health, pauses, queue, store
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import ArtifactRow, Batch, BatchRow
from dna_pipeline.operations.daemon.lock import hold_lock
from dna_pipeline.operations.repair import rebuild as rebuilding
from dna_pipeline.operations.repair.rebuild import rebuild
from dna_pipeline.operations.repair.salvage import salvage
from dna_pipeline.operations.repair.takeover import take_over
from dna_pipeline.operations.retry import Retrier
from tests.commands import call
from tests.integration.companions import MASKED

pytestmark = pytest.mark.slow


def destroy(site, how: str = "overwritten") -> None:
    """The site's ledger is no more."""
    site.close()
    path = site.config.ledger_path
    if how == "overwritten":
        path.write_bytes(b"not a database" * 1000)
    elif how == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-4096:] = b"\xa5" * 4096  # a page that most of the ledger can do without
        path.write_bytes(data)


def mended(site):
    report = rebuild(site.config)
    site._start()
    site.gate.recovery.run(site.now)
    site.clean_up()
    return report


def fail(site) -> None:
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, EmptyMesh("none").failure(), None))
    site.publish()


def facts_of(site) -> list[tuple]:
    views = Queries(site.config.ledger_path)
    names = ("id", "inbox", "folder", "name", "pipeline", "priority", "status", "publish_name")
    found = [tuple(job[name] for name in names) for job in views.jobs()]
    views.close()
    return found


@pytest.fixture
def busy(make_site):
    """One result, one failure and one job that waits, all of one inbox."""
    site = make_site(recursive=True)
    site.put("one/cat.png", b"cat")
    site.put("one/cat.yaml", "priority: 3\ntags: [hero]")
    site.settle()
    site.run_next()
    site.put("dog.png", b"dog")
    site.settle()
    fail(site)
    site.put("sub/owl.png", b"owl")
    site.put("sub/owl.png.yaml", "priority: 7")
    site.settle()
    return site


@pytest.mark.parametrize("has_own", [False, True])
def test_a_note_beside_the_originals_of_a_failure_is_no_sidecar(make_site, has_own: bool) -> None:
    site = make_site()
    site.put("dog.png", b"dog")
    if has_own:
        site.put("dog.yaml", "priority: 9")
    site.settle()
    fail(site)
    (folder,) = site.folders()
    source = site.outbox / folder / "source"
    (source / "a note.yaml").write_text("priority: 1")
    destroy(site)
    mended(site)
    drop = site.drop(site.job())
    assert drop.sidecar == ("dog.yaml" if has_own else None)
    assert drop.sidecar_text == ("priority: 9" if has_own else None)


@pytest.mark.parametrize("how", ["overwritten", "gone", "one page"])
def test_what_has_ended_and_what_waits_is_all_there(busy, how: str) -> None:
    before = facts_of(busy)
    assert [row[6] for row in before] == ["queued", "failed", "completed"]
    ledger_id = busy.ledger.id
    destroy(busy, how)
    with pytest.raises(ConfigError, match="dna-pipeline repair"):
        Ledger(busy.config.ledger_path, thorough=True)

    report = mended(busy)

    assert busy.ledger.id == ledger_id == report.ledger
    assert report.jobs == {"completed": 1, "failed": 1}
    assert report.claims == {"in": 1}
    assert facts_of(busy) == before[1:], "with the next look the one that waits comes again"
    busy.settle()
    waiting = busy.jobs()[-1]
    assert (waiting.name, waiting.priority, waiting.status) == ("owl.png", 7, "queued")
    busy.run_next()
    assert len(busy.folders()) == 3
    assert busy.claims() == []
    assert busy.left() == set()
    for path in map(Path, report.set_aside):
        assert path.is_file()
        assert path.name.startswith("ledger.db.damaged-2")


def test_what_the_ledger_tells_of_a_result(busy) -> None:
    job = next(job for job in busy.jobs() if job.status == "completed")
    views = Queries(busy.config.ledger_path)
    before = views.job(job.id)
    views.close()
    destroy(busy)
    mended(busy)
    views = Queries(busy.config.ledger_path)
    after = views.job(job.id)
    views.close()
    for name in ("tags", "meta", "created_at", "finished_at", "manifest_sha256", "attempt"):
        assert after[name] == before[name], name
    assert after["folder"] == "one"
    (stage,), (told,) = after["stage_runs"], before["stage_runs"]
    for name in ("stage_id", "type", "params", "provider", "seconds", "device"):
        assert stage[name] == told[name], name
    (file,), (told,) = after["artifacts"], before["artifacts"]
    for name in ("stage_id", "path", "role", "sha256", "bytes", "facts"):
        assert file[name] == told[name], name


def test_a_stem_that_holds_the_id_of_a_stage(make_site) -> None:
    """Which stage made a file is read from its name, where the stem comes first."""
    site = make_site()
    twice = [{"remove_background": {"id": name, "model": "key"}} for name in ("one", "two")]
    text = yaml.safe_load(site.config.file.read_text()) | {"pipelines": {"cut": twice}}
    site.config.file.write_text(yaml.safe_dump(text))
    site.config = load_config(site.config.file, {})
    site.restart()
    site.put("a.one.png", b"image")
    site.settle()
    job = site.claim_next()
    for stage in job.stages:
        finish(site, job, stage["id"], f"a.one.{stage['id']}.matte.png")
    site.ledger.transact(lambda s: queue.finish_computing(s, job.id))
    site.publish()
    before = {file.path: file.stage_id for file in site.rows(ArtifactRow)}
    assert before == {"a.one.one.matte.png": "one", "a.one.two.matte.png": "two"}
    destroy(site)
    mended(site)
    assert {file.path: file.stage_id for file in site.rows(ArtifactRow)} == before


def finish(site, job, stage_id: str, name: str) -> None:
    """What a worker would do for one stage of a job."""
    path = site.config.work / job.id / stage_id / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a matte")
    run = {
        "stage_id": stage_id, "type": "remove_background", "provider": "border_key", "model": None,
        "params": {}, "device": "cpu", "dtype": "float32", "batch_size": 1, "attempt": 1,
        "seconds": 0.5, "warnings": [], "environment": {},
    }  # fmt: skip
    file = {
        "path": name, "role": "matte", "media_type": "image/png", "bytes": 7,
        "sha256": hashlib.sha256(b"a matte").hexdigest(), "facts": {},
    }  # fmt: skip
    site.ledger.transact(lambda s: queue.finish_stage(s, job.id, run, [file]))


def test_a_failure_can_be_retried(busy) -> None:
    destroy(busy)
    mended(busy)
    job = next(job for job in busy.jobs() if job.status == "failed")
    Retrier(busy.config, busy.ledger).retry(job.id, busy.prober)
    busy.settle()
    while any(job.status == "queued" for job in busy.jobs()):
        busy.run_next()
    assert {job.status for job in busy.jobs()} == {"completed"}
    assert sum("failed" in name for name in busy.folders()) == 0


def test_a_claim_whose_job_has_its_folder_is_not_done_again(make_site, monkeypatch) -> None:
    """The ledger broke between the rename of the result and the removal of the claim."""
    site = make_site()
    site.put("cat.png", b"cat")
    site.settle()
    monkeypatch.setattr(site.cleanup, "dispose_unneeded", lambda drop=None: None)
    site.run_next()
    destroy(site, "one page")
    mended(site)
    site.settle()
    assert [job.status for job in site.jobs()] == ["completed"]
    assert site.claims() == []


@pytest.mark.parametrize(
    ("how", "told"), [("one page", "the damaged ledger"), ("overwritten", "folders of its claims")]
)
def test_the_old_id_is_found_without_the_note(busy, how: str, told: str) -> None:
    """Or nobody would ever look into its claims again."""
    ledger_id = busy.ledger.id
    destroy(busy, how)
    busy.config.ledger_path.with_name("ledger.id").unlink()
    report = mended(busy)
    assert busy.ledger.id == ledger_id
    assert told in report.id_from


def test_among_the_claims_of_several_ours_are_those_that_name_our_data_folder(busy) -> None:
    ledger_id = busy.ledger.id
    owner.beat(busy.inbox, ledger_id, {"data": str(busy.config.data)})
    owner.beat(busy.inbox, "0123456789ab", {"data": "/elsewhere"})
    destroy(busy)
    busy.config.ledger_path.with_name("ledger.id").unlink()
    assert mended(busy).ledger == ledger_id


def test_a_whole_ledger_is_left_alone(busy) -> None:
    busy.close()
    before = busy.config.ledger_path.read_bytes()
    report = rebuild(busy.config)
    assert report.damage is None
    assert busy.config.ledger_path.read_bytes() == before


def test_manifests_that_are_not_ours_are_reported(busy) -> None:
    (busy.outbox / "in/strange").mkdir()
    (busy.outbox / "in/strange/manifest.json").write_text('{"schema_version": 1}')
    result = next(name for name in busy.folders() if "failed" not in name and "cat" in name)
    shutil.copytree(busy.outbox / result, busy.outbox / "copy of it")
    destroy(busy)
    report = mended(busy)
    assert [line.split(":")[0] for line in report.unreadable] == ["in/strange/manifest.json"]
    assert report.jobs["completed"] == 1


def die_at(number: int) -> None:
    """End this process before or after its so many-th step on the disk."""
    passed = [0]

    def wrap(real):
        def step(*args, **kwargs):
            for action in (None, lambda: real(*args, **kwargs)):
                result = action and action()
                passed[0] += 1
                if passed[0] == number:
                    os._exit(9)
            return result

        return step

    steps = [(Path, "rename"), (Path, "unlink"), (os, "fsync"), (Ledger, "transact")]
    for home, name in steps:
        setattr(home, name, wrap(getattr(home, name)))


def test_killed_at_any_step_it_begins_again(busy) -> None:
    """Meanwhile no daemon takes the half of it for the whole."""
    destroy(busy)
    fresh = busy.root.with_name("fresh")
    shutil.copytree(busy.root, fresh)
    for number in range(1, 400, 3):
        child = os.fork()
        if child == 0:
            try:
                die_at(number)
                rebuild(busy.config)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 9)
        with contextlib.suppress(ConfigError):
            opened = Ledger(busy.config.ledger_path)
            assert opened.id == busy.ledger.id
            opened.close()
            assert len(facts_of(busy)) == 2
        rebuild(busy.config)
        assert len(facts_of(busy)) == 2
        names = {path.name for path in busy.config.data.iterdir() if path.is_file()}
        assert {"ledger.db", "ledger.id"} <= names
        assert not any("rebuilding" in name for name in names)
        assert len([name for name in names if "damaged" in name and "-wal" not in name]) >= 1
        shutil.rmtree(busy.root)
        shutil.copytree(fresh, busy.root)
        if status == 0:
            assert number > 30
            return
    raise AssertionError("it comes to no end")


@pytest.mark.parametrize("how", ["whole", "overwritten"])
def test_files_called_like_a_ledger_that_was_rebuilt_are_left_alone(site, how: str) -> None:
    foreign = [site.config.data / name for name in ("rebuilt.db", "rebuilt.db-wal", "rebuilt.id")]
    for path in foreign:
        path.write_bytes(b"mine")
    if how == "whole":
        site.close()
        assert rebuild(site.config).damage is None
    else:
        destroy(site, how)
        assert rebuild(site.config).damage is not None
    assert [path.read_bytes() for path in foreign] == [b"mine"] * 3


def test_a_rebuild_that_was_cut_off_is_cleared_away_by_the_next(site) -> None:
    destroy(site)
    half = health.building_file(site.config.ledger_path)
    half.write_bytes(b"not a database")
    half.with_suffix(".id").write_bytes(b"0123456789ab")
    rebuild(site.config)
    assert not list(site.config.data.glob(".dna-rebuilding*"))


def test_a_transaction_that_has_begun_is_waited_for_and_none_begins(site, monkeypatch) -> None:
    site.settle()
    destroy(site, "one page")
    path = site.config.ledger_path
    monkeypatch.setattr(health, "check", lambda *_, **__: None)  # it was opened before the damage
    server = Ledger(path, unlocked=True)
    has_begun, real = threading.Event(), rebuilding.salvage

    def write(session) -> None:
        has_begun.set()
        time.sleep(0.5)
        store.set_setting(session, "paused", "2026-12-01T00:00:00+00:00")

    def salvage_beside_a_server(path):
        remains = real(path)
        with pytest.raises(health.LedgerReplaced):
            server.transact(lambda s: store.set_setting(s, "late", "1"))
        return remains

    monkeypatch.setattr(rebuilding, "salvage", salvage_beside_a_server)
    monkeypatch.setattr(health, "problem", lambda _: has_begun.wait(10) and "damaged")
    writer = threading.Thread(target=server.transact, args=(write,))
    writer.start()
    rebuild(site.config)
    writer.join()
    with pytest.raises(health.LedgerReplaced):
        server.transact(lambda s: store.set_setting(s, "late", "1"))
    server.close()
    with contextlib.closing(Ledger(path)) as ledger:
        settings = ledger.transact(
            lambda s: [store.get_setting(s, name) for name in ("paused", "late")]
        )
    assert settings == ["2026-12-01T00:00:00+00:00", None]


@pytest.mark.parametrize("command", ["run", "repair", "repair --claims"])
def test_a_repair_that_was_interrupted_refuses_no_image_for_ever(site, command: str) -> None:
    """Somebody put a copy of the ledger back."""
    site.settle()
    site.close()
    building = health.building_file(site.config.ledger_path)
    building.touch()
    call(site.root, *command.split())
    assert not building.exists()


# --- keep ---


@pytest.mark.parametrize("how", ["overwritten", "one page"])
def test_kept_files_that_are_done_do_not_run_again(make_site, how: str) -> None:
    site = make_site(originals="keep")
    for name in ("cat", "dog"):
        site.put(f"{name}.png", name.encode())
    site.put("cat.yaml", "priority: 2")
    site.settle()
    site.run_next()
    fail(site)
    site.put("new.png", b"new")
    destroy(site, how)
    report = mended(site)
    assert report.known == {"in": 2}
    site.settle()
    assert [job.name for job in site.jobs()] == ["cat.png", "dog.png", "new.png"]
    site.put("cat.yaml", "priority: 4")
    site.settle()
    assert [job.name for job in site.jobs()][3:] == ["cat.png"], "another YAML makes a new job"


@pytest.mark.parametrize("how", ["overwritten", "one page"])
def test_a_kept_file_that_waited_runs_once(make_site, how: str) -> None:
    site = make_site(originals="keep")
    site.put("cat.png", b"cat")
    site.settle()
    destroy(site, how)
    report = mended(site)
    assert report.recovered == []
    assert site.claims() == [], "the copy has its original"
    site.settle()
    site.run_next()
    assert len(site.jobs()) == 1


def test_a_copy_without_its_original_is_queued_or_laid_where_people_find_it(make_site) -> None:
    for how, queued in (("one page", 1), ("overwritten", 0)):
        site = make_site(make_site().root / how.split()[0], originals="keep")
        site.put("cat.png", b"the only cat")
        site.settle()
        (site.inbox / "cat.png").unlink()
        destroy(site, how)
        report = mended(site)
        assert report.requeued == queued
        assert len(report.recovered) == 1 - queued
        site.settle()
        assert len(site.jobs()) == queued
        places = [site.config.data / "claims", site.config.data / "recovered"]
        found = [path.read_bytes() for place in places for path in place.rglob("*.png")]
        assert found == [b"the only cat"]


def test_what_was_to_be_ignored_is_ignored_once_more(make_site) -> None:
    site = make_site(existing="ignore")
    site.put("old.png", b"old")
    site.settle()
    destroy(site)
    report = mended(site)
    assert "touch a file" in report.remarks[0]
    site.settle()
    assert site.jobs() == []


@pytest.mark.parametrize("how", ["overwritten", "one page"])
def test_it_says_that_rows_of_tables_and_the_pause_are_lost(make_site, how: str) -> None:
    site = make_site()
    for name in "ab":
        site.put(f"{name}.png", name)
    site.put("shots.csv", "image,not_before\na.png,2099-01-01\nb.png,2099-01-01\n")
    site.settle()
    site.ledger.transact(lambda s: store.set_setting(s, "paused", "now"))
    destroy(site, how)
    told = " ".join(mended(site).remarks)
    is_told = how == "overwritten"
    assert ("rows of job files and tables" in told, "queue was paused" in told) == (is_told,) * 2


# --- the command ---


def test_the_commands_refuse_and_repair_mends(busy) -> None:
    destroy(busy)
    for command in (["run"], ["pause"], ["jobs"], ["submit", str(busy.root / "pipeline.yaml")]):
        done = call(busy.root, *command)
        assert done.returncode == 2, (command, done.stderr)
        assert "ledger.db" in done.stderr
        assert "dna-pipeline repair" in done.stderr
    done = call(busy.root, "repair", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["jobs"] == {"completed": 1, "failed": 1}
    assert call(busy.root, "verify").returncode == 0
    assert len(json.loads(call(busy.root, "jobs", "--json").stdout)) == 2
    assert "whole" in call(busy.root, "repair").stderr


def test_repair_waits_for_no_daemon(busy) -> None:
    from dna_pipeline.operations.daemon.lock import hold_lock

    with hold_lock(busy.config.data):
        assert call(busy.root, "repair").returncode == 3


def a_batch(make_site, **keys):
    """Of three rows one is done, one failed, and one, whose image two rows name, waits."""
    site = make_site(**keys)
    for name in "abc":
        site.put(f"{name}.png", name)
    rows = "".join(f"{name}.png,{8 - n},{name}\n" for n, name in enumerate("abcc"))
    site.put("shots.csv", f"image,priority,meta.x\n{rows}")
    site.settle()
    site.run_next()
    fail(site)
    site.accounts().write()
    return site


@pytest.mark.parametrize("how", ["overwritten", "one page"])
def test_a_failed_row_can_be_retried(make_site, how: str) -> None:
    site = a_batch(make_site)
    destroy(site, how)
    mended(site)
    failed = next(job for job in site.jobs() if job.status == "failed")
    Retrier(site.config, site.ledger).retry(failed.id, site.prober)
    while site.ledger.transact(queue.next_runnable) is not None:
        fail(site)
    site.ledger.transact(lambda s: pauses.check_batch(s, failed.batch))
    Retrier(site.config, site.ledger).retry(failed.id, site.prober)
    while site.ledger.transact(queue.next_runnable) is not None:
        site.run_next()
    (name,) = [job.publish_name for job in site.jobs() if job.id == failed.id]
    assert (site.outbox / name / "manifest.json").is_file()
    assert {job.folder for job in site.jobs()} == {""}


@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_rows_that_wait_do_what_they_were_told(make_site, originals: str) -> None:
    site = a_batch(make_site, originals=originals)
    before = {job.id: job for job in site.jobs()}
    destroy(site, "one page")
    mended(site)
    site.settle()
    after = {job.id: job for job in site.jobs()}
    for name in ("status", "priority", "meta", "batch", "request", "folder"):
        assert {i: getattr(j, name) for i, j in after.items() if j.status == "queued"} == {
            i: getattr(j, name) for i, j in before.items() if j.status == "queued"
        }, name
    assert len(after) == 4
    while site.ledger.transact(queue.next_runnable) is not None:
        site.run_next()
    site.accounts().write()
    (account,) = site.outbox.glob("in/shots-*/batch.csv")
    told = list(csv.DictReader(account.read_text().splitlines()))
    assert [row["status"] for row in told] == ["completed", "failed", "completed", "completed"]
    assert site.claims() == []


def test_a_batch_that_had_ended_does_not_end_again(make_site) -> None:
    site = make_site()
    for name in "ab":
        site.put(f"{name}.png", name)
    site.put("all.yaml", "images: '*.png'\nmatrix: {img2img.steps: [10, 20]}\n")
    site.settle()
    while site.ledger.transact(queue.next_runnable) is not None:
        site.run_next()
    site.accounts().write()
    (before,) = site.rows(Batch)
    assert (before.state, before.axes is not None) == ("done", True)
    (folder,) = {path.parent for path in site.outbox.rglob("batch.csv")}
    shutil.rmtree(folder)
    destroy(site, "one page")
    mended(site)
    site.accounts().write()
    (after,) = site.rows(Batch)
    assert [getattr(after, c.name) for c in Batch.__table__.columns] == [
        getattr(before, c.name) for c in Batch.__table__.columns
    ]
    assert not folder.exists()


@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_what_waits_keeps_its_mask(make_site, originals: str) -> None:
    site = make_site(originals=originals, **MASKED)
    site.put("cat.mask.png", b"mask")
    site.put("cat.png", b"cat")
    site.settle()
    before = site.drop(site.job())
    assert [file["name"] for file in before.companions] == ["cat.mask.png"]
    destroy(site, "one page")
    mended(site)
    site.settle()
    (job,) = [job for job in site.jobs() if job.status == "queued"]
    assert site.drop(job).companions == before.companions
    site.run_next()
    assert site.job().status == "completed"


def test_what_was_submitted_keeps_its_mask(make_site) -> None:
    site = make_site()
    image, mask = site.root / "cat.png", site.root / "shape.png"
    for path in (image, mask):
        Image.new("RGB", (64, 64), "white").save(path)
    done = call(site.root, "submit", str(image), "--pipeline", "paint", "--mask", str(mask))
    assert done.returncode == 0, done.stderr
    before = site.drop(site.job())
    destroy(site, "one page")
    mended(site)
    assert site.drop(site.job()).companions == before.companions


def test_a_pipeline_that_was_paused_stays_so(busy) -> None:
    pause = pauses.PIPELINE + "p"
    busy.ledger.transact(lambda s: store.set_setting(s, pause, "5 failures"))
    destroy(busy, "one page")
    mended(busy)
    assert busy.ledger.transact(lambda s: store.get_setting(s, pause)) == "5 failures"


def test_what_waits_still_quotes_its_job_file(make_site) -> None:
    site = make_site()
    for name in "abc":
        site.put(f"{name}.png", name)
    site.put("all.yaml", "images: '*.png'\n")
    site.settle()
    site.run_next()
    site.accounts().write()
    destroy(site, "one page")
    mended(site)
    while site.ledger.transact(queue.next_runnable) is not None:
        site.run_next()
    manifests = [json.loads(path.read_bytes()) for path in site.outbox.rglob("manifest.json")]
    assert [manifest["sidecar"] for manifest in manifests] == ["images: '*.png'\n"] * 3


def test_rows_that_make_no_sense_do_not_stop_a_repair(make_site, monkeypatch) -> None:
    site = a_batch(make_site)
    with sqlite3.connect(site.config.ledger_path) as ledger:
        ledger.execute("UPDATE batch_rows SET number = 'garbage' WHERE number = 2")
    ledger.close()
    real = rebuilding.salvage

    def twice(path):
        found = real(path)
        found.batch_rows += [*found.batch_rows, {**found.batch_rows[0], "number": 9, "image": None}]
        found.batches *= 2
        return found

    monkeypatch.setattr(rebuilding, "salvage", twice)
    destroy(site, "one page")
    mended(site)
    assert [row.number for row in site.rows(BatchRow)] == [3, 4, 5]


def test_a_job_is_known_although_what_is_long_in_it_is_damaged(make_site) -> None:
    """It is not in the page that tells whose it is."""
    site = a_batch(make_site)
    (first, *_) = before = {job.id for job in site.jobs()}
    path = site.config.ledger_path
    site.close()
    with sqlite3.connect(path) as ledger:
        long = json.dumps({"x": "LONG" * 5000})
        ledger.execute("UPDATE jobs SET meta = ? WHERE id = ?", (long, first))
    ledger.close()
    data = bytearray(path.read_bytes())
    at = data.index(b"LONG" * 500) // 4096 * 4096
    path.write_bytes(data[:at] + bytes(4096) + data[at + 4096 :])
    assert set().union(*salvage(path).jobs_of.values()) == before
    assert {job.id for job in mended(site) and site.jobs()} == before


def test_damage_that_sqlite_cannot_name_is_damage(busy) -> None:
    busy.close()
    path = busy.config.ledger_path
    path.write_bytes(path.read_bytes().replace(b"ix_jobs_hold ON", b"ix_jobs_hold \xff\xff"))
    with pytest.raises(ConfigError, match="is damaged"):
        Ledger(path)
    mended(busy)
    busy.settle()
    assert len(busy.jobs()) == 3


def test_nothing_is_repaired_below_a_daemon(busy) -> None:
    destroy(busy)
    damaged = busy.config.ledger_path.read_bytes()
    with hold_lock(busy.config.data):
        for repair in (rebuild, take_over):
            with pytest.raises(Locked):
                repair(busy.config)
    assert busy.config.ledger_path.read_bytes() == damaged
    assert rebuild(busy.config).jobs
    assert take_over(busy.config) == []
