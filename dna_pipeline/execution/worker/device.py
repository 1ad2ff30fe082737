"""Whether a device is still there and computes what it should."""

from __future__ import annotations

import math

from dna_pipeline.base.errors import DeviceUnavailable
from dna_pipeline.providers.base import Device

SIDE = 256
TOLERANCE = 1e-3
"""Relative. Rounding in float32 is a hundred times finer, a fault is seldom so."""


_ORDER = ("cpu", "mps", "cuda")
"""Kinds of devices, the slowest first."""


def refuse_worse(device: Device, seen: str | None, gpu: str | None) -> None:
    """Refuse to compute on a slower kind of device than before.

    After a fault of its driver, a GPU may be gone until someone mends that, and `device: auto`
    would go on for days on the CPU with nobody told.

    Args:
        seen: the device of the worker before; None for the first worker.
        gpu: name of its hardware, where known.

    Raises:
        DeviceUnavailable: `device` is of a slower kind.
    """
    if seen is None or _rank(device.name) >= _rank(seen):
        return
    raise DeviceUnavailable(
        f"{seen}{f' ({gpu})' if gpu else ''} computed for this daemon and is gone: only "
        f"{device.name} is found now. The jobs wait, and go on by themselves once it is back: see "
        "its state (`nvidia-smi`, the system's log), reload its driver or restart the machine; or "
        "set `runtime.device: cpu` in pipeline.yaml and restart the daemon"
    )


def _rank(name: str) -> int:
    kind = name.partition(":")[0]
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def self_test(device: Device) -> None:
    """Ask for something whose answer is known. Raises `DeviceUnavailable` where it is wrong."""
    try:
        error = _error(device.name)
    except RuntimeError as fault:
        raise DeviceUnavailable(f"{device.name} failed a check after a fault: {fault}") from fault
    if not error < TOLERANCE:  # also where it is not a number
        raise DeviceUnavailable(
            f"{device.name} gave a wrong answer to a sum whose result is known, after a fault "
            f"(off by {error:.3g}); restart the machine, or choose another runtime.device"
        )


def _error(name: str) -> float:
    """How far exp(A·B) in float32 is from its value in float64 on the CPU, at the worst place."""
    import torch

    generator = torch.Generator("cpu").manual_seed(7)
    a, b = torch.rand(2, SIDE, SIDE, generator=generator, dtype=torch.float64)
    expected = (a @ b / SIDE).exp()
    found = (a.to(name, torch.float32) @ b.to(name, torch.float32) / SIDE).exp().cpu().double()
    worst = float(((found - expected).abs() / expected).max())
    return worst if math.isfinite(worst) else math.nan
