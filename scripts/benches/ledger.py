"""Times of the daemon's transactions and of reading commands with a ledger of many jobs."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from benches import options
from benches.daemons import ROOT, started
from benches.history import History, data_folder
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.local_workers import LocalWorkers
from dna_pipeline.execution.scheduler import Scheduler
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.ledger import drops, pauses, queue, store
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.operations.daemon.cleanup import Cleanup
from dna_pipeline.operations.daemon.status_file import StatusFile
from dna_pipeline.operations.daemon.worker_settings import worker_settings

T = TypeVar("T")

QUEUED = 5000
"""Maximum number of jobs that could run at once; one in twenty in a smaller ledger."""

OTHER_MODELS = frozenset({"a model that no job needs"})

LONG_S = 1000.0
"""Seconds between two writes of the status file, so long that each is due."""

CLAIM_BYTES = 40 << 10

COMMANDS = {
    "status": ["status"],
    "jobs": ["jobs"],
    "jobs_of_a_status": ["jobs", "--status", "completed"],
    "jobs_of_an_inbox": ["jobs", "--inbox", "inbox3"],
    "jobs_of_both": ["jobs", "--status", "failed", "--inbox", "inbox3"],
    "jobs_1000": ["jobs", "--limit", "1000"],
}

RUN: dict[str, Any] = {
    "stage_id": "restyle", "type": "img2img", "provider": "diffusers", "model": {"name": "sd15"},
    "params": {"steps": 30}, "device": "cuda", "dtype": "float16", "batch_size": 1, "attempt": 1,
    "seconds": 2.5, "warnings": [], "environment": {"python": "3.11"},
}  # fmt: skip
FILE: dict[str, Any] = {
    "path": "image.png", "role": "image", "media_type": "image/png", "bytes": 1, "sha256": "0" * 64,
    "facts": {},
}  # fmt: skip


class Times:
    """Milliseconds of clock and processor, by the name of the action."""

    def __init__(self) -> None:
        self._wall: dict[str, list[float]] = {}
        self._cpu: dict[str, list[float]] = {}

    def of(self, what: str, action: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), options.cpu_s()
        result = action()
        self._cpu.setdefault(what, []).append(1000 * (options.cpu_s() - cpu))
        self._wall.setdefault(what, []).append(1000 * (time.perf_counter() - wall))
        return result

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Give median and 95th percentile of the clock, and median of the processor's time."""
        return {
            what: {
                "median": round(statistics.median(wall), 2),
                "p95": round(sorted(wall)[int(0.95 * len(wall))], 2),
                "cpu": round(statistics.median(self._cpu[what]), 2),
            }
            for what, wall in self._wall.items()
        }


def measure(root: Path, history: History, rounds: int, starts: int) -> dict[str, Any]:
    """Build a ledger in `root` and measure all actions on it.

    Args:
        rounds: number of jobs that are recorded, started and finished.
        starts: number of runs of each command.
    """
    began = time.monotonic()
    file = data_folder(root, history)
    built_s = time.monotonic() - began
    config = load_config(file, {})
    times = Times()
    for name, arguments in COMMANDS.items():
        for _ in range(starts):
            times.of(name, lambda a=arguments: _command(file, a))
    ready_s = _ready_s(config)
    _ask(config, times, rounds)
    _sync(root / "bare", times, rounds)
    return {
        "jobs": history.jobs, "queued": history.queued, "future": history.future,
        "built_s": round(built_s, 1), "mib": config.ledger_path.stat().st_size >> 20,
        "daemon_ready_s": round(ready_s, 2), "ms": times.to_dict(),
    }  # fmt: skip


def _sync(path: Path, times: Times, rounds: int) -> None:
    """Measure the disk's share of a commit: flush as many bytes as a claim writes."""
    with path.open("wb", buffering=0) as file:
        for _ in range(rounds):
            file.write(bytes(CLAIM_BYTES))
            times.of("bare_sync", lambda: os.fsync(file.fileno()))


