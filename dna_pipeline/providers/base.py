"""The base class of providers, the protocols of the models that they load, and the models' cache.

A provider is one entry under `models:` in pipeline.yaml: a pydantic model of its own keys that
knows which files it needs and how to load them. Importing a provider's module must not import
torch or any other heavy package; `load` may.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    runtime_checkable,
)

from pydantic import BaseModel, ConfigDict, Field

from dna_pipeline.base.errors import ConfigError, UnknownModel, WeightsMismatch, WeightsMissing
from dna_pipeline.base.times import utcnow
from dna_pipeline.weights.fingerprint import file_identity
from dna_pipeline.weights.loras import Lora
from dna_pipeline.weights.pins import Pins, Placement, load_pins

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from dna_pipeline.providers.triposr.field import Field as SceneField

T = TypeVar("T")

StepCallback = Callable[[int, int], None]
"""Called as `(step, steps)` after each step of work; raises `Cancelled` to stop it."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device and a number type of models, as torch names them.

    Attributes:
        name: `cpu`, `cuda:0`, `mps`.
        dtype: `float32`, `float16`, …
        dtype_is_free: nobody asked for that dtype, so a model may choose a better one.
    """

    name: str
    dtype: str
    dtype_is_free: bool = False


def device_of(device: torch.device, dtype: torch.dtype) -> Device:
    """The device for objects of torch, with the names that manifests use."""
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
    """Types of the stages that can use the provider's model."""
    needs_device: ClassVar[bool] = True
    """False for models that run on the CPU whatever `runtime.device` says."""
    machine_options: ClassVar[frozenset[str]] = frozenset()
    """Keys of the entry that decide where or how fast the model computes, not what it makes. Two
    jobs that differ in them alone are the same work."""

    license: str | None = Field(
        default=None,
        description="licence of the weights as an SPDX expression, for manifests",
        json_schema_extra={"default_words": "that of the published model, if it is one"},
    )

    @property
    def weight_paths(self) -> list[Path]:
        """The files and folders that the entry names."""
        return [value for _, value in self if isinstance(value, Path)]

    def located(self, models_root: Path) -> Provider:
        """The entry with absolute paths; relative ones are taken to lie below `models_root`."""
        changes = {
            name: models_root / value
            for name, value in self
            if isinstance(value, Path) and not value.is_absolute()
        }
        return self.model_copy(update=changes)

    @abstractmethod
    def missing(self) -> str | None:
        """A sentence that names what is missing and how to get it; None if nothing is missing.

        It looks at the file system only, and is cheap enough to be called before every job.
        """

    def mismatch(self) -> str | None:
        """A sentence about a file that is there and is another than the entry needs; None if there
        is none.

        It reads headers alone, and is cheap enough to be asked before a model is loaded.
        """
        return None

    def is_small(self) -> bool:
        """True if the files that are there are so small that they only stand in for real weights,
        in a demo or a test: what they make means nothing."""
        return False

    def published(self, pins: Pins) -> list[Placement]:
        """The published models that `dna-pipeline models pull` fetches for this entry, with their
        places; none if the entry's names are those of no published model."""
        return []

    def way_to_get(self, by_hand: str) -> str:
        """How to get what is missing: by hand, or, for a published model, by the command."""
        return f"{by_hand}, or run `dna-pipeline models pull`" if self._can_be_pulled() else by_hand

    def way_to_replace(self) -> str:
        """How to get the right file in place of the wrong one that `mismatch` names."""
        if self._can_be_pulled():
            return "move it away, and `dna-pipeline models pull` fetches the published file"
        return "put the right file in its place"

    def _can_be_pulled(self) -> bool:
        try:
            return bool(self.published(load_pins()))
        except ConfigError:
            return False

    @abstractmethod
    def weights(self) -> tuple[Path, list[Path]]:
        """The root that the manifest names, and all files that the model is read from."""

    def dtype_on(self, device: Device) -> str:
        """Number type that the model is to compute in on that device."""
        return device.dtype if self.needs_device else "float32"

    def place_on(self, device: Device) -> Device:
        """Device and number type that the model is to compute in, for a worker with that device. A
        result that was computed elsewhere, since a library went back to the CPU for instance, is
        not kept for later jobs."""
        return Device(device.name if self.needs_device else "cpu", self.dtype_on(device))

    def for_device(self, device: Device) -> Provider:
        """The entry for use on that device: its `weights` are the files that `load` reads there.

        A folder may hold the same weights in several number types, of which the device decides
        one. Where no device is known, `weights` names the files for the entry's own dtype.
        """
        return self

    @property
    def preparation_s(self) -> float:
        """Seconds by which a stage may last longer than its limit, because the model prepares
        itself at its first use."""
        return 0.0

    @abstractmethod
    def load(self, device: Device) -> Any:
        """Read the weights onto the device. Raises `WeightsMissing` or `WeightsMismatch`."""


