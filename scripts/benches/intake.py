"""Speed at which the real daemon claims a full inbox, beside a worker that only waits and copies.

The inbox is full when the daemon starts, and has the default waits: two seconds to settle and five
seconds for a sidecar pass before the first file may be claimed.
"""

from __future__ import annotations

import argparse
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from stand_in import environment

from dna_pipeline.ledger.sqlite import open_reader

SCRIPTS = Path(__file__).parents[1]
SIDE_PX = 64
POLL_S = 0.25
SLOWEST = 50
"""Files a second; the bench gives up if the daemon is slower."""

CONFIG = """\
version: 1
reuse: off
pipelines:
  p: [{{stand_in: {{seconds: {job_seconds}}}}}]
inboxes:
  - {{path: inbox, pipeline: p, originals: {originals}}}
"""
_TOTALS = """SELECT count(DISTINCT d.image), count(DISTINCT d.sha256), sum(j.error IS NOT NULL)
    FROM jobs j JOIN drops d ON d.id = j.drop_id"""


@dataclass(frozen=True, slots=True)
class Report:
    """Report on one full inbox. Seconds count from the start of the daemon's process.

    Attributes:
        per_second: files a second between the first recorded job and the last.
        per_second_overall: files a second since the daemon's start, the inbox's waits included.
        peak_rss_mb: peak memory of the daemon without its children, in 10⁶ bytes.
        daemon_cpu_s, decoder_cpu_s: user and system time of the daemon itself, and of the child
            that decodes.
        lost: number of files without a job that has their bytes and can run.
        load: load of the machine before the measurement.
    """

    originals: str
    files: int
    per_second: float
    per_second_overall: float
    first_recorded_s: float
    first_job_s: float | None
    last_recorded_s: float
    peak_rss_mb: float
    daemon_cpu_s: float
    decoder_cpu_s: float
    lost: int
    load: float


def fill(folder: Path, files: int) -> None:
    """Write `files` small PNGs into the folder, no two with the same bytes."""
    folder.mkdir(parents=True)
    buffer = BytesIO()
    Image.linear_gradient("L").resize((SIDE_PX, SIDE_PX)).convert("RGB").save(buffer, "PNG")
    whole = buffer.getvalue()
    header, pixels = whole[:33], whole[33:]  # the signature and IHDR come first
    for number in range(files):
        mark = b"tEXtnumber\0%d" % number
        chunk = struct.pack(">I", len(mark) - 4) + mark + struct.pack(">I", zlib.crc32(mark))
        (folder / f"{number:07}.png").write_bytes(header + chunk + pixels)
    os.sync()


def measure(root: Path, files: int, originals: str, job_seconds: float) -> Report:
    """Fill an inbox below `root`, let the daemon claim it, and measure."""
    text = CONFIG.format(originals=originals, job_seconds=job_seconds)
    (root / "pipeline.yaml").write_text(text)
    fill(root / "inbox", files)
    load = os.getloadavg()[0]
    began = time.time()
    with _daemon(root) as daemon:
        _await(daemon, root / "data/ledger.db", files, time.monotonic() + 60 + files / SLOWEST)
        peak, daemon_cpu_s, decoder_cpu_s = _usage(daemon)
    with closing(open_reader(root / "data/ledger.db")) as ledger:
        recorded = ledger.execute("SELECT min(created_at), max(created_at) FROM jobs").fetchone()
        first, last = (_seconds(at) - began for at in recorded)
        (started,) = ledger.execute("SELECT min(started_at) FROM jobs").fetchone()
        names, contents, failed = ledger.execute(_TOTALS).fetchone()
    return Report(
        originals=originals,
        files=files,
        per_second=round(files / (last - first), 1),
        per_second_overall=round(files / last, 1),
        first_recorded_s=round(first, 2),
        first_job_s=round(_seconds(started) - began, 2) if started else None,
        last_recorded_s=round(last, 2),
        peak_rss_mb=round(peak / 1e6, 1),
        daemon_cpu_s=round(daemon_cpu_s, 1),
        decoder_cpu_s=round(decoder_cpu_s, 1),
        lost=files - min(names, contents) + failed,
        load=round(load, 2),
    )


def _seconds(time_text: str) -> float:
    return datetime.fromisoformat(time_text).timestamp()


@contextmanager
def _daemon(root: Path) -> Generator[psutil.Process]:
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stand_in", "pipeline.yaml"],
            cwd=root, stdout=log, stderr=log, env=environment(SCRIPTS),
        )  # fmt: skip
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _await(daemon: psutil.Process, ledger: Path, files: int, until: float) -> None:
    """Wait until `files` jobs are recorded and one has started."""
    while not _is_done(ledger, files):
        if daemon.status() == psutil.STATUS_ZOMBIE:
            raise OSError("the daemon ended; its log tells why")
        if time.monotonic() > until:
            return
        time.sleep(POLL_S)


def _is_done(path: Path, files: int) -> bool:
    if not path.exists():
        return False
    with closing(open_reader(path)) as ledger:
        if ledger.execute("SELECT 1 FROM sqlite_schema WHERE name = 'jobs'").fetchone() is None:
            return False
        last, started = ledger.execute(
            "SELECT max(seq), EXISTS (SELECT 1 FROM jobs WHERE seq < 100 AND started_at > '')"
            " FROM jobs"
        ).fetchone()
    return (last or 0) >= files and bool(started)


def _usage(daemon: psutil.Process) -> tuple[int, float, float]:
    """Give the peak resident bytes of the daemon, and the CPU seconds of daemon and decoder."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    decoders = [
        c for c in daemon.children() if c.cmdline()[-1:] == ["dna_pipeline.intake.discovery.probe"]
    ]
    return int(peak.split()[1]) * 1024, _cpu_s(daemon), sum(map(_cpu_s, decoders))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=100_000, help="how many (%(default)s)")
    kinds = ("archive", "keep", "delete")
    parser.add_argument("--originals", choices=kinds, default="archive", help="(%(default)s)")
    parser.add_argument(
        "--job-seconds", type=float, default=1.0, help="what a job takes (%(default)s)"
    )
    parser.add_argument("--dir", type=Path, help="where; kept (default: a folder that goes)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report. Raises `OSError` if the daemon ends by itself."""
    if args.files < 2:
        raise ValueError("it takes two files to have a rate")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(args.dir or temporary).resolve()
        root.mkdir(parents=True, exist_ok=True)
        return asdict(measure(root, args.files, args.originals, args.job_seconds))
