"""Attention, in whichever way is fast where it runs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dna_pipeline.providers.hardware import has_amx

_ROWS = 128
"""Queries at once: the scores of 16 heads against 3072 keys are 12 MB then, and stay in cache."""


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
    """The same, a picture and some queries of all its heads at a time.

    All heads at once, so that threads seldom wait for one another: they may share their cores.
    """
    pictures: list[Tensor] = []
    for queries, keys, values in zip(q * q.shape[-1] ** -0.5, k, v, strict=True):
        keys, values = keys.transpose(1, 2).contiguous(), values.contiguous()
        parts = [
            torch.bmm(torch.softmax(torch.bmm(some, keys), dim=-1), values)  # (h, rows, d)
            for some in torch.split(queries.contiguous(), _ROWS, dim=1)
        ]
        pictures.append(torch.cat(parts, dim=1))
    return torch.stack(pictures)
