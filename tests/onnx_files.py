"""ONNX networks, written by hand: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto"""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor_info(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def redness_network(size: int, weights: tuple[float, float, float] = (4, -2, -2)) -> bytes:
    """A network of one 1x1 convolution, (1, 3, size, size) to (1, 1, size, size)."""
    kernel = b"".join(field(1, n) for n in (1, 3, 1, 1))
    kernel += field(2, 1) + field(8, "w") + field(9, struct.pack("<3f", *weights))
    node = field(1, "x") + field(1, "w") + field(2, "y") + field(4, "Conv")
    graph = field(1, node) + field(2, "redness") + field(5, kernel)
    graph += field(11, tensor_info("x", (1, 3, size, size)))
    graph += field(12, tensor_info("y", (1, 1, size, size)))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 17))
