"""Whether the torch that is installed can use the GPU of this machine, found out without torch.

`import torch` takes seconds and hundreds of megabytes; what it was built for stands in its
`version.py`, and in the version of its package.
"""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/version")
"""Where Linux's driver says which one it is."""

_BACKENDS = re.compile(r"^(?:cuda|hip|rocm|xpu)\b[^=]*=\s*['\"]", re.MULTILINE)
"""A device that torch was built for, in its `version.py`: `cuda = '12.8'`, not `cuda = None`."""


def cpu_build() -> str | None:
    """The version of the installed torch if it is built for the CPU alone; else None."""
    # Here, since it takes a tenth of the start of every command.
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
    """Whether this machine has a driver for NVIDIA's GPUs."""
    return driver.exists() or shutil.which("nvidia-smi") is not None


def remark(device: str, driver: Path = DRIVER) -> str | None:
    """What to say where a GPU is there and torch cannot use it; None where all is well.

    Args:
        device: `runtime.device`. With `cpu` or `mps` nobody wants NVIDIA's GPU.
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
