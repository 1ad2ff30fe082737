"""`dna-pipeline status --alive`, by which a container or a monitor sees that a daemon goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.operations import configuration
from dna_pipeline.operations.daemon.lock import hold_lock
from dna_pipeline.operations.status import ALIVE_S, find_daemon_fault
from tests.commands import call
from tests.integration.test_cli import CONFIG


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    (tmp_path / "outbox").mkdir()
    return tmp_path


@contextmanager
def daemon(studio: Path, written: datetime | None) -> Iterator[None]:
    """A held data folder, and a status file of that time."""
    with hold_lock(studio / "data"):
        if written is not None:
            content = json.dumps({"written_at": format_time(written), "daemon": {}})
            (studio / "outbox/status.json").write_text(content)
        yield


def fault(studio: Path, later_s: float) -> str | None:
    now = utcnow() + timedelta(seconds=later_s)
    return find_daemon_fault(configuration.load(studio / "pipeline.yaml", {}), now)


def test_without_a_daemon_it_fails(studio: Path):
    done = call(studio, "status", "--alive")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no daemon runs" in done.stderr


def test_a_daemon_that_writes_its_status_is_alive(studio: Path):
    with daemon(studio, utcnow() + timedelta(seconds=1)):
        done = call(studio, "status", "--alive")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert fault(studio, ALIVE_S - 5) is None
        assert "has written no status for about 4 min: it hangs" in (fault(studio, 240) or "")


def test_a_daemon_that_only_starts_is_alive(studio: Path):
    with daemon(studio, utcnow() - timedelta(hours=1)):
        assert fault(studio, ALIVE_S * 2) is None


@pytest.mark.parametrize("content", ["{}", "[", '{"written_at": "soon"}', '{"written_at": 3}'])
def test_what_cannot_be_told_is_no_fault(studio: Path, content: str):
    with daemon(studio, None):
        assert fault(studio, 1e6) is None
        (studio / "outbox/status.json").write_text(content)
        assert fault(studio, 1e6) is None
