"""Check if the installed torch can use the GPU of this machine, without importing torch.

`import torch` takes seconds and hundreds of megabytes. The devices that it was built for are also
written in its `version.py` and in the version of its package.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/version")
"""File in which the Linux driver reports its version."""

_BACKEND = re.compile(
    r"^(cuda|hip|rocm|xpu)\b[^=\n]*=\s*(?:None|['\"]([^'\"\n]*)['\"])", re.MULTILINE
)
"""Matches a device in torch's `version.py`: `cuda: Optional[str] = '12.8'`, or `cuda = None` if
torch was not built for it."""


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """The installed torch.

    Attributes:
        version: such as `2.11.0+cu128`.
        backends: versions of what it was built for: `cuda`, `hip`, `rocm`, `xpu`; empty if for the
            CPU, and on a Mac. None if it does not say.
    """

    version: str
    backends: Mapping[str, str] | None = None

    @property
    def is_for_cpu(self) -> bool:
        """True if it is built for the CPU alone."""
        return self.version.endswith("+cpu") or self.backends == {}


def installed_build() -> TorchBuild | None:
    """Give the build of the installed torch; None if there is none."""
    # Imported here, since it takes a tenth of the start of every command.
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("torch")
        spec = find_spec("torch")
    except (PackageNotFoundError, ValueError, ImportError):
        return None
    if spec is None or spec.origin is None:
        return TorchBuild(installed)
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return TorchBuild(installed)
    entries = dict(_BACKEND.findall(text))
    if "cuda" not in entries:
        return TorchBuild(installed)
    return TorchBuild(installed, {name: value for name, value in entries.items() if value})


def has_nvidia_driver(driver: Path = DRIVER) -> bool:
    """True if this machine has a driver for NVIDIA's GPUs."""
    return driver.exists() or shutil.which("nvidia-smi") is not None


def remark(device: str, driver: Path = DRIVER) -> str | None:
    """Give a remark if there is an NVIDIA GPU that torch cannot use; else None.

    Args:
        device: one of `runtime.device`; with `cpu` or `mps` there is no remark.
    """
    if not device.startswith(("auto", "cuda")) or not has_nvidia_driver(driver):
        return None
    if (build := installed_build()) is None or not build.is_for_cpu:
        return None
    then = "jobs run on the CPU, which is far slower" if device == "auto" else "no job can run"
    return (
        f"torch {build.version} is the build for the CPU, but this machine has an NVIDIA driver: "
        f"{then}. Install torch's build for CUDA (`dna-pipeline doctor` says how), or set "
        "runtime.device: cpu in pipeline.yaml"
    )
