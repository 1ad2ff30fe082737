"""The virtual environment that the scripts run in: made once, checked in a blink afterwards.

Standard library only: this runs on a machine that has nothing but Python and pip.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "constraints.txt"
MINIMUM = (3, 11)


class SetupError(Exception):
    """The environment cannot be made; the text says what is missing."""


def venv_python() -> Path:
    """The interpreter in the virtual environment."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def ensure(*, dev: bool) -> Path:
    """Make the environment if it is missing or out of date; its interpreter.

    Args:
        dev: with what the tests need too.

    Raises:
        SetupError: no suitable Python, no venv module, or an installation failed.
    """
    if sys.version_info < MINIMUM:
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(f"Python {MINIMUM[0]}.{MINIMUM[1]} or newer is needed, this is {found}.")
    stamp = VENV / f".installed-{'dev' if dev else 'run'}"
    state = _state()
    if stamp.is_file() and stamp.read_text() == state and venv_python().is_file():
        return venv_python()
    _make_venv()
    _install(dev)
    for name in ("run", "dev") if dev else ("run",):
        (VENV / f".installed-{name}").write_text(state)
    return venv_python()


def _state() -> str:
    """Changes whenever what should be installed does."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (ROOT / "pyproject.toml", CONSTRAINTS):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _make_venv() -> None:
    if venv_python().is_file():
        return
    print(f"Making {VENV} …", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False)
    if made.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(
            "Python could not make a virtual environment. On Debian and Ubuntu the module comes "
            "with the package python3-venv."
        )


def _install(dev: bool) -> None:
    print("Installing (a few minutes the first time) …", flush=True)
    _install_torch()
    extra = "[dev]" if dev else ""
    _pip("-c", str(CONSTRAINTS), "-e", f"{ROOT}{extra}")


def _install_torch() -> None:
    """The CPU build where no NVIDIA driver is found: the default on Linux is gigabytes of CUDA."""
    match = re.search(r"^torch==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    assert match
    version = match[1]
    if sys.platform != "linux" or has_nvidia_driver():
        return _pip(f"torch=={version}")
    index = os.environ.get("DNA_TORCH_INDEX_URL")
    options = ["--extra-index-url", index] if index else []
    if not _try_pip(*options, f"torch=={version}+cpu"):
        print(
            "No CPU build of torch is offered here, so the default build is taken, which is large; "
            "set DNA_TORCH_INDEX_URL to PyTorch's index of CPU builds to avoid that.",
            flush=True,
        )
        _pip(f"torch=={version}")
    return None


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _pip_command(*arguments: str) -> list[str]:
    options = ["--quiet", "--disable-pip-version-check", "--no-input"]
    return [str(venv_python()), "-m", "pip", "install", *options, *arguments]


def _try_pip(*arguments: str) -> bool:
    done = subprocess.run(_pip_command(*arguments), check=False, capture_output=True)
    return done.returncode == 0


def _pip(*arguments: str) -> None:
    command = _pip_command(*arguments)
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        raise SetupError(f"pip could not install {arguments[-1]}:\n" + "\n".join(lines[-15:]))
