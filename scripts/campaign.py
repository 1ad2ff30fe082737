"""Kills the daemon, its worker and commands at random while files stream in, then audits the site.

    .venv/bin/python scripts/campaign.py --kills 300 --real-share 0.5

Files come as people and programs bring them: with and without sidecars and masks, in folders,
copied slowly, renamed into place, overwritten in inboxes that keep them, as job files, tables and
matrices. Meanwhile commands cancel and retry jobs, some of them after their YAML was mended, and
submit images. Kills hit the daemon, its worker, or such a command, at moments drawn from the seed;
after some of its kills the daemon stays down for a while. At the end, jobs that wait for a time far
away are cancelled, and the daemon works until it is at rest; failed and cancelled jobs stay so.
Each file that was lost, doubled, corrupted or left half written is named, and the exit status is 1
if there is one.

A share of the kills goes to a run with the real worker and small real models. In the other run the
worker is `stand_in`, which starts so fast that most kills hit work and not imports.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from audit import Dropped, Findings, audit
from dropper import KEPT, Dropper, Requests
from environment import escape_unencodable
from findings import dropped_files
from masks import NAMED, named_mask
from people import People, open_batches, read_jobs
from stand_in import environment

SCRIPTS = Path(__file__).parent

_INBOXES = "".join(
    f"""\
  - {{{{path: inbox/{name}, pipeline: p, {keys}recursive: true, settle_seconds: 0.3,
      sidecar_wait_seconds: 0.6, rescan_seconds: 1}}}}
"""
    for name, keys in {
        "archive": "",
        "delete": "originals: delete, ",
        "keep": "originals: keep, ",
        "keep_all": "originals: keep, on_change: all, ",
    }.items()
)
FAKE = f"""\
version: 1
runtime: {{{{device: {{devices}}, max_attempts: 10, pause_after_failures: 0}}}}
pipelines:
  p:
    - stand_in: {{{{id: first, mask: file, seconds: 0.05}}}}
    - stand_in: {{{{id: last, seconds: 0.05}}}}
inboxes:
{_INBOXES}"""
REAL = f"""\
version: 1
runtime: {{{{device: {{devices}}, max_attempts: 10, pause_after_failures: 0}}}}
models:
  sd15: {{{{provider: diffusers, path: {{models}}/sd-v1-5-local}}}}
  matte: {{{{provider: border_key}}}}
  nothing: {{{{provider: border_key, min_area: 0.999}}}}
pipelines:
  p:
    - img2img: {{{{steps: 2, strength: 0.5, max_size: 64}}}}
    - remove_background: {{{{model: matte, force: true}}}}
inboxes:
{_INBOXES}"""


FAKE_REQUESTS = Requests(
    failing="last: {fails: true}\n",
    lasting="first: {seconds: 2.5}\n",
    matrix="matrix: {first.seconds: [0.04, 0.06]}\n",
    column=("last.fails", "true"),
    mask_column="first.mask",
)
REAL_REQUESTS = Requests(
    failing="remove_background: {model: nothing}\n",
    lasting="img2img: {steps: 40}\n",
    matrix="matrix: {img2img.seed: [1, 2]}\n",
    column=("remove_background.model", "nothing"),
)
FAKE_SETTINGS = {"plain": [], "failing": ["--set", "last.fails=true"]}
REAL_SETTINGS = {"plain": [], "failing": ["--set", "remove_background.model=nothing"]}

KINDS = {"daemon": 0.35, "worker": 0.35, "command": 0.3}
"""Kinds of processes that are killed, with the share of attempts for each."""
RUNNING = """status = 'running' AND EXISTS (SELECT 1 FROM events WHERE job_id = jobs.id
    AND kind = 'progress' AND at > started_at)"""
DOWN_SHARE = 0.25
"""Share of the daemon's kills after which it stays down for a while."""


@dataclass(slots=True)
class Report:
    """Report of one part of the campaign: its actions, and the findings of the audit."""

    worker: str
    workers: int = 1
    kills: Counter[str] = field(default_factory=Counter[str])
    files_in: int = 0
    mended: int = 0
    manners: Counter[str] = field(default_factory=Counter[str])
    """Kinds of drops."""
    commands: Counter[str] = field(default_factory=Counter[str])
    """Commands that ran to their end, by name."""
    commands_killed: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)
    faults: list[str] = field(default_factory=list[str])
    """Processes that ended with an error."""

    @property
    def is_well(self) -> bool:
        return self.findings.is_well and not self.faults

    def to_dict(self) -> dict[str, Any]:
        return {
            "worker": self.worker,
            "workers": self.workers,
            "kills": sum(self.kills.values()),
            "killed": dict(self.kills),
            "commands_killed": dict(self.commands_killed),
            "commands_done": dict(self.commands),
            "yaml_mended": self.mended,
            "files_in": self.files_in,
            "manners": dict(self.manners),
            **self.findings.numbers(),
            "seconds": round(self.seconds, 1),
            "findings": self.findings.sentences() + self.faults,
        }


