"""Attention, in whichever way is fast where it runs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dna_pipeline.tsr.hardware import has_amx

_ROWS = 512
"""Queries at once: their scores against 3072 keys are 3 MB in half the bits, and stay in cache."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·kᵀ / √d)·v for q (B, h, N, d) and k, v (B, h, M, d): (B, h, N, d).

    torch's fused attention multiplies bfloat16 at float32's speed on CPUs without AMX, where its
    matrix products take half the time: there two products and a softmax are faster, though the
    scores are rounded once more.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and not has_amx():
        return _by_products(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def _by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same, a head and some queries at a time."""
    scaled = q * q.shape[-1] ** -0.5
    result = torch.empty_like(q, memory_format=torch.contiguous_format)
    for picture in range(q.shape[0]):
        for head in range(q.shape[1]):
            keys = k[picture, head].T.contiguous()  # (d, M)
            values = v[picture, head].contiguous()  # (M, d)
            for queries, target in zip(
                torch.split(scaled[picture, head], _ROWS),
                torch.split(result[picture, head], _ROWS),
                strict=True,
            ):
                torch.mm(torch.softmax(queries @ keys, dim=-1), values, out=target)
    return result
