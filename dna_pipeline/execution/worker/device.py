"""Checks that the device is still there and computes correctly."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from dna_pipeline.base.errors import DeviceUnavailable
from dna_pipeline.execution.protocol import MemoryUse
from dna_pipeline.providers.base import Device

SIDE = 256
TOLERANCE = 1e-3
"""Largest relative error. Rounding in float32 is a hundred times smaller; a fault is rarely smaller
than this."""

_ORDER = ("cpu", "mps", "cuda")
"""Kinds of devices, the slowest first."""


def refuse_worse(device: Device, last_device: str | None, last_gpu: str | None) -> None:
    """Refuse to compute on a slower kind of device than before.

    After a fault of its driver, a GPU may be missing until someone repairs it. With `device: auto`
    the work would then go on for days on the CPU, and nobody would notice.

    Args:
        last_device: the device of the previous worker; None for the first worker.
        last_gpu: name of that device's hardware, if known.

    Raises:
        DeviceUnavailable: `device` is of a slower kind.
    """
    if last_device is None or _rank(device.name) >= _rank(last_device):
        return
    raise DeviceUnavailable(
        f"{last_device}{f' ({last_gpu})' if last_gpu else ''} computed for this daemon and is "
        f"gone: only {device.name} is found now. The jobs wait, and go on by themselves once it is "
        "back: see its state (`nvidia-smi`, the system's log), reload its driver or restart the "
        "machine; or set `runtime.device: cpu` in pipeline.yaml and restart the daemon"
    )


def _rank(name: str) -> int:
    kind = name.partition(":")[0]
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def make_current(device: Device) -> None:
    """Make a card that has a number torch's current one, since libraries that name none would
    take memory of the first card, which is another worker's. Raises `DeviceUnavailable`."""
    kind, _, number = device.name.partition(":")
    if kind == "cuda" and number:
        import torch

        try:
            torch.cuda.set_device(int(number))
        except RuntimeError as fault:
            raise DeviceUnavailable(f"{device.name} cannot be used: {fault}") from fault


def self_test(device: Device) -> None:
    """Compute a result that is known. Raises `DeviceUnavailable` if the device fails or the result
    is wrong."""
    try:
        error = _error(device.name)
    except RuntimeError as fault:
        raise DeviceUnavailable(f"{device.name} failed its self-test: {fault}") from fault
    if not error < TOLERANCE:  # this also catches NaN
        raise DeviceUnavailable(
            f"{device.name} gave a wrong answer to a sum whose result is known "
            f"(off by {error:.3g}); restart the machine, or choose another runtime.device"
        )


def _error(name: str) -> float:
    """Largest relative error of exp(A·B) in float32 on the device, against float64 on the CPU."""
    import torch

    generator = torch.Generator("cpu").manual_seed(7)
    a, b = torch.rand(2, SIDE, SIDE, generator=generator, dtype=torch.float64)
    expected = (a @ b / SIDE).exp()
    result = (a.to(name, torch.float32) @ b.to(name, torch.float32) / SIDE).exp().cpu().double()
    worst = float(((result - expected).abs() / expected).max())
    return worst if math.isfinite(worst) else math.nan


def facts(device: Device) -> dict[str, Any]:
    """Facts about a device that works: `name`, `dtype`; of a GPU, as far as torch says them, also
    `gpu` (its model), `free_bytes` and `total_bytes` of its memory."""
    record: dict[str, Any] = {"name": device.name, "dtype": device.dtype}
    # Not every driver says all of this, and the device works without.
    with suppress(RuntimeError, AttributeError):
        record |= _gpu_facts(device.name)
    return record


def memory_use(device: Device) -> MemoryUse | None:
    """Memory in use on the device, and all it has; None if its driver does not say.

    On a CPU, the memory of this process and of the machine.
    """
    if device.name == "cpu":
        import psutil

        return MemoryUse(psutil.Process().memory_info().rss, psutil.virtual_memory().total)
    # torch refuses by an AssertionError where it was built for another device.
    with suppress(RuntimeError, AssertionError, AttributeError):
        gpu = _gpu_facts(device.name)
        if "total_bytes" in gpu:
            used = max(gpu["total_bytes"] - gpu["free_bytes"], 0)
            return MemoryUse(used, gpu["total_bytes"])
    return None


def allocated_bytes(device: Device) -> int | None:
    """Memory of the device that this process has allocated; None where torch does not count it, as
    on a CPU."""
    import sys

    if "torch" not in sys.modules:
        return None
    import torch

    with suppress(RuntimeError, AssertionError, AttributeError):
        if device.name.startswith("cuda"):
            return torch.cuda.memory_allocated(device.name)
        if device.name == "mps":
            return torch.mps.current_allocated_memory()
    return None


def _gpu_facts(name: str) -> dict[str, Any]:
    import torch

    if name.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(name)
        gpu = torch.cuda.get_device_name(name)
        return {"gpu": gpu, "free_bytes": free, "total_bytes": total}
    if name == "mps":
        total = torch.mps.recommended_max_memory()
        free = total - torch.mps.driver_allocated_memory()
        return {"gpu": "Apple", "free_bytes": free, "total_bytes": total}
    return {}
