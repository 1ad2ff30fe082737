"""What a provider is, what the things it loads can do, and the cache that keeps them loaded.

A provider is one entry under `models:` in pipeline.yaml: a pydantic model of its own keys that
knows which files it needs and how to load them. Importing a provider's module must not import
torch or any other heavy package; `load` may.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from dna_pipeline.base.errors import UnknownModel, WeightsMissing

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from dna_pipeline.providers.triposr.field import Field as SceneField

StepCallback = Callable[[int, int], None]
"""Called as `(step, steps)` after each step of work; raises `Cancelled` to stop it."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where models run, as torch names it: `cpu`, `cuda:0`, `mps`; `float32`, `float16`, …

    `dtype_is_free`: nobody asked for that dtype, so that a model may choose a better one.
    """

    name: str
    dtype: str
    dtype_is_free: bool = False


def device_of(device: torch.device, dtype: torch.dtype) -> Device:
    """A device of torch and a number type by the names that manifests use."""
    name = str(device) if device.type == "cuda" else device.type
    return Device(name, str(dtype).removeprefix("torch."))


WeightsPath = Annotated[Path, Field(strict=False)]
"""Type of a provider's key that names a file or folder of weights."""


class Provider(BaseModel, ABC):
    """One entry under `models:`. Relative paths are made absolute (to `paths.data`) on reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name_in_config: ClassVar[str]
    """The word after `provider:`."""
    stages: ClassVar[frozenset[str]]
    """Types of the stages that can use such a model."""
    needs_device: ClassVar[bool] = True
    """False for models that run on the CPU whatever `runtime.device` says."""

    license: str | None = None
    """SPDX expression of the weights' licence, as the configuration names it."""

    @property
    def weight_paths(self) -> list[Path]:
        """The files and folders that the entry names."""
        return [value for _, value in self if isinstance(value, Path)]

    def located(self, models_root: Path) -> Provider:
        """This entry with its paths made absolute, relative ones below `models_root`."""
        changes = {
            name: models_root / value
            for name, value in self
            if isinstance(value, Path) and not value.is_absolute()
        }
        return self.model_copy(update=changes)

    @abstractmethod
    def missing(self) -> str | None:
        """What is not there yet and how to get it, as one sentence; None if all is there.

        Looks at the file system only, cheaply enough to be asked before every job.
        """

    @abstractmethod
    def weights(self) -> tuple[Path, list[Path]]:
        """The root that the manifest names, and all files that the model is read from."""

    def dtype_on(self, device: Device) -> str:
        """Number type that the model is to compute in on that device."""
        return device.dtype if self.needs_device else "float32"

    @abstractmethod
    def load(self, device: Device) -> Any:
        """Read the weights onto the device. Raises `WeightsMissing` or `WeightsMismatch`."""


@dataclass(frozen=True, slots=True)
class ImageToImageRequest:
    """Arguments of one img2img call; the same names and ranges as the stage's parameters.

    `thrifty`: memory ran out before; take less of it, at the cost of time.
    """

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance_scale: float
    strength: float
    sampler: str
    schedule: str
    saves_memory: bool = False


@runtime_checkable
class ImageToImage(Protocol):
    """Redraws an image under a prompt."""

    def redraw(
        self, image: Image.Image, request: ImageToImageRequest, on_step: StepCallback
    ) -> Image.Image:
        """RGB in, RGB of the same size out. Both sides are multiples of 8."""
        ...

    def remarks(self, request: ImageToImageRequest) -> list[str]:
        """What of a request the model will not heed, in sentences for the manifest."""
        ...


@runtime_checkable
class Matting(Protocol):
    """Separates a subject from its background."""

    def alpha(self, image: Image.Image, *, alpha_matting: bool) -> Image.Image:
        """RGB in; mode L of the same size out, 255 where the subject is opaque."""
        ...


@runtime_checkable
class ReviewsMatte(Protocol):
    """A `Matting` that can judge its own result."""

    def remarks(self, image: Image.Image, alpha: Image.Image) -> list[str]:
        """What may be wrong with the alpha it gave for that picture, in sentences for the
        manifest; none for a clean cut-out."""
        ...


@runtime_checkable
class ImageToField(Protocol):
    """Imagines the solid that one picture shows, as a field of density and colour."""

    def field(self, image: Image.Image, *, foreground_ratio: float) -> SceneField:
        """RGBA (cut out by its alpha) or RGB in.

        Raises:
            EmptyForeground: nothing in the picture is opaque.
        """
        ...


@runtime_checkable
class ReportsDevice(Protocol):
    """A loaded model that knows where it computes, which may differ from what was asked for."""

    @property
    def computes_on(self) -> Device:
        """The device and number type of its computation, for the manifest."""
        ...


class ModelCache:
    """Models by name, each loaded once and kept until it is evicted.

    One lock guards loading: device work is one at a time, and two threads that ask for the same
    model must get one copy.
    """

    def __init__(self, providers: dict[str, Provider], device: Device) -> None:
        self._providers = providers
        self._device = device
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    @property
    def device(self) -> Device:
        return self._device

    def provider(self, name: str) -> Provider:
        """The configured entry. Raises `UnknownModel`."""
        try:
            return self._providers[name]
        except KeyError:
            raise UnknownModel(f"model {name!r} is not declared") from None

    def is_loaded(self, name: str) -> bool:
        return name in self._loaded

    def get(self, name: str) -> Any:
        """The loaded model. Raises `UnknownModel`, `WeightsMissing` or `WeightsMismatch`."""
        with self._lock:
            if name not in self._loaded:
                provider = self.provider(name)
                if (why := provider.missing()) is not None:
                    raise WeightsMissing(why)
                self._loaded[name] = provider.load(self._device)
            return self._loaded[name]

    def computes_on(self, name: str) -> Device:
        """Where that model computes and in which number type: as it says itself once it is loaded,
        else as its provider declares. Raises `UnknownModel`."""
        provider, model = self.provider(name), self._loaded.get(name)
        if isinstance(model, ReportsDevice):
            return model.computes_on
        device = self._device.name if provider.needs_device else "cpu"
        return Device(device, provider.dtype_on(self._device))

    def evict(self, *keep: str) -> list[str]:
        """Forget all loaded models but those named; the names of the forgotten ones."""
        with self._lock:
            gone = [name for name in self._loaded if name not in keep]
            for name in gone:
                del self._loaded[name]
        return gone
