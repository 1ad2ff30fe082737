"""What the daemon leaves alone as long as nobody writes to the ledger."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from dna_pipeline.config.loader import load_config
from dna_pipeline.ledger import store
from dna_pipeline.ledger.sqlite import sqlite_module
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon import loop as daemons
from dna_pipeline.operations.daemon import status_file
from dna_pipeline.operations.daemon.loop import Daemon

CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
inboxes: [{path: in, pipeline: cut}]
"""


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """One whose loop is turned by the test, after it found that there is nothing to do."""
    (tmp_path / "in").mkdir()
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    monkeypatch.setattr(daemons, "REVIEW_S", float("inf"))
    for limit in ("INTERVAL_S", "COST_SHARE", "COUNTS_SHARE"):
        monkeypatch.setattr(status_file, limit, 0)
    daemon = Daemon(load_config(tmp_path / "pipeline.yaml", {}))
    with daemon._folders(), daemon._opened(lambda _: None):
        while not daemon.intake.is_quiet:
            time.sleep(0.01)
        for _ in range(3):
            daemon._tick()
        yield daemon


@pytest.fixture
def asked(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions to the ledger from now on."""
    heard: list[str] = []

    def listen(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def ask(*args: Any) -> Any:
            heard.append(name)
            return real(*args)

        monkeypatch.setattr(owner, name, ask)

    listen(daemon.dispatcher.scheduler, "claim")
    listen(daemon._queries, "counts")
    return heard


def write(daemon: Daemon) -> None:
    other = Ledger(daemon.config.ledger_path)
    other.transact(lambda s: store.set_setting(s, "written", str(time.time())))
    other.close()


@pytest.mark.slow
def test_a_ledger_that_nobody_wrote_to_is_not_asked(daemon: Daemon, asked: list[str]) -> None:
    for _ in range(5):
        daemon._tick()
    assert asked == []
    write(daemon)
    for _ in range(5):
        daemon._tick()
    assert asked == ["claim", "counts"]


@pytest.mark.slow
def test_what_failed_is_asked_again(
    daemon: Daemon, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = daemon.dispatcher.dispatch

    def fail(**_: bool) -> None:
        monkeypatch.setattr(daemon.dispatcher, "dispatch", real)
        raise OperationalError("BEGIN", {}, Exception("database or disk is full"))

    monkeypatch.setattr(daemon.dispatcher, "dispatch", fail)
    write(daemon)
    with pytest.raises(OperationalError):
        daemon._tick()
    assert asked == []
    daemon._tick()
    assert asked == ["claim", "counts"]


class BrokenConnection:
    """A connection to a ledger whose disk fails."""

    def execute(self, *_: Any) -> Any:
        raise sqlite_module().OperationalError("disk I/O error")

    def close(self) -> None:
        pass


@pytest.mark.slow
def test_a_ledger_that_cannot_be_read_is_tried_again(
    daemon: Daemon, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemons, "LEDGER_RETRY_S", 0)
    with monkeypatch.context() as patched, capture_logs() as logged:
        patched.setattr(daemon._queries, "_connection", BrokenConnection())
        for _ in range(2):
            daemon._tick_or_sleep()
        assert not daemon._is_idle()
    (entry,) = [entry for entry in logged if entry["event"] == "ledger.unavailable"]
    assert "disk I/O error" in entry["why"]
    write(daemon)
    daemon._tick_or_sleep()
    assert asked == ["claim", "counts"]


@pytest.mark.slow
def test_a_daemon_ends_properly_though_the_ledger_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    daemon = Daemon(load_config(tmp_path / "pipeline.yaml", {}))
    with capture_logs() as logged, daemon._folders(), daemon._opened(lambda _: None):
        daemon._queries.close()
        daemon._queries._connection = BrokenConnection()
    assert logged[-1]["event"] == "daemon.stopped"


@pytest.mark.slow
def test_now_and_then_it_is_asked_all_the_same(daemon: Daemon, asked: list[str]) -> None:
    daemon._review.next_at = 0.0
    daemon._tick()
    daemon._tick()
    assert asked == ["claim"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["listen", "has_cancel_requests", "dispatch"])
def test_a_cancel_at_any_moment_of_a_round_reaches_the_running_job(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A request to cancel is committed by another process, and nothing else is, for a long time."""
    is_written = False
    seen_after: list[bool] = []
    owner = daemon._queries if moment == "has_cancel_requests" else daemon.dispatcher
    forward, real = daemon.dispatcher.forward_cancels, getattr(owner, moment)

    def forwarded() -> None:
        seen_after.append(is_written)
        forward()

    def is_cancelled() -> bool:
        return is_written

    def write_once(**options: bool) -> object:
        nonlocal is_written
        value = (is_cancelled if moment == "has_cancel_requests" else real)(**options)
        if not is_written:
            write(daemon)
            is_written = True
        return value

    monkeypatch.setattr(daemon.dispatcher, "forward_cancels", forwarded)
    monkeypatch.setattr(daemon._queries, "has_cancel_requests", is_cancelled)
    monkeypatch.setattr(owner, moment, write_once)
    daemon._has_changed = True
    for _ in range(3):
        daemon._tick()
    assert seen_after.count(True) == 1


@pytest.mark.slow
def test_a_signal_stops_the_daemon_wherever_it_comes(daemon: Daemon) -> None:
    """Where the signal comes while the main thread holds the lock of the event that it waits for,
    the handler would wait for that lock for ever."""

    def interrupted() -> None:
        with daemon._wake._cond:  # type: ignore[attr-defined]
            daemon.stop()

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert daemon._stop.is_set()
