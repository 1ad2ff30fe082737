"""One file of Stable Diffusion 1.5 weights, under the original's names → a Diffusers folder.

Done once, offline, tensor by tensor. What the file lacks ships with this package: the configuration
of each part in `sd15_config/`, the tokenizer's vocabulary in `clip_vocabulary/`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dna_pipeline.base.files import fsync_tree, remove_tree, rename_new
from dna_pipeline.providers.stable_diffusion import single_file as checkpoint
from dna_pipeline.providers.stable_diffusion import tensor_file, vocabulary
from dna_pipeline.providers.stable_diffusion.folder import (
    INDEX,
    INPAINTING_CHANNELS,
    SD15_CONFIG,
    read_json,
)

if TYPE_CHECKING:
    from torch import Tensor


def convert(
    single_file: Path,
    target: Path,
    *,
    tokenizer: Path | None = None,
    vae: Path | None = None,
    config: Path | None = None,
) -> None:
    """Write the folder `target`, which appears whole or not at all. Values and dtypes are kept.

    Args:
        single_file: `.safetensors`, or a pickled checkpoint, of which only tensors are read.
        tokenizer: folder whose `merges.txt` is taken, if it is there, in place of CLIP's own.
        vae: file of a VAE that is taken in place of the checkpoint's own.
        config: folder with the configuration of each part.

    Raises:
        WeightsMismatch: it is not a Stable Diffusion 1.5 for text and images, or it is damaged.
    """
    config = config or SD15_CONFIG
    parts = checkpoint.read_parts(single_file, vae, config)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    remove_tree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _fill(temporary, parts, tokenizer, config)
        fsync_tree(temporary)
        rename_new(temporary, target)
    finally:
        remove_tree(temporary, ignore_errors=True)


def _fill(
    folder: Path,
    parts: Mapping[str, Mapping[str, Tensor]],
    tokenizer: Path | None,
    config: Path,
) -> None:
    shutil.copytree(config, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md"))
    vocabulary.write(folder / "tokenizer", tokenizer)
    unet = checkpoint.config_of("unet", parts["unet"], config)
    if unet["in_channels"] == INPAINTING_CHANNELS:
        _change_json(folder / "unet/config.json", in_channels=INPAINTING_CHANNELS)
        _change_json(folder / INDEX, _class_name="StableDiffusionInpaintPipeline")
    for name, part in parts.items():
        stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
        tensor_file.write(folder / name / f"{stem}.safetensors", part)


def _change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(read_json(path) | changes, indent=2) + "\n", encoding="utf-8")
