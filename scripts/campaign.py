"""Kills the daemon and its worker at random while files stream in, then counts.

    .venv/bin/python scripts/campaign.py --kills 300 --real-share 0.5

Files come as people and programs bring them: with and without sidecars, in folders, copied
slowly, renamed into place, overwritten where they are kept. Kills go to the daemon or to its
worker, at moments drawn from the seed. At the end all is left to come to rest, and whatever was
lost, doubled, corrupt or left half written is named; exit status 1 if anything was.

A share of the kills goes to a run with the real worker and small real models; in the others the
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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from audit import Dropped, Findings, audit
from dropper import KEPT, Dropper
from environment import escape_unencodable
from stand_in import environment

from dna_pipeline.ledger.views import Views

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
runtime: {{{{max_attempts: 10, pause_after_failures: 0}}}}
pipelines:
  p:
    - stand_in: {{{{id: first, seconds: 0.05}}}}
    - stand_in: {{{{id: last, seconds: 0.05}}}}
inboxes:
{_INBOXES}"""
REAL = f"""\
version: 1
runtime: {{{{device: cpu, max_attempts: 10, pause_after_failures: 0}}}}
models:
  sd15: {{{{provider: diffusers, path: {{models}}/sd-v1-5-local}}}}
  matte: {{{{provider: border_key}}}}
pipelines:
  p:
    - img2img: {{{{steps: 2, strength: 0.5, max_size: 64}}}}
    - remove_background: {{{{force: true}}}}
inboxes:
{_INBOXES}"""


@dataclass(slots=True)
class Report:
    """What one part of the campaign did, and what was found afterwards."""

    worker: str
    kills: Counter[str] = field(default_factory=Counter[str])
    files_in: int = 0
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)

    def facts(self) -> dict[str, Any]:
        return {
            "worker": self.worker,
            "kills": sum(self.kills.values()),
            "killed": dict(self.kills),
            "files_in": self.files_in,
            **self.findings.numbers(),
            "seconds": round(self.seconds, 1),
            "findings": self.findings.sentences(),
        }


class Site:
    """A folder with its inboxes, and the daemon on it."""

    def __init__(self, root: Path, *, models: Path | None) -> None:
        self.root = root
        self.is_real = models is not None
        root.mkdir(parents=True, exist_ok=True)
        text = REAL.format(models=models) if models else FAKE.format()
        (root / "pipeline.yaml").write_text(text)
        for name in ("archive", "delete", *KEPT):
            (root / "inbox" / name).mkdir(parents=True)
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon unless it runs."""
        if self._daemon is not None and self._daemon.poll() is None:
            return
        command = ["dna_pipeline", "watch"] if self.is_real else ["stand_in", "pipeline.yaml"]
        quiet = {"OMP_NUM_THREADS": "1"} if self.is_real else {}
        with (self.root / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.root, stdout=log, stderr=log,
                env=environment(SCRIPTS) | quiet,
            )  # fmt: skip

    def kill(self, dice: random.Random) -> str | None:
        """SIGKILL to the daemon or its worker; which, or None where there was none to kill."""
        assert self._daemon is not None
        if dice.random() < 0.5 and (worker := self._await_worker(20)) is not None:
            time.sleep(dice.uniform(0, 0.5))
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                return "worker"
        if self._daemon.poll() is not None:
            return None
        self._daemon.kill()
        self._daemon.wait()
        return "daemon"

    def _await_worker(self, seconds: float) -> int | None:
        """The worker's process id; None if there comes none, since the first job starts it."""
        until = time.monotonic() + seconds
        while (worker := self._worker()) is None and time.monotonic() < until:
            time.sleep(0.05)
        return worker

    def _worker(self) -> int | None:
        assert self._daemon is not None
        name = "dna_pipeline.worker" if self.is_real else "stand_in"
        with suppress(psutil.Error):
            for child in psutil.Process(self._daemon.pid).children():
                if child.cmdline()[-1:] == [name]:
                    return child.pid
        return None

    def rest(self, dropped: list[Dropped], seconds: float) -> None:
        """Wait until nothing goes on, then end the daemon in order."""
        assert self._daemon is not None
        until = time.monotonic() + seconds
        calm = 0
        while calm < 6 and time.monotonic() < until:
            self.start()
            calm = calm + 1 if self._is_calm(dropped) else 0
            time.sleep(0.5)
        self._daemon.terminate()
        self._daemon.wait(60)
        # A last start clears away what the last kill may have left.
        self.start()
        time.sleep(3)
        self._daemon.terminate()
        self._daemon.wait(60)

    def _is_calm(self, dropped: list[Dropped]) -> bool:
        waiting = [
            path
            for inbox in ("archive", "delete")
            for path in (self.root / "inbox" / inbox).rglob("*")
            if path.is_file() and ".dna" not in path.parts
        ]
        if waiting or not (self.root / "data/ledger.db").exists():
            return False
        views = Views(self.root / "data/ledger.db")
        try:
            jobs = views.jobs(limit=1_000_000)
            # What is held for a while, since a kill hit a worker's start, is open too.
            ended = all(job["publish"] == "done" for job in jobs)
            return len(jobs) >= len(dropped) and ended
        finally:
            views.close()


def run(root: Path, kills: int, seed: int, models: Path | None = None) -> Report:
    """One part: stream and kill, rest, count."""
    report = Report("real" if models else "stand_in")
    if not kills:
        return report
    began = time.monotonic()
    dice = random.Random(seed)
    site = Site(root, models=models)
    dropper = Dropper(root / "inbox", seed + 1, pace_s=1.0 if models else 0.2)
    site.start()
    stream = threading.Thread(target=dropper.run, name="dropper")
    stream.start()
    try:
        while sum(report.kills.values()) < kills:
            time.sleep(_pause(dice, real=models is not None))
            if (who := site.kill(dice)) is not None:
                report.kills[who] += 1
            site.start()
    finally:
        dropper.stop()
        stream.join()
    dropped = dropper.dropped()
    report.files_in = dropper.files
    site.rest(dropped, 120 + 2.0 * len(dropped))
    report.findings = audit(root, dropped, is_traced=models is None)
    report.seconds = time.monotonic() - began
    return report


def _pause(dice: random.Random, *, real: bool) -> float:
    """Some kills hit a start, most hit work."""
    longest = 12.0 if real else 2.5
    return dice.uniform(0.05, 0.6) if dice.random() < 0.25 else dice.uniform(0.6, longest)


def _print(report: Report) -> None:
    for key, value in report.facts().items():
        if key != "findings":
            print(f"{key:13} {value}")
    for sentence in report.findings.sentences():
        print(f"  {sentence}")


def main() -> int:
    escape_unencodable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (%(default)s)")
    parser.add_argument("--real-share", type=float, default=0.0, help="0.0 to 1.0 (%(default)s)")
    parser.add_argument("--dir", type=Path, help="where; kept (default: a folder that goes)")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root: Path = (args.dir or Path(temporary)).resolve()
        real = round(args.kills * args.real_share)
        reports = [run(root / "stand_in", args.kills - real, args.seed)]
        if real:
            from make_tiny_models import make_all

            make_all(root / "models")
            reports.append(run(root / "real", real, args.seed + 1000, root / "models"))
    reports = [report for report in reports if report.kills]
    if args.json:
        print(json.dumps([report.facts() for report in reports], indent=1))
    else:
        for report in reports:
            _print(report)
    return 0 if all(report.findings.is_well for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
