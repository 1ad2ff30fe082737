"""Trials of libraries and drivers, each in a child process: a crash or a hang there is a finding.

As a module, `python -m`, it is the child: it reads one line, the trial's name with its arguments as
JSON, and writes the facts, or the problem, as the last line of its output.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dna_pipeline.base import ipc, programs
from dna_pipeline.operations.doctor.facts import Trial

LIMIT_S = 60.0
"""Time limit of a trial. The slowest takes two seconds on a quiet machine."""

_MODULE = "dna_pipeline.operations.doctor.trials"
_PROBLEM_CHARS = 300


def run(name: str, limit_s: float = LIMIT_S, /, **arguments: Any) -> Trial:
    """Run a trial in a child process; see `TRIALS` for the names and arguments."""
    question = ipc.encoded({"trial": name, **arguments})
    try:
        done = programs.run([sys.executable, "-m", _MODULE], limit_s, question)
    except (OSError, TimeoutError) as error:
        return Trial(f"the trial could not be done: {error}")
    lines = done.text.splitlines()
    if done.code != 0 or not lines:
        errors = [line.strip() for line in done.errors.splitlines() if line.strip()]
        last_words = f": {errors[-1]}" if errors else ""
        return Trial(_short(f"the trial {ipc.how_it_ended(done.code)}{last_words}"))
    answer: dict[str, Any] = json.loads(lines[-1])
    return Trial(answer["problem"], answer["facts"])


def opengl() -> Mapping[str, Any]:
    from dna_pipeline.media.meshes import gl

    return {"text": gl.renderer()}


def ffmpeg() -> Mapping[str, Any]:
    from dna_pipeline.media import video

    with tempfile.TemporaryDirectory(prefix="dna-doctor-") as folder:
        return {"text": video.try_out(Path(folder, "film.mp4"))}


def onnxruntime(device: str) -> Mapping[str, Any]:
    from dna_pipeline.providers.base import Device
    from dna_pipeline.providers.matting import rembg

    return rembg.try_out(Device(device, "float32"))


def sqlite() -> Mapping[str, Any]:
    """Make a ledger, which uses all of SQLite that the program uses."""
    from dna_pipeline.ledger.sqlite import sqlite_module, wal_is_safe
    from dna_pipeline.ledger.store import Ledger

    module = sqlite_module()
    with tempfile.TemporaryDirectory(prefix="dna-doctor-") as folder:
        Ledger(Path(folder, "ledger.db")).close()
    is_packaged = module.__name__ != "sqlite3"
    text = f"{module.sqlite_version}{' (pysqlite3)' if is_packaged else ''}"
    return {"text": text, "is_wal_safe": wal_is_safe(module.sqlite_version_info)}


def watch() -> Mapping[str, Any]:
    """Watch an empty folder as an inbox is watched."""
    from dna_pipeline.config.schema import Inbox
    from dna_pipeline.intake.discovery.watcher import Watcher

    warnings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="dna-doctor-") as folder:
        inbox = Inbox("trial", Path(folder), "", watch="native")
        watcher = Watcher([inbox], lambda _: None, lambda _, text: warnings.append(text))
        watcher.refresh()
        kind = watcher.kind("trial")
        watcher.stop()
    if kind != "native":
        raise RuntimeError(warnings[0] if warnings else "no folder can be watched")
    return {"text": kind}


def cuda_driver() -> Mapping[str, Any]:
    """Ask NVIDIA's library for the newest CUDA that the driver knows: 13020 is 13.2."""
    import ctypes

    if sys.platform == "win32":
        library = ctypes.WinDLL("nvcuda.dll")
    else:
        library = ctypes.CDLL("libcuda.so.1")
    number = ctypes.c_int()
    if (code := library.cuDriverGetVersion(ctypes.byref(number))) != 0:
        raise RuntimeError(f"cuDriverGetVersion ends with {code}")
    return {"number": number.value}


TRIALS: Mapping[str, Callable[..., Mapping[str, Any]]] = {
    "opengl": opengl,
    "ffmpeg": ffmpeg,
    "onnxruntime": onnxruntime,
    "sqlite": sqlite,
    "watch": watch,
    "cuda_driver": cuda_driver,
}


def _short(text: str) -> str:
    """The first line of a text, or its beginning."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _PROBLEM_CHARS else f"{line[:_PROBLEM_CHARS]} ..."


def main() -> None:
    """Entry point of the child."""
    question = json.loads(sys.stdin.readline())
    # The answer goes to the real output, and what libraries print elsewhere.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        try:
            facts = TRIALS[question.pop("trial")](**question)
            answer: dict[str, Any] = {"problem": "", "facts": dict(facts)}
        except Exception as error:
            answer = {"problem": _short(str(error)) or type(error).__name__, "facts": {}}
        out.write(ipc.encoded(answer))


if __name__ == "__main__":
    main()