def _command(config: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "dna_pipeline", "--config", str(config), *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def _ready_s(config: Config) -> float:
    """Measure seconds from the start of a paused daemon's process to its first `status.json`."""
    _pause(config, "for now")
    began = time.monotonic()
    with started(config.file):
        seconds = time.monotonic() - began
    _pause(config, None)
    return seconds


def _pause(config: Config, value: str | None) -> None:
    ledger = Ledger(config.ledger_path)
    ledger.transact(lambda s: store.set_setting(s, "paused", value))
    ledger.close()


def _ask(config: Config, times: Times, rounds: int) -> None:
    """Run all transactions of the daemon."""
    ledger, queries = Ledger(config.ledger_path), Queries(config.ledger_path)
    dispatcher = Dispatcher(config, ledger, LocalWorkers(worker_settings(config)))
    cleanup = Cleanup(config, ledger)
    intake = IntakeService(config, ledger, cleanup)
    status = StatusFile(config, queries, dispatcher, intake)
    for number in range(rounds):
        _take_in(config, ledger, times, number)
        times.of("review", lambda: dispatcher.scheduler.review(keep_trying=True))
        job = _claim(dispatcher.scheduler, times, number)
        _finish(ledger, job, times)
        status.ledger_changed()
        times.of("snapshot", lambda n=number: status.step(LONG_S * n))
    _clean_up(cleanup, times, rounds)
    intake.close()
    queries.close()
    ledger.close()


def _claim(scheduler: Scheduler, times: Times, number: int) -> Job:
    """Claim the next job; each second time as for eight workers that have loaded models which it
    does not need, so that the scheduler looks for another one."""
    if number % 2:
        job = times.of("claim_of_eight", lambda: scheduler.claim([OTHER_MODELS] * 8))
    else:
        job = times.of("claim", scheduler.claim)
    assert job is not None
    return job


def _take_in(config: Config, ledger: Ledger, times: Times, number: int) -> None:
    inbox = config.inboxes[number % len(config.inboxes)]
    drop = job_rows.drop_row(inbox, "", "new.png", None)
    context = job_rows.context_of(inbox, "", "new.png", None)
    spec = Planner(config, inbox).resolve_one(None, context)
    job = job_rows.job_row(inbox, "", "new.png", drop["id"], spec)

    def commit() -> None:
        ledger.transact(lambda s: drops.begin_claims(s, [drop]))
        ledger.transact(lambda s: drops.finish_claims(s, [{"id": drop["id"]}], [job]))

    times.of("insert", commit)


def _finish(ledger: Ledger, job: Job, times: Times) -> None:
    """Take a job from the end of its stage to its publication, a commit a step."""

    def computed(session: Session) -> None:
        pauses.note_success(session, job.id)
        queue.finish_computing(session, job.id)

    def ended(session: Session) -> None:
        queue.finish_publishing(session, job.id)
        drops.unneeded_drops(session, job.drop_id)
        drops.set_drop_state(session, job.drop_id, "gone")

    def transact(what: str, action: Callable[[Session], Any]) -> None:
        times.of(what, lambda: ledger.transact(action))

    name = f"{job.inbox}/{job.id}"
    transact("finish_stage", lambda s: queue.finish_stage(s, job.id, RUN, [FILE]))
    transact("finish_job", computed)
    transact("to_publish", queue.to_publish)
    transact("plan_publish", lambda s: queue.plan_publish(s, job.id, name, "0" * 64))
    transact("published", ended)


def _clean_up(cleanup: Cleanup, times: Times, rounds: int) -> None:
    """Run some steps of the removal of old events."""
    for _ in range(rounds):
        times.of("housekeeping", lambda: cleanup.step(0.0))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=1_000_000, help="in one ledger (%(default)s)")
    parser.add_argument(
        "--future", type=int, default=100_000,
        help="jobs in another that all wait for a time to come; 0: leave it out (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=200, help="jobs run (%(default)s)")
    parser.add_argument("--starts", type=int, default=7, help="of each command (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to build, rather than in $TMPDIR")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report; times are milliseconds of wall clock."""
    if min(args.jobs, args.rounds, args.starts) < 1 or args.future < 0:
        raise ValueError("there must be something to measure")
    queued = min(QUEUED, args.jobs // 20)
    report: dict[str, Any] = {"load": options.load()}
    with tempfile.TemporaryDirectory(prefix="dna-bench-", dir=args.folder) as folder:
        many = History(args.jobs, queued=queued)
        report["many"] = measure(Path(folder, "many"), many, args.rounds, args.starts)
        if args.future:
            later = History(args.future, future=args.future)
            report["later"] = measure(Path(folder, "later"), later, args.rounds, args.starts)
    return report
