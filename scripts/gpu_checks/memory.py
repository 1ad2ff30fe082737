"""Memory that really runs out, and the try with less of it that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dna_pipeline.providers.device_errors import is_device_fault, is_out_of_memory
from dna_pipeline.providers.triposr.provider import TripoSRModel, TripoSRNetwork
from gpu_checks.jobs import stage_done, triposr_events, triposr_models
from gpu_checks.report import Check, Failed
from gpu_checks.setting import TINY, Setting

if TYPE_CHECKING:
    from PIL import Image

    from dna_pipeline.providers.base import Device
    from dna_pipeline.providers.triposr.field import Field

MORE_THAN_ANY_BYTES = 1 << 52
"""Four petabytes: more than any device has, and more than any system would promise to a process."""


class GreedyModel(TripoSRModel):
    """A TripoSR whose first picture asks for more memory than there is."""

    def load(self, device: Device) -> Any:  # another class than the base's
        return GreedyNetwork(super().load(device), device.name)


class GreedyNetwork:
    def __init__(self, network: TripoSRNetwork, device: str) -> None:
        self._network = network
        self._device = device
        self.is_greedy = True

    def field(self, image: Image.Image, *, foreground_ratio: float) -> Field:
        if self.is_greedy:
            self.is_greedy = False
            ask_for_too_much(self._device)
        return self._network.field(image, foreground_ratio=foreground_ratio)


def ask_for_too_much(device: str) -> None:
    """Allocate what cannot be had; the device's own error comes up from here."""
    torch.empty(MORE_THAN_ANY_BYTES, dtype=torch.uint8, device=device)


def classified(setting: Setting) -> dict[str, Any]:
    """The error of a real allocation that fails is one of memory, and the device works after it."""
    try:
        ask_for_too_much(setting.in_dtype("float32").name)
    except Exception as error:
        if not is_out_of_memory(error) or is_device_fault(error):
            text = f"{type(error).__name__}: {error}"
            raise Failed(f"not taken for memory that ran out: {text[:300]}") from error
        text = type(error).__name__
    else:
        raise Failed("the device gave four petabytes")
    total = float(torch.ones(1000, device=setting.device).sum())
    if total != 1000:
        raise Failed(f"1000 ones come to {total} afterwards")
    return {"error": text}


def retried(setting: Setting) -> dict[str, Any]:
    """A job whose memory runs out once is completed by a second try that needs less."""
    folder = setting.folder / "memory"
    models = triposr_models(GreedyModel(path=TINY), setting.in_dtype("float32"))
    done = stage_done(triposr_events(models, folder))
    for words in ("Memory ran out", "points at a time"):
        if not any(words in warning for warning in done.warnings):
            raise Failed(f"no warning says {words!r}: {done.warnings}")
    return {"tries": 2}


CHECKS: tuple[tuple[str, Check], ...] = (
    ("memory-error", classified),
    ("memory-retry", retried),
)
