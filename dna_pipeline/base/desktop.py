"""Opens files and folders with the desktop's own program."""

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
    if sys.platform == "win32":
        os.startfile(path)
        return None
    return subprocess.Popen[bytes](
        [program, str(path.absolute())],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        **ipc.SESSION,
    )  # fmt: skip
