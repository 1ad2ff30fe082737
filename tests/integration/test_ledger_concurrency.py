"""Several threads and processes at one ledger, in WAL and with a rollback journal."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from dna_pipeline.ledger import engine as engines
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger, get_setting, set_setting

CLAIMER = """
import sys
from pathlib import Path
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.store import Ledger
ledger = Ledger(Path(sys.argv[1]))
sys.stdin.readline()
while (job := ledger.transact(queue.claim_next)) is not None:
    print(job.id)
ledger.close()
"""


@pytest.fixture(params=["WAL", "DELETE"])
def journal(request, monkeypatch) -> str:
    """With a SQLite that is safe in WAL, and as if there were only an old one."""
    if request.param == "DELETE":
        monkeypatch.setattr(engines, "wal_is_safe", lambda version: False)
    return request.param


@pytest.fixture
def ledger(tmp_path: Path, journal: str):
    ledger = Ledger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def pragma(ledger: Ledger, name: str):
    return ledger.transact(lambda s: s.connection().exec_driver_sql(f"PRAGMA {name}").scalar())


def test_the_settings_of_a_writer(ledger, journal) -> None:
    assert pragma(ledger, "journal_mode") == journal.lower()
    assert pragma(ledger, "synchronous") == 2
    assert pragma(ledger, "foreign_keys") == 1
    assert pragma(ledger, "integrity_check") == "ok"


def test_a_transaction_takes_the_lock_when_it_begins(ledger) -> None:
    # Two different SQLites in one process would undo each other's locks.
    module = engines.sqlite_module()
    other = module.connect(str(ledger.path), timeout=0.1, isolation_level=None)

    def action(session) -> None:
        session.connection()
        with pytest.raises(module.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")

    ledger.transact(action)
    other.close()


def test_an_open_reader_does_not_stop_a_commit(ledger, journal, monkeypatch) -> None:
    """In WAL at once; with a rollback journal as soon as the reader is done."""
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_MS", 20)
    ledger.close()
    writer = Ledger(ledger.path)
    module = engines.sqlite_module()
    reader = module.connect(str(ledger.path), isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM jobs").fetchall()
    calls: list[int] = []

    def action(session) -> None:
        calls.append(1)
        set_setting(session, "paused", str(len(calls)))

    timer = threading.Timer(0.4, lambda: reader.execute("COMMIT"))
    timer.start()
    started = time.monotonic()
    writer.transact(action)
    seconds = time.monotonic() - started
    timer.join()
    reader.close()
    assert writer.transact(lambda s: get_setting(s, "paused")) == str(len(calls))
    assert (seconds < 0.3 and len(calls) == 1) if journal == "WAL" else len(calls) > 1
    writer.close()


def test_views_see_what_was_committed_while_they_are_open(ledger) -> None:
    views = Queries(ledger.path)
    assert views.holds() == []
    before = views.data_version()
    ledger.transact(lambda s: set_setting(s, "paused", "now"))
    assert views.data_version() != before
    assert views.holds()[0]["code"] == "paused"
    views.close()


def test_what_is_busy_for_too_long_is_an_error(ledger, monkeypatch) -> None:
    def busy():
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database is locked"))

    with pytest.raises(OperationalError):
        engines.retry_busy(busy, seconds=0.1)


def test_other_errors_are_not_tried_again(ledger) -> None:
    calls: list[int] = []

    def action(session) -> None:
        calls.append(1)
        session.connection().exec_driver_sql("SELECT * FROM nowhere")

    with pytest.raises(OperationalError, match="no such table"):
        ledger.transact(action)
    assert len(calls) == 1


@pytest.mark.slow
def test_what_fails_halfway_leaves_nothing(ledger) -> None:
    def action(session) -> None:
        set_setting(session, "paused", "now")
        raise ValueError

    with pytest.raises(ValueError):
        ledger.transact(action)
    assert ledger.transact(lambda s: get_setting(s, "paused")) is None


@pytest.mark.slow
def test_threads_share_a_ledger(ledger) -> None:
    def count() -> None:
        for _ in range(20):
            ledger.transact(
                lambda s: set_setting(s, "number", str(int(get_setting(s, "number") or 0) + 1))
            )

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.transact(lambda s: get_setting(s, "number")) == "80"


@pytest.mark.slow
def test_two_processes_claim_each_job_once(make_site) -> None:
    site = make_site()
    for number in range(60):
        site.put(f"{number}.png", str(number))
    site.settle()
    wanted = {job.id for job in site.jobs()}
    assert len(wanted) == 60
    command = [sys.executable, "-c", CLAIMER, str(site.config.ledger_path)]
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        time.sleep(1)  # both are to have opened the ledger
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        claimed = Counter(line for child in children for line in child.communicate()[0].split())
    assert claimed == Counter(wanted)
    assert site.ledger.transact(queue.claim_next) is None


@pytest.mark.slow
def test_two_that_make_the_ledger_at_once_make_one(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from dna_pipeline.ledger.store import Ledger; "
    code += "print(Ledger(Path(sys.argv[1])).id)"
    command = [sys.executable, "-c", code, str(tmp_path / "ledger.db")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    ids = {child.communicate()[0].strip() for child in children}
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(ids) == 1
