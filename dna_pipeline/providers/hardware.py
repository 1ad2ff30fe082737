"""Number types that a processor computes in fast, and the choice of one for a model.

Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from dna_pipeline.providers.base import Device

DtypeKey = Literal["auto", "float32", "float16", "bfloat16"]
"""Type of the key `dtype` of a model's entry."""

SMALL_BYTES = 100_000_000

_AMX = "amx_bf16"
_AVX512 = "avx512_bf16"


def chosen_dtype(own: DtypeKey, device: Device, keeps_device_dtype: Callable[[], bool]) -> str:
    """Number type for a model: its entry's own, else that of `runtime.dtype`, else the fastest one
    on the device.

    Args:
        own: the entry's key `dtype`.
        keeps_device_dtype: true if `auto` is to mean the device's own type for this model; called
            only where that is open.
    """
    if own != "auto":
        return own
    if not device.dtype_is_free or keeps_device_dtype():
        return device.dtype
    return str(fast_dtype(device.name)).removeprefix("torch.")


def are_small(files: Iterable[Path]) -> bool:
    """True if these files are too small for real weights: shorter numbers would save no time."""
    try:
        return sum(path.stat().st_size for path in files) < SMALL_BYTES
    except OSError:
        return True


def fast_dtype(device: torch.device | str) -> torch.dtype:
    """The type in which a device multiplies matrices fastest, with enough range for a network.

    bfloat16 where the hardware has it. A GPU without it has float16; a CPU without it would only
    imitate shorter types, and slowly.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        with torch.cuda.device(device):  # only the current one is asked
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if kind == "cpu" and (has_amx() or has_bfloat16()):
        return torch.bfloat16
    return torch.float32


def has_amx() -> bool:
    """True if the CPU multiplies tiles of bfloat16."""
    return _AMX in _features()


def has_bfloat16() -> bool:
    """True if the CPU multiplies vectors of bfloat16."""
    return _AVX512 in _features()


@cache
def _features() -> frozenset[str]:
    import torch

    capabilities = torch.cpu.get_capabilities()
    return frozenset(name for name in (_AMX, _AVX512) if capabilities.get(name))
