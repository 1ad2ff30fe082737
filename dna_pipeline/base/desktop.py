"""Opens files, folders and addresses with the desktop's own program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dna_pipeline.base import ipc


def opener(platform: str = sys.platform, env: Mapping[str, str] = os.environ) -> str | None:
    """The program that opens things; None where there is no display, or no such program."""
    if platform == "win32":
        return "start"
    if platform == "darwin":
        return shutil.which("open", path=env.get("PATH"))
    if not env.get("DISPLAY") and not env.get("WAYLAND_DISPLAY"):
        return None
    return shutil.which("xdg-open", path=env.get("PATH"))


def open_path(path: Path, program: str) -> subprocess.Popen[bytes] | None:
    """Open a file or a folder; does not wait for the program, which is given if it is a process.

    Raises OSError.
    """
    return _open(str(path.absolute()), program)


def open_url(url: str, program: str) -> subprocess.Popen[bytes] | None:
    """Open an address in a browser, as `open_path` does a file. Raises OSError."""
    return _open(url, program)


def _open(target: str, program: str) -> subprocess.Popen[bytes] | None:
    if sys.platform == "win32":
        os.startfile(target)
        return None
    return subprocess.Popen[bytes](
        [program, target],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        **ipc.SESSION,
    )  # fmt: skip
