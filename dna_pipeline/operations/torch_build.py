"""Check if the installed torch can use the GPU of this machine, without importing torch.

`import torch` takes seconds and hundreds of megabytes. The devices that it was built for are also
written in its `version.py` and in the version of its package.
"""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/version")
"""File in which the Linux driver reports its version."""

_BACKENDS = re.compile(r"^(?:cuda|hip|rocm|xpu)\b[^=]*=\s*['\"]", re.MULTILINE)
"""Matches a device that torch was built for, in its `version.py`: `cuda = '12.8'`, but not
`cuda = None`."""


def cpu_build() -> str | None:
    """Give the version of the installed torch if it is built for the CPU alone; else None."""
    # Imported here, since it takes a tenth of the start of every command.
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("torch")
        spec = find_spec("torch")
    except (PackageNotFoundError, ValueError, ImportError):
        return None
    if installed.endswith("+cpu"):
        return installed
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    is_for_cpu = re.search(r"^cuda\b", text, re.MULTILINE) and not _BACKENDS.search(text)
    return installed if is_for_cpu else None


def has_nvidia_driver(driver: Path = DRIVER) -> bool:
    """True if this machine has a driver for NVIDIA's GPUs."""
    return driver.exists() or shutil.which("nvidia-smi") is not None


def remark(device: str, driver: Path = DRIVER) -> str | None:
    """Give a remark if there is an NVIDIA GPU that torch cannot use; else None.

    Args:
        device: `runtime.device`; with `cpu` or `mps` there is no remark.
    """
    if not device.startswith(("auto", "cuda")) or not has_nvidia_driver(driver):
        return None
    if (installed := cpu_build()) is None:
        return None
    then = "jobs run on the CPU, which is far slower" if device == "auto" else "no job can run"
    return (
        f"torch {installed} is the build for the CPU, but this machine has an NVIDIA driver: "
        f"{then}. Install torch's build for CUDA, or set runtime.device: cpu in pipeline.yaml"
    )
