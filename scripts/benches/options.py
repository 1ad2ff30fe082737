"""Shared by several benches: options, times, and values about the machine.

Importing this module loads no torch, since some benches measure a program without torch.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def add_scene(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scene", type=Path, required=True, help="as in tests/golden/scenes/*.npz")


def add_device(parser: argparse.ArgumentParser) -> None:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help="as torch names it (%(default)s)")


def at_least(least: int) -> Callable[[str], int]:
    """Make the type of an option that takes a whole number of at least `least`."""

    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"at least {least}")
        return value

    return number


def surroundings(device: torch.device | str) -> dict[str, Any]:
    """Describe the device, torch's threads, and the load of the machine."""
    import torch

    return {"device": str(device), "threads": torch.get_num_threads(), "load": load()}


def load() -> float | None:
    """Load average of the last minute; None on Windows."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """Run the work; give its result, its seconds by the clock, and its CPU seconds (`cpu_s`)."""
    start, before = time.perf_counter(), cpu_s()
    result = work()
    return result, round(time.perf_counter() - start, 3), round(cpu_s() - before, 3)


def cpu_s() -> float:
    """CPU seconds of this process and, except on Windows, of its children that have ended."""
    if sys.platform == "win32":
        return time.process_time()
    import resource

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_mib() -> int | None:
    """Peak memory of this process so far; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)