@dataclass(frozen=True, slots=True)
class ImageToImageRequest:
    """Arguments of one img2img call.

    Attributes:
        prompt: what the picture should become; without tags of LoRAs, which are in `loras`.
        negative_prompt: what it should not become; without effect at a `guidance_scale` up to 1.
        seed: of the noise, 0 to 2**63 - 1.
        steps: of a full redraw, 1 to 1000; `int(steps * strength)` of them run, at least 1.
        guidance_scale: how strictly the prompt is followed, 0 to 100.
        strength: share of the noise that is added to the picture, above 0, up to 1.
        sampler: one of `SAMPLERS`.
        schedule: one of `SCHEDULES`.
        saves_memory: memory ran out before; use less of it, at the cost of time.
        prompt_syntax: `a1111`: weights and BREAK are obeyed, and prompts may have any length;
            `plain`: all is text, and the first 75 tokens are read.
        clip_skip: 1 for the text encoder's last layer, 2 for the one before it; at most 12, and at
            most the number of its layers.
        embeddings: files of textual inversions, by the names that may stand for them in the
            prompts; more than the prompts use.
        mask: mode L, of the picture's size. What is white (255) is redrawn and what is black is
            kept; greys count as white from 128 on. None to redraw all.
        loras: the LoRAs to put on the model, each with a weight of -10 to 10 other than 0.
        tile: longest side in pixels of what the model sees at once, 128 to 4096, a multiple of 8;
            None for all at once.
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
    prompt_syntax: Literal["a1111", "plain"] = "a1111"
    clip_skip: int = 1
    embeddings: Mapping[str, Path] = field(default_factory=dict[str, Path])
    mask: Image.Image | None = None
    loras: tuple[Lora, ...] = ()
    tile: int | None = None


@runtime_checkable
class ImageToImage(Protocol):
    """Redraws an image under a prompt."""

    def redraw(
        self, image: Image.Image, request: ImageToImageRequest, on_step: StepCallback
    ) -> Image.Image:
        """RGB in, RGB of the same size out. Both sides are multiples of 8.

        `info["remarks"]` of the result may hold a list of sentences for the manifest, about what
        happened while it was drawn, and `info["embeddings"]` the names of the textual inversions
        that the prompts used.
        """
        ...

    def remarks(self, request: ImageToImageRequest) -> list[str]:
        """Sentences for the manifest about parts of a request that the model ignores."""
        ...


@runtime_checkable
class RedrawsSeveral(Protocol):
    """An `ImageToImage` that can redraw several pictures at once."""

    def redraw_several(
        self,
        images: Sequence[Image.Image],
        requests: Sequence[ImageToImageRequest],
        on_step: StepCallback,
    ) -> list[Image.Image | Exception]:
        """As `redraw`, for pictures of one size, whose requests differ in prompts, textual
        inversions and seed alone, and have neither a mask nor tiles.

        Returns:
            For each, the picture or what is wrong with it alone.

        Raises:
            As `redraw`, what is wrong with the whole call.
        """
        ...


@runtime_checkable
class Matting(Protocol):
    """Separates a subject from its background."""

    def alpha(self, image: Image.Image, *, alpha_matting: bool) -> Image.Image:
        """RGB in; mode L of the same size out, 255 where the subject is opaque."""
        ...


@runtime_checkable
class CompilesMatting(Protocol):
    """A `Matting` whose `alpha_matting` has to be compiled, which may take a minute."""

    @property
    def is_compiled(self) -> bool: ...

    def compile_matting(self) -> None: ...


@runtime_checkable
class ReviewsMatte(Protocol):
    """A `Matting` that can judge its own result."""

    def remarks(self, image: Image.Image, alpha: Image.Image) -> list[str]:
        """Sentences for the manifest about what may be wrong with the alpha that it gave for that
        picture; none for a clean cut-out."""
        ...


@runtime_checkable
class ImageToField(Protocol):
    """Reconstructs the object that one picture shows, as a field of density and colour."""

    def field(self, image: Image.Image, *, foreground_ratio: float) -> SceneField:
        """RGBA (cut out by its alpha) or RGB in.

        Raises:
            EmptyForeground: nothing in the picture is opaque.
        """
        ...


class KeptParts(Protocol):
    """Parts of a stage's work that later stages with other parameters go on from.

    A part is named by its kind, such as `scene`, and by all that decides it besides the model, as
    plain JSON values; the model, its device and the code are added to that.
    """

    def take(self, part: str, of: Mapping[str, Any], load: Callable[[bytes], T | None]) -> T | None:
        """Give what `load` makes of a part's bytes; None if the part was not kept, or if `load`
        gives that."""
        ...

    def keep(self, part: str, of: Mapping[str, Any], data: bytes, seconds: float) -> None:
        """Keep a part that took so long. It never fails: what cannot be kept is computed again."""
        ...


@runtime_checkable
class ReportsDevice(Protocol):
    """A loaded model that knows its device, which may differ from the requested one."""

    @property
    def computes_on(self) -> Device:
        """The device and number type of its computation, for the manifest."""
        ...


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model of the cache.

    Attributes:
        is_loading: True until it can be used.
        device: the device that it computes on.
        since: begin of its loading, or the end of that; UTC.
        bytes: memory that its loading took; None if that is unknown.
    """

    name: str
    is_loading: bool
    device: str
    since: datetime
    bytes: int | None = None


