"""Cancels, retries and submits as people do: with commands, in processes of their own.

Some of the commands are killed. Before some of the retries of a failed job its YAML is mended; the
other jobs are retried as they are, and fail again.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from audit import SUBMIT, SUBMITTED
from dropper import picture
from findings import Dropped, mend, sha256_of

from dna_pipeline.ledger.sqlite import open_reader, sqlite_module

Job = dict[str, Any]
Start = Callable[[Sequence[str]], "subprocess.Popen[str]"]

_EXPECTED = (0, 2)
"""Allowed exit statuses of commands; 2 if a job changed its status before the command ran."""

_LIMIT_S = 120.0


class People:
    """Gives commands at a site, one command at a time."""

    def __init__(self, root: Path, seed: int, start: Start, settings: dict[str, list[str]]) -> None:
        """Create the people.

        Args:
            start: starts `dna-pipeline` with the given arguments, its output in pipes.
            settings: options of `submit`, by a name; those of `failing` make the last stage fail.
        """
        self._root = root
        self._dice = random.Random(seed)
        self._start = start
        self._settings = settings
        self._one_at_a_time = threading.Lock()
        self._stop = threading.Event()
        self._submitted: list[Dropped] = []
        self._number = 0
        self.did: Counter[str] = Counter()
        """Commands that ran to their end, by name."""
        self.killed: Counter[str] = Counter()
        self.mended = 0
        self.faults: list[str] = []
        """Commands that ended with an unexpected status or a traceback."""

    def stop(self) -> None:
        self._stop.set()

    def run(self, pace_s: float) -> None:
        """Give commands until stopped."""
        while not self._stop.wait(self._dice.uniform(0, 2 * pace_s)):
            self.act(kill=False)

    def submitted(self) -> list[Dropped]:
        return list(self._submitted)

    def claiming_killed(self) -> int:
        """Count the killed commands of the kinds that fill a claim."""
        return self.killed["submit"] + self.killed["retry"]

    def act(self, *, kill: bool) -> bool:
        """Give one command; True if it was given and, with `kill`, was killed."""
        acts: list[Callable[[bool], bool]] = [
            self._retry_one, self._retry_one, self._retry_one, self._retry_batch, self._submit,
            self._cancel_queued, self._cancel_queued, self._cancel_batch,
        ]  # fmt: skip
        if not kill:
            acts += [self._cancel_running, self._cancel_running]
        with self._one_at_a_time:
            return self._dice.choice(acts)(kill)

    def cancel_all(self, jobs: Sequence[str]) -> None:
        """Cancel these waiting jobs."""
        with self._one_at_a_time:
            for start in range(0, len(jobs), 100):
                self._do(["cancel", *jobs[start : start + 100]], kill=False)

    # --- commands ---

    def _cancel_queued(self, kill: bool) -> bool:
        jobs = self._jobs("status = 'queued'")
        return bool(jobs) and self._do(["cancel", self._dice.choice(jobs)["id"]], kill=kill)

    def _cancel_batch(self, kill: bool) -> bool:
        jobs = self._jobs("status = 'queued' AND batch IS NOT NULL")
        if not jobs:
            return False
        return self._do(["cancel", "--batch", self._dice.choice(jobs)["batch"]], kill=kill)

    def _cancel_running(self, kill: bool) -> bool:
        """Wait a while for a running job, and cancel it."""
        until = time.monotonic() + 3
        while time.monotonic() < until:
            for job in self._jobs("status = 'running'"):
                return self._do(["cancel", job["id"]], kill=kill)
            time.sleep(0.05)
        return False

    def _retry_one(self, kill: bool) -> bool:
        jobs = self._jobs("status IN ('failed', 'cancelled') AND publish = 'done'")
        if not jobs:
            return False
        # Prefer jobs whose retry can succeed: cancelled ones, and those that failed in a stage.
        hopeful = [job for job in jobs if job["status"] == "cancelled" or job["stage"]]
        job = self._dice.choice(hopeful if hopeful and self._dice.random() < 0.8 else jobs)
        if self._dice.random() < 0.5:
            self._mend(job)
        return self._do(["retry", job["id"]], kill=kill)

    def _retry_batch(self, kill: bool) -> bool:
        ended = "status IN ('failed', 'cancelled') AND publish = 'done' AND batch IS NOT NULL"
        jobs = self._jobs(ended)
        if not jobs:
            return False
        batch = self._dice.choice(jobs)["batch"]
        for job in jobs:
            if job["batch"] == batch and self._dice.random() < 0.3:
                self._mend(job)
        return self._do(["retry", "--failed", "--batch", batch], kill=kill)

    def _mend(self, job: Job) -> None:
        """Mend the YAML in the job's folder in the outbox.

        No command runs meanwhile, and the daemon removes no folder of a failed or cancelled job, so
        the folder stays where it is.
        """
        folder = self._root / "outbox" / job["publish_name"]
        if folder.name == "cancelled":
            paths = [folder / f"{job['stem']}-{job['id'][:8]}.yaml"]
        else:
            paths = [p for p in (folder / "source").glob("*.y*ml") if p.is_file()]
        for path in paths:
            if path.is_file() and (text := path.read_text()) != mend(text):
                path.write_text(mend(text))
                self.mended += 1

    def _submit(self, kill: bool) -> bool:
        folder = self._root / SUBMITTED
        folder.mkdir(exist_ok=True)
        paths: list[Path] = []
        for _ in range(self._dice.choice((1, 1, 3))):
            self._number += 1
            paths.append(folder / f"sent-{self._number:04}.png")
            paths[-1].write_bytes(picture(self._dice))
        options = self._settings[self._dice.choice(list(self._settings))]
        faults = len(self.faults)
        was_killed = self._do(["submit", *map(str, paths), *options], kill=kill) and kill
        is_certain = not was_killed and len(self.faults) == faults
        for path in paths:
            sha256 = sha256_of(path.read_bytes())
            self._submitted.append(Dropped(SUBMIT, path.name, sha256, is_certain=is_certain))
        return was_killed or not kill

    # --- processes ---

    def _do(self, arguments: list[str], *, kill: bool) -> bool:
        """Run a command; True if it was killed, or if `kill` is False."""
        name = arguments[0]
        before = self._claiming()
        process = self._start(arguments)
        if kill:
            self._await_moment(process, before)
            process.kill()
        _, stderr = process.communicate(timeout=_LIMIT_S)
        status = process.returncode
        if kill and status < 0:
            self.killed[name] += 1
            return True
        self.did[name] += 1
        expected = _EXPECTED if name != "submit" else (0,)
        if status not in expected or "Traceback" in stderr:
            self.faults.append(f"{name} ended with {status}: {stderr.strip()[-300:]}")
        return not kill

    def _await_moment(self, process: subprocess.Popen[str], before: set[str]) -> None:
        """Wait for a moment to kill a command: any moment, one while it fills a claim, or one after
        its commit."""
        draw = self._dice.random()
        if draw < 0.25:
            time.sleep(self._dice.uniform(0, 1.5))
            return
        while process.poll() is None and not self._claiming() - before:
            time.sleep(0.003)
        if draw < 0.65:
            time.sleep(self._dice.uniform(0, 0.5))
            return
        while process.poll() is None and self._claiming() - before:
            time.sleep(0.003)
        time.sleep(self._dice.uniform(0, 0.03))

    def _claiming(self) -> set[str]:
        """List the drops whose claims a command is filling, or was when it was killed."""
        sql = "SELECT id FROM drops WHERE state = 'claiming' AND inbox = 'submit'"
        return {row[0] for row in _read(self._root, sql)}

    def _jobs(self, where: str) -> list[Job]:
        return read_jobs(self._root, where)


def read_jobs(root: Path, where: str) -> list[Job]:
    """Read the jobs of a site that match the SQL condition; none before there is a ledger."""
    columns = "id, status, hold, stage, stem, batch, publish, publish_name"
    rows = _read(root, f"SELECT {columns} FROM jobs WHERE {where}")
    return [dict(zip(columns.split(", "), row, strict=True)) for row in rows]


def open_batches(root: Path) -> int:
    """Count the batches that are not done, or whose contact sheets are still to be made."""
    sql = "SELECT count(*) FROM batches WHERE state <> 'done' OR sheet = 'due'"
    rows = _read(root, sql)
    return rows[0][0] if rows else 0


def _read(root: Path, sql: str) -> list[Any]:
    if not (path := root / "data/ledger.db").exists():
        return []
    # The ledger may be so new that it has no tables yet.
    with suppress(sqlite_module().OperationalError), closing(open_reader(path)) as database:
        return database.execute(sql).fetchall()
    return []
