"""Packages that travel with the checks to a machine without a network.

`pack` fills a folder with wheels where there is an index; `unpack` installs them there into a
folder of their own, which changes nothing of that machine's Python. Uses the standard library and
pip alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

MOST_BYTES = 64 << 20
"""Of all wheels together."""

NAMES = (
    "alembic", "annotated-doc", "annotated-types", "diffusers", "fast_simplification", "filelock",
    "glcontext", "httpcore2", "httpx2", "importlib_metadata", "lazy-importer", "Mako", "moderngl",
    "OpenEXR", "pi_heif", "pooch", "pydantic", "pydantic_core", "PyMatting", "pysqlite3", "rembg",
    "SQLAlchemy", "structlog", "trimesh", "truststore", "typing-inspection", "tzdata", "watchdog",
    "xatlas", "zipp",
)  # fmt: skip
"""What a machine with torch and transformers, SciPy, scikit-image and onnxruntime still lacks.

imageio-ffmpeg is left out: it takes half of the 64 MiB, and no check makes a film.
"""

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)]


class WheelsError(Exception):
    """Says why the wheels cannot be packed or installed."""


def pack(folder: Path, constraints: Path, python: str, also: list[str]) -> list[Path]:
    """Download the wheels for Linux on x86-64; give their paths.

    Args:
        constraints: `constraints.txt`, whose versions are taken.
        python: version of the Python there, such as 3.12.
        also: further packages that the machine lacks.

    Raises:
        WheelsError: a package is not to be had as a wheel, or all are larger than 64 MiB together.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if stray := sorted(folder.iterdir()):
        raise WheelsError(f"{folder} is not empty: it holds {stray[0].name}")
    pins = _pins(constraints)
    if unknown := [name for name in also if _plain(name) not in pins]:
        raise WheelsError(f"{constraints.name} has no version of {', '.join(unknown)}")
    wanted = [f"{name}=={pins[_plain(name)]}" for name in (*NAMES, *also)]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", python, "-d", str(folder)]
    tags = [option for name in PLATFORMS for option in ("--platform", name)]
    _pip("download", *options, "--implementation", "cp", *tags, *wanted)
    wheels = sorted(folder.glob("*.whl"))
    if (size := sum(path.stat().st_size for path in wheels)) > MOST_BYTES:
        raise WheelsError(f"{size >> 20} MiB of wheels are too many: {MOST_BYTES >> 20} at most")
    return wheels


def unpack(folder: Path, target: Path) -> None:
    """Install a folder of wheels into `target`, for this process and those that it starts.

    Raises:
        WheelsError: there are none, or pip refuses one.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise WheelsError(f"there are no wheels in {folder}")
    offline = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", str(target)]
    _pip("install", *offline, *map(str, wheels))
    extend_path(target)


def extend_path(*folders: Path) -> None:
    """Put folders before all others that this process and its children import from."""
    first = [str(folder) for folder in folders]
    sys.path[:0] = first
    later = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*first, *([later] if later else [])])


def _pins(constraints: Path) -> dict[str, str]:
    pairs = re.findall(r"^([\w.-]+)==(\S+)$", constraints.read_text("utf-8"), re.MULTILINE)
    return {_plain(name): version for name, version in pairs}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise WheelsError("; ".join(lines[-3:]) or done.stderr.strip()[-500:])
