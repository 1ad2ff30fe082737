"""Counts what would make a CPU wait for its device, on any device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

READS = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2"})
"""Operations whose answer, or whose answer's shape, the CPU has to know."""
INDEXING = frozenset({"index", "index_put", "index_put_"})


class DeviceWaits(TorchDispatchMode):
    """Counts, while the block runs, the operations that wait for the device, by their names.

    A mask as an index counts as `mask`, since its points must be counted to give the answer's
    shape. Copies from device to device are `_to_copy`: a CPU makes none from itself to itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self.counts.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in READS:
            self.counts[name] += 1
        elif name in INDEXING and any(_is_mask(index) for index in args[1]):
            self.counts["mask"] += 1
        return func(*args, **(kwargs or {}))


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)
