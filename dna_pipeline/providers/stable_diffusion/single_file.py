"""A Stable Diffusion 1.5 in one file, and a VAE in one file, under the names that Diffusers uses.

Tensors are mapped and not read, so that a file of many gigabytes costs memory only where its
numbers are used. Of a pickled file, only tensors are read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import WeightsMismatch
from dna_pipeline.providers.stable_diffusion import vocabulary
from dna_pipeline.providers.stable_diffusion.folder import (
    INPAINTING_CHANNELS,
    NEEDED,
    SD15_CONFIG,
    TOKENIZER,
    UNET,
    Part,
    read_json,
    readable,
    some,
)
from dna_pipeline.weights import slots
from dna_pipeline.weights.headers import Format, read_header
from dna_pipeline.weights.slots import Slot, mismatch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Tensors = Mapping[str, Tensor]

_TEXT_PREFIX = "cond_stage_model.transformer."
_OLD_ATTENTION = {
    ".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0.",
}  # fmt: skip
"""Names of the VAE's attention in early files of Diffusers, and those of today."""


class SdFile:
    """A checkpoint that is loaded without a folder: what `SdFolder` is, for one file.

    Args:
        root: the file.
        vae: file of the VAE that replaces the checkpoint's own; None to keep that.
        tokenizer: folder that may hold another vocabulary than CLIP's own.
    """

    with_safety = False

    def __init__(self, root: Path, vae: Path | None, tokenizer: Path) -> None:
        self.root = root
        self._vae = vae
        self._tokenizer = tokenizer

    def model(self, part: Part, cls: Any, dtype: torch.dtype) -> Any:
        """A part with weights, in that dtype, in evaluation mode. Raises `WeightsMismatch`."""
        tensors = self._parts[part.name]
        return build_part(part, cls, config_of(part.name, tensors), tensors, dtype)

    @cached_property
    def _parts(self) -> dict[str, Tensors]:
        return read_parts(self.root, self._vae)

    def tokenizer(self) -> Any:
        """The tokenizer. Raises `WeightsMismatch`."""
        with TemporaryDirectory() as name, readable(self.root):
            folder = Path(name)
            for path in (SD15_CONFIG / TOKENIZER.name).iterdir():
                (folder / path.name).write_bytes(path.read_bytes())
            vocabulary.write(folder, self._tokenizer)
            tokenizer: Any = import_module("transformers").CLIPTokenizer
            return tokenizer.from_pretrained(folder, local_files_only=True)

    def feature_extractor(self) -> Any:
        """Raise `WeightsMismatch`, since a single file has no safety checker to prepare for."""
        raise WeightsMismatch(f"{self.root} holds no safety checker")

    def scheduler_config(self) -> dict[str, Any]:
        """The scheduler's configuration, as Stable Diffusion 1.5 is published with it."""
        return read_json(SD15_CONFIG / "scheduler/scheduler_config.json")


def config_of(name: str, tensors: Tensors, config: Path | None = None) -> dict[str, Any]:
    """The configuration of a part that consists of those tensors, under the names of Diffusers.

    The UNet of an inpainting model reads more channels than that of Stable Diffusion 1.5, and is
    otherwise the same.

    Args:
        config: folder with the configuration of each part.
    """
    values = read_json((config or SD15_CONFIG) / name / "config.json")
    first = tensors.get("conv_in.weight") if name == UNET.name else None
    if first is not None and first.ndim == 4 and first.shape[1] == INPAINTING_CHANNELS:
        values["in_channels"] = INPAINTING_CHANNELS
    return values


def build_part(part: Part, cls: Any, config: dict[str, Any], tensors: Tensors, dtype: Any) -> Any:
    """A part made of tensors that fit its configuration, in that dtype, in evaluation mode."""
    accelerate: Any = import_module("accelerate")
    # Buffers, such as the numbers of positions, are no weights: they must not become empty.
    with accelerate.init_empty_weights(include_buffers=False):
        model = _instance(part.name, config, cls)
    model.load_state_dict(_as_the_class_names(part, model, tensors), strict=True, assign=True)
    return model.requires_grad_(False).to(dtype).eval()


def read_parts(
    single_file: Path, vae: Path | None = None, config: Path | None = None
) -> dict[str, Tensors]:
    """The UNet, the VAE and the text encoder of a file, under the names of Diffusers.

    Args:
        vae: file of a VAE that replaces the checkpoint's own.
        config: folder with the configuration of each part.

    Raises:
        WeightsMismatch: a file is not what it should be, or is damaged.
    """
    _refuse(single_file, slots.CHECKPOINT if vae is None else slots.CHECKPOINT_AND_VAE)
    config = config or SD15_CONFIG
    with readable(single_file):
        parts = to_parts(read_tensors(single_file), config, without_vae=vae is not None)
    if vae is not None:
        parts["vae"] = read_vae(vae, read_json(config / "vae/config.json"))
    return parts


