"""Counts what makes a CPU wait for its device, on a CPU too."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

WAITS = frozenset({
    "item", "tolist", "__bool__", "__int__", "__float__", "__index__",  # values
    "cpu",
    "nonzero", "masked_select", "unique", "_unique2", "unique_dim", "argwhere",  # sizes
    "new_tensor",  # a copy of pageable memory to the device
})  # fmt: skip
INDEXING = frozenset({"__getitem__", "__setitem__"})


class DeviceWaits(TorchFunctionMode):
    """Counts, while the block runs, the calls that would wait for a GPU, by their names.

    A mask as an index is one, `mask`: its points must be counted to give the answer's shape. It
    cannot see whether `to` waits, since on a CPU it copies nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self.counts.total()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.__name__
        is_upload = func is torch.tensor and (kwargs or {}).get("device") is not None
        if name in WAITS or is_upload:
            self.counts[name] += 1
        elif name in INDEXING and any(_is_mask(index) for index in _indices(args[1])):
            self.counts["mask"] += 1
        return func(*args, **(kwargs or {}))


def _indices(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
