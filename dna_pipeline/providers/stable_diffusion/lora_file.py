"""The layers of a LoRA's file, under the names of the model that it changes.

A LoRA adds B·A·(alpha / rank) to the weights of a layer, where A is (rank, inputs) and B is
(outputs, rank). Files name the layers in three ways:

kohya      lora_unet_down_blocks_0_…_attn1_to_q.lora_down.weight, .lora_up.weight, .alpha
Diffusers  unet.down_blocks.0.….attn1.to_q.lora.down.weight; older: …attn1.processor.to_q_lora.down
PEFT       unet.down_blocks.0.….attn1.to_q.lora_A.weight; also behind `base_model.model.`

The text encoder's names begin with `lora_te_` or `text_encoder.`. Without an alpha it is the rank.
An rsLoRA, whose factor is alpha / sqrt(rank) (Kalajdzievski 2023, arXiv 2312.03732), is named so in
what Diffusers writes into the header; LyCORIS writes an alpha that has the factor already.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import WeightsMismatch, WeightsMissing

if TYPE_CHECKING:
    import torch

UNET, TEXT = "unet", "text_encoder"

Layer = tuple[str, str]
"""Part of the model, `UNET` or `TEXT`, and the name of the layer within it."""

_MATRIX = re.compile(
    r"(?P<layer>.+?)(?:\.lora_linear_layer|\.lora|_lora)?[._]"
    r"(?:lora_)?(?P<side>down|up|A|B)(?:\.default)?\.weight"
)
_TEXT_LAYERS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_UNSUPPORTED = {
    "dora_scale": "a DoRA", "lora_magnitude_vector": "a DoRA",
    "lora_mid.": "a LoCon in Tucker form", "diff": "a file of full differences",
    "diff_b": "a file of full differences",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one layer: A, B and alpha."""

    down: torch.Tensor
    up: torch.Tensor
    alpha: float

    @property
    def scale(self) -> float:
        """Factor of B·A."""
        return self.alpha / self.down.shape[0]

    def times(self, weight: float) -> Change:
        """The change with another weight; it shares the matrices."""
        return replace(self, alpha=weight * self.alpha)

    def on(self, device: torch.device, dtype: torch.dtype) -> Change:
        """A copy on a device. It holds no part of the file, whose bytes somebody may replace."""
        down, up = (one.to(device, dtype, copy=True) for one in (self.down, self.up))
        return Change(down, up, self.alpha)


def read_lora(path: Path, shapes: Mapping[Layer, tuple[int, ...]]) -> dict[Layer, Change]:
    """Read a LoRA.

    Args:
        shapes: of the weights of all layers that a LoRA may change.

    Raises:
        WeightsMissing: the file has vanished.
        WeightsMismatch: the file changes layers that the model lacks, or layers of other sizes, or
            changes them in a way that is not supported; or it is damaged.
    """
    tensors, metadata = _contents(path)
    spellings = _spellings(shapes)
    sides: dict[Layer, dict[str, torch.Tensor]] = {}
    alphas: dict[Layer, float] = {}
    for name, tensor in sorted(tensors.items()):  # so that a wrong file has one error text
        if name.endswith(".alpha"):
            if (layer := spellings.get(_plain(name.removesuffix(".alpha")))) is not None:
                alphas[layer] = _stored_alpha(path, name, tensor)
            continue
        layer, side = _place(path, name, spellings)
        sides.setdefault(layer, {})[side] = tensor
    changes: dict[Layer, Change] = {}
    for layer, pair in sides.items():
        down, up = _matrices(path, layer, pair)
        alpha = alphas.get(layer)
        if alpha is None:
            alpha = _header_alpha(path, metadata, layer, down.shape[0])
        changes[layer] = _fitted(path, layer, Change(down, up, alpha), shapes)
    if not changes:
        raise WeightsMismatch(f"{path} changes no layer of the model")
    return changes


def _contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All tensors, and what Diffusers writes about their alphas.

    The file is read as a whole: the library's `get_tensor` keeps a few bytes for each tensor for
    ever, and maps the file, so that one which is cut off meanwhile would end the process.
    """
    safetensors: Any = import_module("safetensors.torch")
    error_of_format: Any = import_module("safetensors").SafetensorError
    try:
        data = path.read_bytes()
        tensors: dict[str, torch.Tensor] = safetensors.load(data)
    except FileNotFoundError as error:
        raise WeightsMissing(f"{path} is not there any more; put it there again") from error
    except error_of_format as error:
        raise WeightsMismatch(f"{path} is damaged: {error}; download or copy it again") from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        metadata = header.get("__metadata__", {}).get("lora_adapter_metadata", "{}")
        return tensors, dict(json.loads(metadata))
    except (ValueError, TypeError):
        return tensors, {}


def _spellings(layers: Iterable[Layer]) -> dict[str, Layer]:
    """All layers by the names that files give them, without the ends of the tensors' names."""
    spellings: dict[str, Layer] = {}
    for part, name in layers:
        # transformers 5 leaves out the `text_model.` that all files have.
        full = name if part == UNET or name.startswith("text_model.") else f"text_model.{name}"
        prefix = "lora_unet" if part == UNET else "lora_te"
        bare = full.removesuffix(".0") if full.endswith(".to_out.0") else full
        for spelling in (f"{part}.{full}", f"{part}.{bare}", f"{part}.{name}", full, name, bare,
                         f"{prefix}_{full.replace('.', '_')}"):  # fmt: skip
            spellings[spelling] = (part, name)
    return spellings


