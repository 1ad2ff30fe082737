"""Start of the real daemon as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

READY_WITHIN_S = 300.0
END_WITHIN_S = 30.0


@contextmanager
def started(
    config: Path,
    module: str | None = None,
    env: Mapping[str, str] | None = None,
    checkout: Path = ROOT,
) -> Generator[subprocess.Popen[bytes]]:
    """Start a daemon, wait for its first `status.json`, and end it when the block is left.

    Args:
        module: a module that is run with the configuration's path, in place of `watch`.
        env: its environment; None for this one's.
        checkout: folder of the program; one of another version is run with this interpreter.

    Raises:
        ValueError: the daemon ended or did not get ready; the text is the end of its log.
    """
    status = config.parent / "outbox" / "status.json"
    status.unlink(missing_ok=True)
    log_file = config.parent / "daemon.log"
    words = ["dna_pipeline", "--config", str(config), "watch"]
    if module is not None:
        words = [module, str(config)]
    with log_file.open("wb") as log:
        command = [sys.executable, "-m", *words]
        daemon = subprocess.Popen(
            command, cwd=checkout, stdout=log, stderr=log, env=environment(checkout, env)
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while not status.exists():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise ValueError(f"the daemon did not start: {log_file.read_text()[-500:]}")
            time.sleep(0.01)
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait(END_WITHIN_S)


def command(checkout: Path, config: Path, *words: str) -> None:
    """Run a command of the program in that folder. Raises `CalledProcessError`."""
    subprocess.run(
        [sys.executable, "-m", "dna_pipeline", "--config", str(config), *words],
        cwd=checkout, env=environment(checkout), check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def environment(checkout: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment whose programs, and their child processes, import from that folder first."""
    env = os.environ if env is None else env
    paths = [str(checkout), env.get("PYTHONPATH", "")]
    return {**env, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
