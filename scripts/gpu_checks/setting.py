"""The device, the sizes and the folders that all checks share."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dna_pipeline.execution.worker.process import choose_device
from dna_pipeline.providers.base import Device
from gpu_checks.report import Skipped

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
TINY = GOLDEN / "triposr-tiny"
ROBOT = GOLDEN / "scenes" / "robot.npz"


@dataclass(frozen=True)
class Setting:
    """The device, the sizes and the folder of one run.

    Attributes:
        small: small sizes, so that all checks together take seconds on a CPU.
        folder: temporary; each check makes its own folder in it.
    """

    device: torch.device
    small: bool
    folder: Path

    @property
    def is_cpu(self) -> bool:
        return self.device.type == "cpu"

    def in_dtype(self, dtype: str) -> Device:
        """The device with that number type, as models are loaded on it."""
        name = str(self.device) if self.device.type == "cuda" else self.device.type
        return Device(name, dtype)

    @cached_property
    def dtypes(self) -> list[str]:
        """The number types to check besides float32: those of 16 bits that the device computes
        in."""
        if self.device.type == "cuda":
            from dna_pipeline.providers.hardware import fast_dtype

            native = str(fast_dtype(self.device)).removeprefix("torch.")
            return ["float16", *({native} - {"float16"})]
        return ["float16" if self.device.type == "mps" else "bfloat16"]

    @cached_property
    def sd_folder(self) -> Path:
        """A small Stable Diffusion, made when first asked for. Skips the check without Diffusers.

        It is a folder in the format of Diffusers, as `make_tiny_models.py` makes it.
        """
        import diffusers  # noqa: F401 - without it, the check is skipped  # pyright: ignore
        from make_tiny_models import make_all

        folder = self.folder / "models"
        make_all(folder)
        return folder / "sd-v1-5-local"

    def synchronise(self) -> None:
        """Wait until the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def require_accelerator(setting: Setting, what: str) -> None:
    """Skip the check on a CPU. `what`: why it says nothing there."""
    if setting.is_cpu:
        raise Skipped(f"no accelerator here: {what}")


def setting_of(device: str, *, small: bool, folder: Path) -> Setting:
    """The setting on that device; `auto` chooses as the worker does.

    Raises:
        DeviceUnavailable: torch sees no such device.
    """
    return Setting(torch.device(choose_device(device, "float32").name), small, folder)


def machine(setting: Setting) -> dict[str, Any]:
    """Description of the machine, for the report."""
    from importlib.metadata import PackageNotFoundError, version

    report: dict[str, Any] = {
        "device": str(setting.device),
        "gpu": None,
        "small": setting.small,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }
    if setting.device.type == "cuda":
        report["gpu"] = torch.cuda.get_device_name(setting.device)
        report["cuda"] = torch.version.cuda
    for name in ("torch", "diffusers", "transformers", "numpy", "moderngl"):
        try:
            report[name] = version(name)
        except PackageNotFoundError:
            report[name] = None
    return report
