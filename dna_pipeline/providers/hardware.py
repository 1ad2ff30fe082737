"""Number types that a processor computes in fast."""

from functools import cache

import torch

_AMX = "amx_bf16"
_AVX512 = "avx512_bf16"


def fast_dtype(device: torch.device | str) -> torch.dtype:
    """The type in which a device multiplies matrices fastest, with enough range for the network.

    bfloat16 where the hardware has it. A GPU without it has float16; a CPU without it would only
    imitate shorter types, and slowly.
    """
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
    capabilities = torch.cpu.get_capabilities()
    return frozenset(name for name in (_AMX, _AVX512) if capabilities.get(name))
