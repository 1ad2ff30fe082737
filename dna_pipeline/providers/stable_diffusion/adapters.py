"""LoRAs on a loaded model: read once, and put on and taken off without a change to its weights.

For a job, a wrapper takes the place of each layer that a LoRA changes, and adds the LoRA's part to
the layer's result. After the job the layers themselves are in their places again and the wrappers
are forgotten, so that a job without LoRAs runs what it would run if none had ever been read. What
stays is the matrices of the LoRAs. The loader of Diffusers walks through the whole model for each
LoRA, which takes seconds, and leaves its wrappers in their places.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dna_pipeline.providers.stable_diffusion.inversions import identity
from dna_pipeline.providers.stable_diffusion.lora_file import TEXT, UNET, Change, Layer, read_lora
from dna_pipeline.weights.loras import Lora

if TYPE_CHECKING:
    from torch import nn

MOST_RESIDENT = 8
"""Number of LoRAs that stay in memory; those that were not used for longest are forgotten. One of
rank 128 takes about 150 MB in 16 bits."""


@dataclass(slots=True)
class _Place:
    """A place in the model, and the layer that belongs there."""

    parent: nn.Module
    name: str
    layer: Any

    def put(self, module: nn.Module) -> None:
        setattr(self.parent, self.name, module)


class Adapters:
    """The LoRAs of one pipeline of Diffusers."""

    def __init__(self, pipeline: Any) -> None:
        from torch import nn

        self._parts: dict[str, Any] = {UNET: pipeline.unet, TEXT: pipeline.text_encoder}
        self._places: dict[Layer, _Place] = {
            (part, f"{start}.{name}".lstrip(".")): _Place(parent, name, layer)
            for part, model in self._parts.items()
            for start, parent in model.named_modules()
            for name, layer in parent.named_children()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        }
        self._resident: OrderedDict[str, dict[Layer, Change]] = OrderedDict()
        """The changes of each LoRA by the identity of its file, the last used one at the end."""

    @contextmanager
    def active(self, loras: Sequence[Lora], *, saves_memory: bool = False) -> Generator[str]:
        """Put these LoRAs on the model inside the block, and on it alone; none changes nothing.

        Gives a text that names them, their files and their weights.

        Args:
            saves_memory: keep no others in memory.

        Raises:
            WeightsMissing, WeightsMismatch: a file is not there, or is none for this model.
        """
        from dna_pipeline.providers.stable_diffusion.changed_layer import ChangedLayer

        weights = {identity(lora.path): lora.weight for lora in loras}
        for lora in loras:
            self._read(lora)
        self._forget_others(weights, 0 if saves_memory else MOST_RESIDENT)
        parts: dict[Layer, list[Change]] = {}
        for file, weight in weights.items():
            for layer, change in self._resident[file].items():
                parts.setdefault(layer, []).append(change.times(weight))
        try:
            for layer, changes in parts.items():
                place = self._places[layer]
                place.put(ChangedLayer(place.layer, changes))
            yield "\n".join(f"{weight} {file}" for file, weight in weights.items())
        finally:
            for layer in parts:
                self._places[layer].put(self._places[layer].layer)

    def _read(self, lora: Lora) -> None:
        """Read a LoRA that is not in memory, and note its use."""
        file = identity(lora.path)
        if file not in self._resident:
            shapes = {layer: tuple(p.layer.weight.shape) for layer, p in self._places.items()}
            dtypes = {part: (model.device, model.dtype) for part, model in self._parts.items()}
            changes = read_lora(lora.path, shapes)
            with _one_thread():
                self._resident[file] = {
                    layer: change.on(*dtypes[layer[0]]) for layer, change in changes.items()
                }
        self._resident.move_to_end(file)

    def _forget_others(self, used: Iterable[str], most: int) -> None:
        """Forget the LoRAs that were not used for longest, but none of these."""
        for file in [file for file in self._resident if file not in set(used)]:
            if len(self._resident) > most:
                del self._resident[file]


@contextmanager
def _one_thread() -> Generator[None]:
    """Let torch compute in one thread inside the block. To copy hundreds of small tensors, threads
    wait longer for one another than they work, and on a busy machine for seconds."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
