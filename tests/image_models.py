"""Models of images that keep what they get and draw what a test asks for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

from PIL import Image
from pydantic import PrivateAttr

from dna_pipeline.providers.base import Device, ImageToImageRequest, StepCallback
from dna_pipeline.providers.matting.border_key import BorderKey

Draw = Callable[[Image.Image], Image.Image]


class Recording(BorderKey):
    """A provider for img2img, whose model gives each picture back and keeps the calls.

    Attributes:
        calls: the picture and the request of each call.
    """

    stages: ClassVar[frozenset[str]] = frozenset({"img2img"})
    _calls: list[tuple[Image.Image, ImageToImageRequest]] = PrivateAttr(default_factory=list)
    _draw: Draw = PrivateAttr(default_factory=lambda: Image.Image.copy)
    _remarks: list[str] = PrivateAttr(default_factory=list)

    @classmethod
    def drawing(cls, draw: Draw, *remarks: str) -> Recording:
        """One whose model draws so, with these remarks on each request."""
        entry = cls()
        entry._draw = draw
        entry._remarks += remarks
        return entry

    @property
    def calls(self) -> list[tuple[Image.Image, ImageToImageRequest]]:
        return self._calls

    @property
    def requests(self) -> list[ImageToImageRequest]:
        return [request for _, request in self._calls]

    def load(self, device: Device) -> Any:
        def redraw(
            image: Image.Image, request: ImageToImageRequest, on_step: StepCallback
        ) -> Image.Image:
            self._calls.append((image, request))
            on_step(1, 1)
            return self._draw(image)

        return SimpleNamespace(redraw=redraw, remarks=lambda request: list(self._remarks))
