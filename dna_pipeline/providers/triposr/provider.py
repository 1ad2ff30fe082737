"""TripoSR: one picture of a thing to a field of density and colour, by this package's network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from dna_pipeline.base.errors import EmptyForeground, WeightsMismatch, WeightsMissing
from dna_pipeline.providers.base import Device, Provider, WeightsPath, device_of
from dna_pipeline.providers.hardware import DtypeKey, are_small, chosen_dtype
from dna_pipeline.weights import slots
from dna_pipeline.weights.pins import Pins, Placement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from dna_pipeline.providers.triposr.field import Field as SceneField
    from dna_pipeline.providers.triposr.network import TSR

CONFIG = "config.yaml"
WEIGHTS = ("model.safetensors", "model.ckpt")
ENCODER_CONFIG = "image_tokenizer/config.json"
SOURCE = "https://huggingface.co/stabilityai/TripoSR"


class TripoSRModel(Provider):
    """A folder with the published files: config.yaml and model.ckpt (or model.safetensors)."""

    name_in_config: ClassVar[str] = "triposr"
    stages: ClassVar[frozenset[str]] = frozenset({"triposr"})

    path: WeightsPath = Field(description="folder with config.yaml and the weights")
    dtype: DtypeKey = Field(
        default="auto",
        description="number type in which the two transformers compute; auto: runtime.dtype",
    )

    def missing(self) -> str | None:
        if not (self.path / CONFIG).is_file():
            what = f"{self.path / CONFIG} is not there"
        elif not any((self.path / name).is_file() for name in WEIGHTS):
            what = f"neither {' nor '.join(WEIGHTS)} is in {self.path}"
        else:
            return None
        way = f"put {CONFIG} and {WEIGHTS[-1]} of {SOURCE} into that folder"
        return f"{what}; {self.way_to_get(way)}"

    def published(self, pins: Pins) -> list[Placement]:
        model = pins.folder_named(self.name_in_config, self.path.name)
        return [] if model is None else [Placement(model, self.path)]

    def mismatch(self) -> str | None:
        chosen = next((self.path / n for n in WEIGHTS if (self.path / n).is_file()), None)
        return None if chosen is None else slots.mismatch(chosen, slots.TRIPOSR)

    def weights(self) -> tuple[Path, list[Path]]:
        chosen = next((n for n in WEIGHTS if (self.path / n).is_file()), WEIGHTS[-1])
        names = (CONFIG, chosen, ENCODER_CONFIG)
        return self.path, [self.path / n for n in names if (self.path / n).is_file()]

    def is_small(self) -> bool:
        return are_small(self.weights()[1])

    def dtype_on(self, device: Device) -> str:
        """The entry's own dtype, else that of `runtime.dtype`, else the fastest on the device."""
        return chosen_dtype(self.dtype, device, self.is_small)

    def load(self, device: Device) -> TripoSRNetwork:
        """Raises `WeightsMissing`, or `WeightsMismatch` for files that are not such a model.

        The decoder stays float32 whatever the dtype. It is a thousandth of the model and decides
        the surface: at 128³ the golden robot's 59,993 inside points become 59,668 in bfloat16,
        and its normals turn by 1.3° on average and 10° here and there, so that smooth walls look
        hammered; float16 moves few of them, but takes 17 times as long on a CPU.
        """
        import torch

        from dna_pipeline.providers.triposr.config import ConfigError
        from dna_pipeline.providers.triposr.weights import WeightsError, load

        dtype: torch.dtype = getattr(torch, self.dtype_on(device))
        try:
            network = load(self.path, device.name, dtype)
        except FileNotFoundError as error:
            raise WeightsMissing(self.missing() or str(error)) from error
        except (WeightsError, ConfigError) as error:
            raise WeightsMismatch(str(error)) from error
        return TripoSRNetwork(network)


class TripoSRNetwork:
    """A loaded model; an `ImageToField`."""

    def __init__(self, network: TSR) -> None:
        self._network = network

    @property
    def computes_on(self) -> Device:
        """Device of the network, and the dtype of its transformers."""
        return device_of(self._network.device, self._network.dtype)

    def field(self, image: Image.Image, *, foreground_ratio: float) -> SceneField:
        """The scene in the image. Raises `EmptyForeground`.

        It does not wait for the device, so whether the scene is finite shows later: see
        `Field.require_finite`, which `surface.extract` calls.
        """
        return self.field_of_picture(self.picture(image, foreground_ratio=foreground_ratio))

    def picture(self, image: Image.Image, *, foreground_ratio: float) -> NDArray[np.uint8]:
        """The square picture (H, W, 3) that the network sees. Raises `EmptyForeground`."""
        import numpy as np

        from dna_pipeline.providers.triposr import conditioning

        try:
            return np.array(conditioning.condition(image, foreground_ratio))
        except conditioning.EmptyForeground as error:
            raise EmptyForeground(str(error)) from error

    def field_of_picture(self, picture: NDArray[np.uint8]) -> SceneField:
        """The scene in such a picture; it does not wait for the device."""
        import torch

        with torch.inference_mode():
            codes = self._network(torch.as_tensor(picture)[None])  # (1, 3, C, P, P)
        return self._network.field(codes[0])

    def field_of_scene(self, scene_code: NDArray[np.float32]) -> SceneField | None:
        """The scene with that code (3, C, P, P); None if it is none of this network."""
        import torch

        try:
            return self._network.field(torch.as_tensor(scene_code).to(self._network.device))
        except ValueError:
            return None
