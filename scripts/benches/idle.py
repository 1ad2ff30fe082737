"""CPU time of the daemon while it has nothing to do."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benches.daemons import started
from benches.history import INBOXES, History, data_folder

QUIET_S = 12.0
"""Seconds after which the work of a start is over, including the first rewrite of `status.json`."""


def cpu_s(pid: int, proc: Path = Path("/proc")) -> float:
    """Sum up user and system seconds of a process and its descendants, ended ones included."""
    return sum(_own_s(proc / str(one)) for one in _family(pid, proc))


def _own_s(folder: Path) -> float:
    try:
        fields = _fields(folder)
    except OSError:
        return 0.0
    # utime, stime, cutime, cstime: fields 14 to 17 of proc(5).
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _fields(folder: Path) -> list[str]:
    """Read the fields of `stat` from the third on; the second is a name with any characters."""
    return (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _family(pid: int, proc: Path) -> list[int]:
    parents: dict[int, int] = {}
    for folder in proc.glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(_fields(folder)[1])
        except OSError:
            continue  # it ended meanwhile
    pids = [pid]
    for one in pids:
        pids += [child for child, parent in parents.items() if parent == one]
    return pids


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60, help="to look at it (%(default)s)")
    parser.add_argument("--quiet", type=float, default=QUIET_S, help="to wait before (%(default)s)")
    parser.add_argument("--jobs", type=int, default=0, help="that ended (%(default)s)")
    parser.add_argument("--files", type=int, default=0, help="known ones (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to build, rather than in $TMPDIR")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report."""
    if args.seconds <= 0 or args.quiet < 0:
        raise ValueError("idling takes time")
    with tempfile.TemporaryDirectory(prefix="dna-bench-", dir=args.folder) as folder:
        config = data_folder(Path(folder, "idle"), History(args.jobs), kept_files=args.files)
        with started(config) as daemon:
            time.sleep(args.quiet)
            before, began = cpu_s(daemon.pid), time.monotonic()
            time.sleep(args.seconds)
            used, wall = cpu_s(daemon.pid) - before, time.monotonic() - began
    return {
        "inboxes": INBOXES, "jobs": args.jobs, "files": args.files, "seconds": round(wall, 1),
        "cpu_s": round(used, 2), "percent_of_a_core": round(100 * used / wall, 2),
    }  # fmt: skip