def read_vae(path: Path, config: dict[str, Any]) -> Tensors:
    """The tensors of a VAE in one file, under the names of Diffusers. Raises `WeightsMismatch`."""
    _refuse(path, slots.VAE)
    with readable(path):
        tensors = read_tensors(path)
        if any(".down_blocks." in name or ".up_blocks." in name for name in tensors):
            tensors = {_new_name(name): value for name, value in tensors.items()}
        else:
            utils: Any = import_module("diffusers.loaders.single_file_utils")
            tensors = utils.convert_ldm_vae_checkpoint(dict(tensors), config)
    if wrong := differences("vae", tensors, config):
        raise WeightsMismatch(f"{path} does not fit as a VAE: {some(wrong)}")
    return tensors


def _new_name(name: str) -> str:
    for old, new in _OLD_ATTENTION.items():
        name = name.replace(old, new)
    return name


def _refuse(path: Path, slot: Slot) -> None:
    if (why := mismatch(path, slot)) is not None:
        raise WeightsMismatch(why)


def read_tensors(path: Path) -> Tensors:
    """All tensors of a file by their names, mapped where the format allows it.

    Raises:
        WeightsMismatch: it is a pickle that holds more than tensors and plain values.
    """
    if read_header(path).format is Format.SAFETENSORS:
        return import_module("safetensors.torch").load_file(path)
    import pickle

    import torch

    try:
        document: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise WeightsMismatch(
            f"{path} holds objects that only its own code could rebuild, which is never run here; "
            "take the model as .safetensors"
        ) from error
    tensors = document.get("state_dict", document)
    return {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}


def to_parts(
    tensors: Tensors, config: Path | None = None, *, without_vae: bool = False
) -> dict[str, Tensors]:
    """The UNet, the VAE and the text encoder, under the names that Diffusers gives their tensors.

    Of a UNet that is there twice, the tensors under `model.diffusion_model` are taken, as other
    programs do, and their moving averages under `model_ema` are left out.

    Raises:
        WeightsMismatch: a tensor is missing, is one too many, or has another shape.
    """
    config = config or SD15_CONFIG
    utils: Any = import_module("diffusers.loaders.single_file_utils")
    configs = {part.name: read_json(config / part.name / "config.json")
               for part in NEEDED if part.weights}  # fmt: skip
    text = {
        key.removeprefix(_TEXT_PREFIX).removeprefix("text_model."): value
        for key, value in tensors.items()
        if key.startswith(_TEXT_PREFIX) and not key.endswith(".position_ids")
    }
    parts: dict[str, Tensors] = {
        "unet": utils.convert_ldm_unet_checkpoint(tensors, configs["unet"]),
        "text_encoder": {f"text_model.{key}": value for key, value in text.items()},
    }
    if not without_vae:
        parts["vae"] = utils.convert_ldm_vae_checkpoint(tensors, configs["vae"])
    wrong = [
        f"{name}: {sentence}"
        for name in sorted(parts, key=["unet", "vae", "text_encoder"].index)
        for sentence in differences(name, parts[name], config_of(name, parts[name], config))
    ]
    if wrong:
        raise WeightsMismatch(f"not a Stable Diffusion 1.5: {some(wrong)}")
    return parts


def differences(name: str, tensors: Tensors, config: dict[str, Any]) -> list[str]:
    """Clauses about the tensors in which a part differs from its configuration."""
    expected = shapes_of(name, config)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    wrong = [f"{key} is missing" for key in expected if key not in shapes]
    wrong += [f"{key} is not expected" for key in shapes if key not in expected]
    return wrong + [
        f"{key} is {shapes[key]} and should be {shape}"
        for key, shape in expected.items()
        if shapes.get(key, shape) != shape
    ]


def shapes_of(name: str, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a part's tensors, from its configuration alone."""
    import torch

    diffusers: Any = import_module("diffusers")
    transformers: Any = import_module("transformers")
    classes = {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        "text_encoder": transformers.CLIPTextModel,
    }
    with torch.device("meta"):
        model = _instance(name, config, classes[name])
    prefix = _prefix(name)
    return {f"{prefix}{key}": tuple(value.shape) for key, value in model.state_dict().items()}


def _instance(name: str, config: dict[str, Any], cls: Any) -> Any:
    if name != "text_encoder":
        return cls.from_config(config)
    return cls(import_module("transformers").CLIPTextConfig(**config))


def _prefix(name: str) -> str:
    """Start of the names in a text encoder's file, which the class leaves out."""
    return "text_model." if name == "text_encoder" else ""


def _as_the_class_names(part: Part, model: Any, tensors: Tensors) -> Tensors:
    prefix, names = _prefix(part.name), set(model.state_dict())
    return {
        key if key in names else key.removeprefix(prefix): value for key, value in tensors.items()
    }
