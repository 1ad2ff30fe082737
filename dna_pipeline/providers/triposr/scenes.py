"""Scenes that are kept, so that another resolution, texture or film goes on from them.

A scene is decided by the picture as the network sees it, and by the network. It is kept as float32,
the type in which its field is read, so that the meshes of a kept scene have the very bytes of those
of a new one.
"""

from __future__ import annotations

import hashlib
import io
import time
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dna_pipeline.providers.base import ImageToField, KeptParts
from dna_pipeline.providers.triposr.field import Field

PART = "scene"


@runtime_checkable
class KeepsScenes(ImageToField, Protocol):
    """A model that can go on from a scene of its own."""

    def picture(self, image: Image.Image, *, foreground_ratio: float) -> NDArray[np.uint8]:
        """The picture (H, W, 3) that the network sees. Raises `EmptyForeground`."""
        ...

    def field_of_picture(self, picture: NDArray[np.uint8]) -> Field:
        """The field of what the network sees in a picture."""
        ...

    def field_of_scene(self, scene_code: NDArray[np.float32]) -> Field | None:
        """The field of a scene code (3, C, H, W); None if it is none of this network."""
        ...


def field_of(
    model: KeepsScenes, image: Image.Image, foreground_ratio: float, parts: KeptParts
) -> Field:
    """The field of an image, from a kept scene if there is one; else the scene is kept.

    Raises `EmptyForeground`.
    """
    picture = model.picture(image, foreground_ratio=foreground_ratio)
    of = {"picture": hashlib.sha256(picture.tobytes()).hexdigest(), "shape": list(picture.shape)}
    if (field := parts.take(PART, of, lambda data: _field(model, data))) is not None:
        return field
    started = time.monotonic()
    field = model.field_of_picture(picture)
    if field.is_finite:  # waits for the device, so that the time is that of the network
        parts.keep(PART, of, _to_bytes(field.scene_code), time.monotonic() - started)
    return field


def _field(model: KeepsScenes, data: bytes) -> Field | None:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError):  # kept in another form
        return None
    return model.field_of_scene(array) if array.dtype == np.float32 else None


def _to_bytes(scene_code: Tensor) -> bytes:
    file = io.BytesIO()
    np.save(file, scene_code.to("cpu", torch.float32).contiguous().numpy(), allow_pickle=False)
    return file.getvalue()
