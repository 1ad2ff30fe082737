"""LoRAs on a loaded model: read once, and put on and taken off without a change to its weights.

peft puts a wrapper around each layer that a LoRA changes, which adds the LoRA's part to the layer's
result. Between jobs the wrappers lie beside the model and the layers themselves are in their
places, so that a job without LoRAs runs what it would run if none had ever been read. Diffusers'
own loader leaves the wrappers in their places until the LoRAs are forgotten, and each takes time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import WeightsMissing
from dna_pipeline.providers.stable_diffusion.lora_file import TEXT, UNET, Change, Layer, read_lora
from dna_pipeline.weights.loras import Lora

if TYPE_CHECKING:
    from torch import nn

MOST_RESIDENT = 8
"""Number of LoRAs that stay in memory; those that were not used for longest are forgotten. One of
rank 128 takes about 150 MB."""


@dataclass(slots=True)
class _Place:
    """A place in the model, with the layer that belongs there and its wrapper."""

    parent: nn.Module
    name: str
    layer: nn.Module
    wrapper: Any

    def put(self, module: nn.Module) -> None:
        setattr(self.parent, self.name, module)


class Adapters:
    """The LoRAs of one pipeline of Diffusers."""

    def __init__(self, pipeline: Any) -> None:
        self._parts: dict[str, Any] = {UNET: pipeline.unet, TEXT: pipeline.text_encoder}
        self._layers: dict[Layer, nn.Module] = {}
        self._places: dict[Layer, _Place] = {}
        self._resident: OrderedDict[str, str] = OrderedDict()
        """peft's name of each LoRA by the identity of its file, the last used one at the end."""
        self._number = 0

    @contextmanager
    def active(self, loras: Sequence[Lora]) -> Generator[str]:
        """Put these LoRAs on the model inside the block, and on it alone; none changes nothing.

        Gives a text that names them, their files and their weights.

        Raises:
            WeightsMissing, WeightsMismatch: a file is not there, or is none for this model.
        """
        if not loras:
            yield ""
            return
        identities = {_identity(lora): lora.weight for lora in loras}
        weights: dict[str, float] = {}
        for lora in loras:
            weights[self._name_of(lora)] = lora.weight
        self._forget_others(identities)
        try:
            self._put_on(weights)
            yield "\n".join(f"{weight} {file}" for file, weight in identities.items())
        finally:
            self._take_off()

    @property
    def resident(self) -> int:
        """Number of LoRAs in memory."""
        return len(self._resident)

    def _name_of(self, lora: Lora) -> str:
        """peft's name of a LoRA, which is read if it is not in memory."""
        identity = _identity(lora)
        if identity not in self._resident:
            changes = read_lora(lora.path, self._shapes())
            self._number += 1
            name = f"lora_{self._number}"
            for part in self._parts:
                own = {layer: change for layer, change in changes.items() if layer[0] == part}
                if own:
                    self._inject(part, name, own)
            self._resident[identity] = name
        self._resident.move_to_end(identity)
        return self._resident[identity]

    def _shapes(self) -> dict[Layer, tuple[int, ...]]:
        return {layer: tuple(module.weight.shape) for layer, module in self._all_layers().items()}

    def _all_layers(self) -> Mapping[Layer, Any]:
        """The layers that a LoRA may change; all wrappers are off when it is first asked."""
        if not self._layers:
            from torch import nn

            self._layers = {
                (part, name): module
                for part, model in self._parts.items()
                for name, module in model.named_modules()
                if isinstance(module, nn.Linear | nn.Conv2d)
            }
        return self._layers

    def _inject(self, part: str, adapter: str, changes: Mapping[Layer, Change]) -> None:
        peft: Any = import_module("peft")
        model = self._parts[part]
        ranks = {name: change.rank for (_, name), change in changes.items()}
        common = Counter(ranks.values()).most_common(1)[0][0]
        config = peft.LoraConfig(
            r=common,
            lora_alpha=common,
            target_modules=list(ranks),
            rank_pattern={f"^{name}": rank for name, rank in ranks.items() if rank != common},
            inference_mode=True,
        )
        tensors: dict[str, Any] = {}
        for (_, name), change in changes.items():
            tensors[f"{name}.lora_A.weight"] = change.down.to(model.device, model.dtype)
            tensors[f"{name}.lora_B.weight"] = change.up.to(model.device, model.dtype)
        # peft looks for the wrappers that are there already, and adds to them.
        self._put_all(part)
        try:
            peft.inject_adapter_in_model(
                config, model, adapter, low_cpu_mem_usage=True, state_dict=tensors
            )
            peft.set_peft_model_state_dict(model, tensors, adapter, low_cpu_mem_usage=True)
            for layer, change in changes.items():
                self._enter(layer, adapter, change.alpha)
        finally:
            # peft's note of its adapters, which warns at the next one; nothing here reads it.
            if hasattr(model, "peft_config"):
                del model.peft_config
            self._take_off()

    def _enter(self, layer: Layer, adapter: str, alpha: float) -> None:
        part, name = layer
        wrapper = self._parts[part].get_submodule(name)
        wrapper.lora_alpha[adapter] = alpha
        if layer not in self._places:
            parent, _, own = name.rpartition(".")
            module = self._parts[part].get_submodule(parent)
            self._places[layer] = _Place(module, own, self._all_layers()[layer], wrapper)

    def _put_all(self, part: str) -> None:
        for (own, _), place in self._places.items():
            if own == part:
                place.put(place.wrapper)

    def _put_on(self, weights: Mapping[str, float]) -> None:
        """Put the wrappers of all layers that one of these changes into their places."""
        for place in self._places.values():
            used = [name for name in weights if name in place.wrapper.lora_A]
            if not used:
                continue
            place.wrapper.set_adapter(used, inference_mode=True)
            for name in used:
                place.wrapper.set_scale(name, weights[name])
            place.put(place.wrapper)

    def _take_off(self) -> None:
        for place in self._places.values():
            place.put(place.layer)

    def _forget_others(self, used: Mapping[str, float]) -> None:
        """Forget the LoRAs that were not used for longest, but none of these."""
        for identity in list(self._resident):
            if len(self._resident) <= MOST_RESIDENT:
                return
            if identity not in used:
                self._forget(identity)

    def _forget(self, identity: str) -> None:
        name = self._resident.pop(identity)
        for layer, place in list(self._places.items()):
            if name in place.wrapper.lora_A:
                place.wrapper.delete_adapter(name)
            if not place.wrapper.lora_A:
                del self._places[layer]


def _identity(lora: Lora) -> str:
    """Path, size and time of the file: a file that is replaced is read anew."""
    try:
        stat = lora.path.stat()
    except OSError as error:
        raise WeightsMissing(f"{lora.path} is not there any more; put it there again") from error
    return f"{lora.path}|{stat.st_size}|{stat.st_mtime_ns}"