class Site:
    """A folder with inboxes, and the daemon that works on it."""

    def __init__(self, root: Path, *, models: Path | None, workers: int) -> None:
        self.root = root
        self.is_real = models is not None
        self.faults: list[str] = []
        root.mkdir(parents=True, exist_ok=True)
        devices = f"[{', '.join(['cpu'] * workers)}]"
        template = REAL if models else FAKE
        text = template.format(devices=devices, models=models)
        (root / "pipeline.yaml").write_text(text)
        for name in ("archive", "delete", *KEPT):
            named = root / "inbox" / name / NAMED
            named.parent.mkdir(parents=True)
            named.write_bytes(named_mask())
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon unless it runs."""
        if self._daemon is not None:
            if (status := self._daemon.poll()) is None:
                return
            if status != -signal.SIGKILL:
                self.faults.append(f"the daemon ended with {status}; see {self.root / 'log'}")
        with (self.root / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                self._python("watch"), cwd=self.root, stdout=log, stderr=log,
                env=self._environment(),
            )  # fmt: skip

    def command(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command of dna-pipeline, with its output in pipes."""
        return subprocess.Popen(
            self._python(*arguments), cwd=self.root, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=self._environment(),
        )  # fmt: skip

    def _python(self, *arguments: str) -> list[str]:
        module = ["dna_pipeline"] if self.is_real else ["stand_in", "do"]
        if arguments == ("watch",) and not self.is_real:
            return [sys.executable, "-m", "stand_in", "pipeline.yaml"]
        return [sys.executable, "-m", *module, *arguments]

    def _environment(self) -> dict[str, str]:
        quiet = {"OMP_NUM_THREADS": "1"} if self.is_real else {}
        return environment(SCRIPTS) | quiet

    def kill_worker(self, dice: random.Random) -> bool:
        """Send SIGKILL to one of the workers; False if there was none."""
        if not (workers := self._await_workers(8)):
            return False
        worker = dice.choice(workers)
        if dice.random() < 0.8:
            self._await_running(8)
        time.sleep(dice.uniform(0, 0.5))
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
            return True
        return False

    def kill_daemon(self) -> bool:
        """Send SIGKILL to the daemon; False if it did not run."""
        assert self._daemon is not None
        if self._daemon.poll() is not None:
            return False
        self._daemon.kill()
        self._daemon.wait()
        return True

    def _await_workers(self, seconds: float) -> list[int]:
        """Wait for the process ids of workers; empty if no job starts one in that time."""
        until = time.monotonic() + seconds
        while not (workers := self._workers()) and time.monotonic() < until:
            time.sleep(0.05)
        return workers

    def _await_running(self, seconds: float) -> None:
        """Wait until a stage runs. Kills of starting workers are avoided mostly, since each makes
        the daemon wait longer before the next start."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not read_jobs(self.root, RUNNING):
            time.sleep(0.05)

    def is_behind(self) -> bool:
        """True if many jobs could run."""
        return len(read_jobs(self.root, "status = 'queued' AND hold IS NOT 'not_before'")) > 60

    def _workers(self) -> list[int]:
        assert self._daemon is not None
        name = "dna_pipeline.execution.worker.process" if self.is_real else "stand_in"
        with suppress(psutil.Error):
            children = psutil.Process(self._daemon.pid).children()
            return [child.pid for child in children if child.cmdline()[-1:] == [name]]
        return []

    def rest(self, dropped: list[Dropped], people: People, seconds: float) -> None:
        """Wait until the site is at rest, then stop the daemon in order."""
        until = time.monotonic() + seconds
        calm_rounds = 0
        while calm_rounds < 6 and time.monotonic() < until:
            self.start()
            people.cancel_all([j["id"] for j in read_jobs(self.root, "hold = 'not_before'")])
            calm_rounds = calm_rounds + 1 if self._is_calm(dropped) else 0
            time.sleep(0.5)
        self._stop()
        # A last start cleans up after the last kill.
        self._daemon = None
        before = self._starts()
        self.start()
        while self._starts() == before and time.monotonic() < until + 60:
            time.sleep(0.5)
        time.sleep(2)
        self._stop()

    def _starts(self) -> int:
        """Count the starts of daemons that have finished their cleanup."""
        return (self.root / "log").read_bytes().count(b"daemon.started")

    def _stop(self) -> None:
        assert self._daemon is not None
        self._daemon.terminate()
        if (status := self._daemon.wait(60)) != 0:
            self.faults.append(f"the daemon ended with {status} when it was to stop")

    def _is_calm(self, dropped: list[Dropped]) -> bool:
        if any(dropped_files(self.root / "inbox" / name) for name in ("archive", "delete")):
            return False
        # A job that is held for a while, since a kill hit a worker's start, is not at rest either.
        jobs = read_jobs(self.root, "true")
        expected = sum(item.jobs for item in dropped if item.is_certain)
        is_ended = all(job["publish"] == "done" for job in jobs)
        return len(jobs) >= expected and is_ended and not open_batches(self.root)


def run(root: Path, kills: int, seed: int, models: Path | None = None, workers: int = 1) -> Report:
    """Run one part of the campaign: bring files and kill, rest, audit."""
    report = Report("real" if models else "stand_in", workers)
    if not kills:
        return report
    began = time.monotonic()
    is_real = models is not None
    site = Site(root, models=models, workers=workers)
    requests = REAL_REQUESTS if is_real else FAKE_REQUESTS
    dropper = Dropper(
        root / "inbox", seed + 1, 1.0 if is_real else 0.3, requests, site.is_behind,
        mask_share=0.0 if is_real else 0.3,
    )  # fmt: skip
    settings = REAL_SETTINGS if is_real else FAKE_SETTINGS
    people = People(root, seed + 2, site.command, settings)
    site.start()
    threads = [
        threading.Thread(target=dropper.run, name="dropper"),
        threading.Thread(target=people.run, args=(2.0 if is_real else 0.4,), name="people"),
    ]
    for thread in threads:
        thread.start()
    try:
        _kill(site, people, kills, random.Random(seed), report.kills)
    finally:
        dropper.stop()
        people.stop()
        for thread in threads:
            thread.join()
    dropped = dropper.dropped() + people.submitted()
    site.rest(dropped, people, 120 + 2.0 * len(dropped))
    report.manners = dropper.manners
    report.files_in = dropper.files + len(people.submitted())
    report.commands, report.commands_killed = people.did, people.killed
    report.mended = people.mended
    report.faults = site.faults + people.faults
    report.findings = audit(
        root, dropped, dropper.batches(), is_traced=not is_real,
        killed_commands=people.claiming_killed(),
    )  # fmt: skip
    report.seconds = time.monotonic() - began
    return report


def _kill(
    site: Site, people: People, kills: int, dice: random.Random, counts: Counter[str]
) -> None:
    """Kill `kills` processes of kinds drawn at random, with at least one of each kind."""
    while (remaining := kills - sum(counts.values())) > 0:
        time.sleep(_pause(dice, real=site.is_real))
        missing = [kind for kind in KINDS if not counts[kind]]
        kind = (
            missing[0]
            if len(missing) >= remaining
            else dice.choices(list(KINDS), list(KINDS.values()))[0]
        )
        if kind == "command":
            was_killed = people.act(kill=True)
        elif kind == "worker":
            was_killed = site.kill_worker(dice)
        else:
            was_killed = site.kill_daemon()
        counts[kind] += was_killed
        if kind == "daemon" and dice.random() < DOWN_SHARE:
            time.sleep(dice.uniform(1, 3))
        site.start()


def _pause(dice: random.Random, *, real: bool) -> float:
    """Draw the pause before a kill: some kills hit a start, most hit work."""
    longest = 8.0 if real else 1.5
    return dice.uniform(0.05, 0.6) if dice.random() < 0.25 else dice.uniform(0.6, longest)


def _print(report: Report) -> None:
    for key, value in report.to_dict().items():
        if key != "findings":
            print(f"{key:13} {value}")
    for sentence in report.to_dict()["findings"]:
        print(f"  {sentence}")


def main() -> int:
    escape_unencodable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (%(default)s)")
    parser.add_argument("--real-share", type=float, default=0.0, help="0.0 to 1.0 (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="of the daemon (%(default)s)")
    parser.add_argument("--dir", type=Path, help="where; kept (default: a folder that goes)")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root: Path = (args.dir or Path(temporary)).resolve()
        real = round(args.kills * args.real_share)
        reports = [run(root / "stand_in", args.kills - real, args.seed, workers=args.workers)]
        if real:
            from make_tiny_models import make_all

            make_all(root / "models")
            seed, models = args.seed + 1000, root / "models"
            reports.append(run(root / "real", real, seed, models, args.workers))
    reports = [report for report in reports if report.kills]
    if args.json:
        print(json.dumps([report.to_dict() for report in reports], indent=1))
    else:
        for report in reports:
            _print(report)
    return 0 if all(report.is_well for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
