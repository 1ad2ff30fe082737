"""How often models are loaded where one fits at a time, and what a job of high priority waits for.

Jobs of two checkpoints alternate, in the order in which they are dropped, through the real daemon
and worker with small models. While the jobs of a second turn run, one of high priority comes: it
needs the model that is not loaded.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benches import options, queue_times
from benches.daemons import started

CONFIG = """\
version: 1
paths: {data: data, outbox: outbox}
runtime: {device: cpu}
inboxes: [{path: inbox, pipeline: p, settle_seconds: 0.3, sidecar_wait_seconds: 5}]
models: {"*": checkpoints/}
pipelines:
  p: [{img2img: {model: one, prompt: clay, steps: 4, strength: 1.0, max_size: 128}}]
"""
NAMES = ("one", "other")
URGENT = "urgent"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=options.at_least(10), default=50, help="(%(default)s)")
    parser.add_argument("--models", type=Path, help="folder of models; small ones are made else")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `ValueError` if a job failed or the daemon did not go on."""
    with tempfile.TemporaryDirectory(prefix="dna-bench-") as folder:
        root = Path(folder)
        own = args.models
        models = own.absolute() if own else queue_times.small_models(root / "models")
        for name in NAMES:
            shutil.copytree(models / "sd-v1-5-local", root / "data" / "checkpoints" / name)
        (root / "inbox").mkdir()
        config = root / "pipeline.yaml"
        config.write_text(CONFIG)
        log = root / "daemon.log"
        with started(config):
            queue_times.daemon_s(root, partial(_drop, root / "inbox", "turn", args.jobs), "turn")
            loads = _loads(log)
            place = _place_of_urgent(root, args.jobs // 2)
    return {"jobs": args.jobs, "load": options.load(), "loads": loads, "began_before_urgent": place}


def _drop(inbox: Path, name: str, jobs: int) -> int:
    """Drop images whose sidecars name both models in turn; give their number."""
    for number in range(jobs):
        _put(inbox / f"{name}-{number:03}.png", NAMES[number % 2], number)
    return jobs


def _put(path: Path, model: str, shade: int, priority: int = 0) -> None:
    path.with_suffix(".yaml").write_text(f"priority: {priority}\nimg2img: {{model: {model}}}\n")
    Image.new("RGB", (128, 128), (shade, len(path.name), 90)).save(path)


def _loads(log: Path) -> dict[str, int]:
    """How often each model was loaded, by the daemon's log."""
    counts = Counter(re.findall(r"'(\w+)': 'loading'", log.read_text()))
    return {name: counts[name] for name in NAMES}


def _place_of_urgent(root: Path, jobs: int) -> int:
    """Let a job of high priority come while others run; give the number of those that began after
    it was queued and before it did."""
    inbox = root / "inbox"
    with closing(sqlite3.connect(root / "data" / "ledger.db")) as ledger:

        def ask(sql: str, *values: str) -> Any:
            return ledger.execute(sql, values).fetchone()

        _drop(inbox, "second", jobs)
        begun = "SELECT count(*) FROM jobs WHERE name LIKE 'second-%' AND started_at IS NOT NULL"
        queue_times.wait(lambda: ask(begun)[0] >= 2, "the second turn begins")
        running = ask("SELECT models FROM jobs WHERE status = 'running' ORDER BY started_at")
        other = NAMES[1] if running and NAMES[1] not in str(running[0]) else NAMES[0]
        _put(inbox / f"{URGENT}.png", other, 7, priority=9)
        open_jobs = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')"
        ended = "SELECT count(*) FROM jobs WHERE status = 'completed' AND name LIKE ?"
        queue_times.wait(lambda: ask(ended, f"{URGENT}%")[0] == 1, "the urgent job is done")
        queue_times.wait(lambda: not ask(open_jobs)[0], "the jobs are done")
        queued, start = ask("SELECT created_at, started_at FROM jobs WHERE name LIKE 'urgent%'")
        if not ask("SELECT count(*) FROM jobs WHERE started_at > ?", start)[0]:
            raise ValueError("the urgent job came when no other one was left")
        sql = "SELECT count(*) FROM jobs WHERE started_at > ? AND started_at < ?"
        return int(ask(sql, queued, start)[0])