@dataclass(eq=False)
class ModelCache:
    """The loaded models by name; each is loaded once and stays until it is evicted, or until its
    files are others: a result is recorded, and kept, under the hash of the files that are there.

    A lock guards loading, so that two threads that ask for the same model get one copy.

    Args:
        is_one_of_many: true for the names of models of which only one is kept. A folder may hold
            more checkpoints than fit into memory, which on a CPU would end the process.
        on_change: called with all models when one of them begins to be loaded, is loaded or is
            forgotten, by the thread that does so; it must not ask the cache for a model.
        allocated_bytes: memory of the device that is in use; None where that is not counted.
    """

    _providers: Mapping[str, Provider]
    device: Device
    _is_one_of_many: Callable[[str], bool] = lambda _: False
    _on_change: Callable[[Sequence[CachedModel]], None] = lambda _: None
    _allocated_bytes: Callable[[], int | None] = lambda: None
    _cached: dict[str, CachedModel] = field(init=False, default_factory=dict[str, CachedModel])
    _loaded: dict[str, Any] = field(init=False, default_factory=dict[str, Any])
    _versions: dict[str, list[str]] = field(init=False, default_factory=dict[str, list[str]])
    """The versions of the files that each loaded model was read from."""
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def provider(self, name: str) -> Provider:
        """The configured entry, for use on the models' device. Raises `UnknownModel`."""
        try:
            return self._providers[name].for_device(self.device)
        except KeyError:
            raise UnknownModel(f"model {name!r} is not declared") from None

    def is_loaded(self, name: str) -> bool:
        return name in self._loaded and not self._is_outdated(name)

    def _is_outdated(self, name: str) -> bool:
        """True if the files of a loaded model were replaced. Files that are gone do not count: the
        model may still be of use, and whoever needs the files reports them."""
        versions = self._versions_of(self.provider(name))
        return len(versions) > 0 and versions != self._versions.get(name)

    @staticmethod
    def _versions_of(provider: Provider) -> list[str]:
        """The versions of a model's files; none if one is missing."""
        with suppress(OSError):
            return [file_identity(path) for path in provider.weights()[1]]
        return []

    def get(self, name: str) -> Any:
        """The loaded model. Raises `UnknownModel`, `WeightsMissing` or `WeightsMismatch`."""
        with self._lock:
            if name in self._loaded and self._is_outdated(name):
                del self._loaded[name]
                del self._cached[name]
            if name not in self._loaded:
                provider = self.provider(name)
                if (why := provider.missing()) is not None:
                    raise WeightsMissing(why)
                if (why := provider.mismatch()) is not None:
                    raise WeightsMismatch(why)
                self._make_room_for(name)
                self._versions[name] = self._versions_of(provider)
                self._load(name, provider)
            return self._loaded[name]

    def _load(self, name: str, provider: Provider) -> None:
        before = self._allocated_bytes()
        device = self.device.name if provider.needs_device else "cpu"
        self._cached[name] = CachedModel(name, True, device, utcnow())
        self._on_change(tuple(self._cached.values()))
        try:
            self._loaded[name] = provider.load(self.device)
            after = self._allocated_bytes()
            used = None if before is None or after is None else max(after - before, 0)
            place = self.computes_on(name).name
            self._cached[name] = CachedModel(name, False, place, utcnow(), used)
        except BaseException:
            del self._cached[name]
            raise
        finally:
            self._on_change(tuple(self._cached.values()))

    def _make_room_for(self, name: str) -> None:
        if self._is_one_of_many(name):
            for other in [one for one in self._loaded if self._is_one_of_many(one)]:
                del self._loaded[other]
                del self._cached[other]

    def computes_on(self, name: str) -> Device:
        """Device and number type of that model: as the loaded model reports them, else as its
        provider declares. Raises `UnknownModel`."""
        provider, model = self.provider(name), self._loaded.get(name)
        if isinstance(model, ReportsDevice):
            return model.computes_on
        return provider.place_on(self.device)

    def evict(self, *keep: str) -> list[str]:
        """Forget all loaded models except those to `keep`, and return the names of the others."""
        with self._lock:
            evicted = [name for name in self._loaded if name not in keep]
            for name in evicted:
                del self._loaded[name]
                del self._cached[name]
            if evicted:
                self._on_change(tuple(self._cached.values()))
        return evicted
