"""One file of Stable Diffusion 1.5 weights, under the original's names → a Diffusers folder.

Done once, offline. What the file lacks: each part's configuration lies in `sd15_config/`, and the
tokenizer's vocabulary is the user's to bring, as the weights are.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import WeightsMismatch
from dna_pipeline.base.files import fsync_tree, remove_tree, rename_new
from dna_pipeline.providers.stable_diffusion.folder import read_json, readable, some

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = Mapping[str, Tensor]

CONFIG = Path(__file__).with_name("sd15_config")
MERGES = "merges.txt"
VOCABULARY = "vocab.json"
_TEXT_PREFIX = "cond_stage_model.transformer."


def convert(single_file: Path, tokenizer: Path, target: Path, config: Path = CONFIG) -> None:
    """Write the folder `target`, which appears whole or not at all. Values and dtypes are kept.

    Args:
        single_file: `.safetensors`, or a pickled checkpoint, of which only tensors are read.
        tokenizer: folder with CLIP's `merges.txt`; its `vocab.json` follows from it if not there.
        config: the configuration of each part.

    Raises:
        WeightsMismatch: it is not a Stable Diffusion 1.5 for text and images, or it is damaged.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    remove_tree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _fill(single_file, tokenizer, temporary, config)
        fsync_tree(temporary)
        rename_new(temporary, target)
    finally:
        remove_tree(temporary, ignore_errors=True)


def _fill(single_file: Path, tokenizer: Path, folder: Path, config: Path) -> None:
    save_file: Any = import_module("safetensors.torch").save_file
    with readable(single_file):
        parts = to_parts(_read(single_file), config)
    shutil.copytree(config, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md"))
    _write_vocabulary(tokenizer, folder / "tokenizer")
    for name, part in parts.items():
        stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
        tidy = {key: value.contiguous() for key, value in part.items()}
        save_file(tidy, folder / name / f"{stem}.safetensors", {"format": "pt"})


def _read(path: Path) -> Tensors:
    if path.suffix == ".safetensors":
        return import_module("safetensors.torch").load_file(path)
    import torch

    document: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return document.get("state_dict", document)


def to_parts(tensors: Tensors, config: Path = CONFIG) -> dict[str, Tensors]:
    """The UNet, the VAE and the text encoder, under the names that Diffusers gives their tensors.

    Raises:
        WeightsMismatch: a tensor is missing, is one too many, or has another shape.
    """
    utils: Any = import_module("diffusers.loaders.single_file_utils")
    text = {
        key.removeprefix(_TEXT_PREFIX).removeprefix("text_model."): value
        for key, value in tensors.items()
        if key.startswith(_TEXT_PREFIX) and not key.endswith(".position_ids")
    }
    parts: dict[str, Tensors] = {
        "unet": utils.convert_ldm_unet_checkpoint(tensors, read_json(config / "unet/config.json")),
        "vae": utils.convert_ldm_vae_checkpoint(tensors, read_json(config / "vae/config.json")),
        "text_encoder": {f"text_model.{key}": value for key, value in text.items()},
    }
    wrong = [f"{name}: {text}" for name in parts for text in _differences(name, parts, config)]
    if wrong:
        raise WeightsMismatch(f"not a Stable Diffusion 1.5: {some(wrong)}")
    return parts


def _differences(name: str, parts: Mapping[str, Tensors], config: Path) -> list[str]:
    """Sentences about the tensors in which a part differs from its configuration."""
    expected = _shapes(name, read_json(config / name / "config.json"))
    shapes = {key: tuple(value.shape) for key, value in parts[name].items()}
    wrong = [f"{key} is missing" for key in expected if key not in shapes]
    wrong += [f"{key} is not expected" for key in shapes if key not in expected]
    return wrong + [
        f"{key} is {shapes[key]} and should be {shape}"
        for key, shape in expected.items()
        if shapes.get(key, shape) != shape
    ]


def _shapes(name: str, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a part's tensors, from its configuration alone."""
    import torch

    diffusers: Any = import_module("diffusers")
    transformers: Any = import_module("transformers")
    with torch.device("meta"):
        model: Any
        if name == "text_encoder":
            model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**config))
        else:
            kind = "UNet2DConditionModel" if name == "unet" else "AutoencoderKL"
            model = getattr(diffusers, kind).from_config(config)
    prefix = "text_model." if name == "text_encoder" else ""
    return {f"{prefix}{key}": tuple(value.shape) for key, value in model.state_dict().items()}


def _write_vocabulary(source: Path, folder: Path) -> None:
    """Copy the merges, and number the tokens as CLIP does: bytes, words' ends, merges."""
    shutil.copyfile(source / MERGES, folder / MERGES)
    if (source / VOCABULARY).is_file():
        shutil.copyfile(source / VOCABULARY, folder / VOCABULARY)
        return
    merges = (source / MERGES).read_text(encoding="utf-8").splitlines()[1:]
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)
    (folder / VOCABULARY).write_text(vocabulary, encoding="utf-8")


def _byte_letters() -> list[str]:
    """GPT-2's visible character for each byte: those that have one, then the rest from U+0100."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, visible), *(chr(256 + i) for i in range(256 - len(visible)))]
