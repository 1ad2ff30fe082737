"""Writing of safetensors files one tensor at a time.

The library's own writer takes all tensors as bytes in memory at once. A checkpoint of 7 GB would
need that much memory to be converted.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {
    "float64": "F64", "int64": "I64", "float32": "F32", "int32": "I32", "float16": "F16",
    "bfloat16": "BF16", "int16": "I16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
"""Names of the format for torch's dtypes."""


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors with their values and dtypes.

    Wide dtypes come first, so that each tensor begins at a multiple of its own width.

    Raises:
        KeyError: the format has no name for a tensor's dtype.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        dtype = _DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(_bytes(tensors[name]))


def _bytes(tensor: Tensor) -> memoryview:
    import torch

    # numpy knows neither bfloat16 nor float8, so the bytes are handed over as such.
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
