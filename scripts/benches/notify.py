"""The cost of receivers for the queue: the commits of jobs beside deliveries of their messages."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from dna_pipeline.base.logs import silence
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.receivers import ReceiverConfig
from dna_pipeline.ledger import drops, queue, store
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.notifications import retries
from dna_pipeline.operations.daemon.notifications.messages import Message
from dna_pipeline.operations.daemon.notifications.notifier import Notifier
from dna_pipeline.operations.daemon.notifications.outcome import Outcome

FINISH_S = 120.0
KINDS = ("none", "quick", "broken")
"""No receiver, one that takes each message, and one that takes none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=2000, help="that end in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of all three (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to build, rather than in $TMPDIR")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report."""
    if min(args.jobs, args.rounds) < 1:
        raise ValueError("at least one job has to end, in one round")
    silence()  # each failed attempt is logged
    seconds: dict[str, list[float]] = {name: [] for name in KINDS}
    sent = dict.fromkeys(KINDS, 0)
    # Interleaved, since the disk that commits wait for is shared with others.
    for name in KINDS * args.rounds:
        with tempfile.TemporaryDirectory(prefix="dna-bench-", dir=args.folder) as folder:
            took_s, number = _measure(Path(folder), args.jobs, name)
        seconds[name].append(took_s)
        sent[name] += number
    report: dict[str, Any] = {"jobs": args.jobs, "rounds": args.rounds}
    for name in KINDS:
        report |= {f"{name}_s": round(median(seconds[name]), 2), f"{name}_sent": sent[name]}
    for name in ("quick", "broken"):
        ratios = [a / b for a, b in zip(seconds[name], seconds["none"], strict=True)]
        report[f"{name}_ratio"] = round(median(ratios), 3)
    return report


def _measure(folder: Path, jobs: int, kind: str) -> tuple[float, int]:
    """Give the seconds in which so many jobs run through the ledger, and the messages sent."""
    ledger = Ledger(folder / "ledger.db")
    _add_jobs(ledger, jobs)
    sent = [0]

    def send(_: ReceiverConfig, __: Message) -> Outcome:
        sent[0] += 1
        return Outcome("it is broken" if kind == "broken" else "")

    retries.DELAYS_S = (0.05,)  # far more attempts than a real receiver ever gets
    notifier = Notifier(ledger, folder, send=send)
    receivers = [ReceiverConfig("bench", ("true",), events=("job.completed",))]
    notifier.configure([] if kind == "none" else receivers)
    began = time.monotonic()
    while (job := ledger.transact(queue.claim_next)) is not None:
        job_id = job.id
        ledger.transact(lambda s, i=job_id: queue.finish_computing(s, i))
        ledger.transact(lambda s, i=job_id: queue.plan_publish(s, i, f"in/{i}", ""))
        ledger.transact(lambda s, i=job_id: queue.finish_publishing(s, i))
        notifier.ledger_changed()
    seconds = time.monotonic() - began
    if kind == "quick":
        notifier.finish(FINISH_S)
    notifier.close()
    ledger.close()
    return seconds, sent[0]


def _add_jobs(ledger: Ledger, number: int) -> None:
    now = utcnow()
    ids = [store.new_id() for _ in range(number)]
    owners: list[dict[str, Any]] = [
        {
            "id": one, "inbox": "in", "state": "claiming", "originals": "archive", "folder": "",
            "claim": f"/claims/{one}", "image": "cat.png", "sidecar": None, "stat": {},
            "error": None, "created_at": now,
        }
        for one in ids
    ]  # fmt: skip
    jobs: list[dict[str, Any]] = [
        {
            "id": one, "drop_id": one, "batch": None, "inbox": "in", "folder": "",
            "name": "cat.png", "stem": "cat", "pipeline": "cut", "priority": 0,
            "status": "queued", "hold": None, "hold_detail": None, "not_before": None,
            "stages": [], "models": "m", "tags": [], "meta": {}, "error": None, "publish": None,
            "created_at": now, "finished_at": None,
        }
        for one in ids
    ]  # fmt: skip

    def commit(session: Transaction) -> None:
        drops.begin_claims(session, owners)
        drops.finish_claims(session, [{"id": one} for one in ids], jobs)

    ledger.transact(commit)