def _plain(name: str) -> str:
    """The name of a layer without what some programs put into it."""
    name = name.replace("base_model.model.", "").replace(".processor.", ".")
    if ".self_attn.to_" in name:
        start, _, end = name.rpartition(".")
        name = f"{start}.{_TEXT_LAYERS.get(end, end)}"
    return re.sub(r"^lora_te1_", "lora_te_", name)


def _place(path: Path, name: str, spellings: Mapping[str, Layer]) -> tuple[Layer, str]:
    """The layer of a tensor, and which of its two matrices it is, `down` or `up`."""
    for mark, kind in _UNSUPPORTED.items():
        if f".{mark}" in f"{name}." and (mark.endswith(".") or name.endswith((mark, ".weight"))):
            raise WeightsMismatch(f"{path} is {kind}, which is not supported; needed is a LoRA")
    match = _MATRIX.fullmatch(name)
    layer = None if match is None else spellings.get(_plain(match["layer"]))
    if match is None or layer is None:
        raise WeightsMismatch(
            f"{path} changes layers that the model lacks, such as {name[:120]!r}; it was made for "
            "another kind of model"
        )
    return layer, "down" if match["side"] in ("down", "A") else "up"


def _matrices(
    path: Path, layer: Layer, pair: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B of a layer. Raises `WeightsMismatch`."""
    if len(pair) != 2:
        raise WeightsMismatch(f"{path} is damaged: {layer[1]} has one of two matrices")
    for tensor in pair.values():
        if tensor.ndim < 2 or not tensor.numel():
            shape = tuple(tensor.shape)
            raise WeightsMismatch(f"{path} is damaged: {layer[1]} has a matrix of shape {shape}")
    return pair["down"], pair["up"]


def _stored_alpha(path: Path, name: str, tensor: torch.Tensor) -> float:
    """An alpha with a tensor of its own. Raises `WeightsMismatch`."""
    value = tensor.item() if tensor.numel() == 1 else None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise WeightsMismatch(f"{path} is damaged: {name[:120]!r} is not one finite number")
    return float(value)


def _header_alpha(path: Path, metadata: Mapping[str, Any], layer: Layer, rank: int) -> float:
    """The alpha of a layer by the file's header. Raises `WeightsMismatch`."""
    try:
        alpha = _own_alpha(metadata, layer, rank)
    except (TypeError, ValueError, AttributeError, OverflowError, re.error) as error:
        raise WeightsMismatch(f"{path} is damaged: the alpha in its header: {error}") from error
    if not math.isfinite(alpha):
        raise WeightsMismatch(f"{path} is damaged: the alpha in its header is {alpha}")
    return alpha


def _own_alpha(metadata: Mapping[str, Any], layer: Layer, rank: int) -> float:
    part, name = layer
    # `Change` divides by the rank where an rsLoRA divides by its root.
    factor = math.sqrt(rank) if metadata.get(f"{part}.use_rslora") else 1.0
    patterns: dict[str, Any] = metadata.get(f"{part}.alpha_pattern") or {}
    for pattern, alpha in patterns.items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return factor * float(alpha)
    return factor * float(metadata.get(f"{part}.lora_alpha", rank))


def _fitted(
    path: Path, layer: Layer, change: Change, shapes: Mapping[Layer, tuple[int, ...]]
) -> Change:
    """The change in the form of the layer. A 1 x 1 convolution may be written as a matrix."""
    shape, rank = shapes[layer], change.down.shape[0]
    kernel = shape[2:]
    down, up = (rank, *shape[1:]), (shape[0], rank, *(1 for _ in kernel))
    if change.down.numel() == _product(down) and change.up.numel() == _product(up):
        return Change(change.down.reshape(down), change.up.reshape(up), change.alpha)
    made_for = f"{tuple(change.up.shape)} x {tuple(change.down.shape)}"
    raise WeightsMismatch(
        f"{path} was made for a model of other sizes: its change of {layer[1]} is {made_for}, and "
        f"the model's layer is {tuple(shape)}"
    )


def _product(shape: Iterable[int]) -> int:
    result = 1
    for side in shape:
        result *= side
    return result
