"""Seconds, memory and load of the device."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from benches.mesh import PeakMemory

from gpu_checks.report import Failed, Skipped
from gpu_checks.setting import Setting, require_accelerator

T = TypeVar("T")

SAMPLE_MS = 100
QUERY = "timestamp,utilization.gpu,memory.used"


def measured(setting: Setting, work: Callable[[], T], repeat: int = 1) -> tuple[T, dict[str, Any]]:
    """The last result of the work, with the median of its seconds and the peak of memory.

    The device is waited for before the clock is read. The peak is above what was in use before:
    the device's on CUDA, else the process's, where the system tells it.
    """
    if repeat < 1:
        raise ValueError("at least once")
    memory = PeakMemory(setting.device)
    seconds: list[float] = []
    while True:
        setting.synchronise()
        start = time.perf_counter()
        result = work()
        setting.synchronise()
        seconds.append(time.perf_counter() - start)
        if len(seconds) == repeat:
            values = {"seconds": round(statistics.median(seconds), 5), "peak_mib": memory.mib()}
            return result, values


@dataclass(frozen=True, slots=True)
class Sample:
    """Load and memory of the GPU at one time.

    Attributes:
        busy: share of the time since the last sample in which a kernel ran, by the driver's own
            count: one that fills a tenth of the GPU counts as a whole one.
        used_mib: memory in use, that of other programs included.
    """

    at: datetime
    busy: float
    used_mib: float


@contextmanager
def sampled(setting: Setting) -> Generator[list[Sample]]:
    """Sample the GPU while the block runs; the list is filled when it ends.

    Raises `Skipped` without CUDA, without `nvidia-smi`, and where it tells no load.
    """
    require_accelerator(setting, "there is no load to sample")
    if (tool := shutil.which("nvidia-smi")) is None:
        raise Skipped("no nvidia-smi here, which samples the load")
    samples: list[Sample] = []
    options = [f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", f"-lms={SAMPLE_MS}"]
    command = [tool, f"--id={setting.device.index or 0}", *options]
    with tempfile.TemporaryFile("w+") as written:
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.DEVNULL)
        try:
            yield samples
        finally:
            process.terminate()
            process.wait()
            written.seek(0)
            whole = written.read().rpartition("\n")[0]  # the last line may be cut off
            samples += map(_sample, whole.splitlines())


def summary(samples: list[Sample], start: datetime, end: datetime) -> dict[str, Any]:
    """Share of idle time and peak of memory between two times. Raises `Failed` without samples."""
    within = [sample for sample in samples if start <= sample.at <= end]
    if not within:
        raise Failed(f"none of {len(samples)} samples lies between {start} and {end}")
    busy = statistics.fmean(sample.busy for sample in within)
    return {
        "samples": len(within),
        "idle_share": round(1 - busy, 4),
        "used_mib": max(sample.used_mib for sample in within),
    }


def _sample(line: str) -> Sample:
    """The sample in a line of `QUERY`; its time is local. Raises `Skipped` if it is none."""
    try:
        at, load, memory = line.split(",")
        when = datetime.strptime(at.strip(), "%Y/%m/%d %H:%M:%S.%f").astimezone()
        return Sample(when, float(load) / 100, float(memory))
    except ValueError as error:
        raise Skipped(f"nvidia-smi tells no load here: {line!r}") from error
