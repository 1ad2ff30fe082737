"""Runs a job in which the device fails, and prints the event that ends it, as JSON.

A program of its own, since a fault of CUDA breaks the process: `-m gpu_checks.broken_device DEVICE
FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dna_pipeline.execution.protocol import JobFailed
from dna_pipeline.providers.base import Device
from dna_pipeline.providers.triposr.provider import TripoSRModel
from gpu_checks.jobs import triposr_events, triposr_models
from gpu_checks.setting import TINY

if TYPE_CHECKING:
    from PIL import Image

    from dna_pipeline.providers.triposr.field import Field


class BrokenModel(TripoSRModel):
    """A TripoSR whose device fails at the first picture."""

    def load(self, device: Device) -> Any:  # another class than the base's
        return BrokenNetwork(device.name)


class BrokenNetwork:
    def __init__(self, device: str) -> None:
        self._device = device

    def field(self, image: Image.Image, *, foreground_ratio: float) -> Field:
        if not self._device.startswith("cuda"):
            raise RuntimeError("CUDA error: device-side assert triggered")
        beyond = torch.tensor([1 << 20], device=self._device)
        torch.zeros(4, device=self._device)[beyond].cpu()
        raise AssertionError("the device read beyond the end of its data without an error")


def main() -> None:
    device, folder = sys.argv[1:]
    models = triposr_models(BrokenModel(path=TINY), Device(device, "float32"))
    last = triposr_events(models, Path(folder))[-1]
    report: dict[str, object] = {"kind": last.kind, "is_real": device.startswith("cuda")}
    if isinstance(last, JobFailed):
        report |= {"poisoned": last.poisoned, "hold": last.hold, "code": last.failure["code"]}
        report["detail"] = last.failure["detail"]
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
