"""Copies to the device that the CPU need not wait for."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. CUDA copies it from pinned memory, for which the CPU need not wait;
    it comes after the device's work so far and before what is asked for later."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
