"""Converts a checkpoint in one file to a folder in the Diffusers format, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import ConfigError, WeightsMismatch
from dna_pipeline.weights import slots


def convert_checkpoint(file: Path, target: Path, vae: Path | None = None) -> dict[str, Any]:
    """Write the folder `target`, which appears whole or not at all, with equal values and dtypes.

    Args:
        vae: file of a VAE that is taken in place of the checkpoint's own.

    Returns:
        `file`, `target`, `bytes` (of the folder) and `files` (their number).

    Raises:
        ConfigError: a file is not there, is none or not the one that is needed, or the target is
            there already.
    """
    _check(file, target, vae)
    # Imported only now: it loads torch, which takes seconds.
    from dna_pipeline.providers.stable_diffusion.convert import convert

    try:
        convert(file, target, vae=vae)
    except WeightsMismatch as error:
        raise ConfigError(str(error)) from None
    except FileExistsError:
        raise ConfigError(f"{target} was made meanwhile and stays as it is") from None
    made = [path for path in target.rglob("*") if path.is_file()]
    return {
        "file": str(file),
        "target": str(target),
        "bytes": sum(path.stat().st_size for path in made),
        "files": len(made),
    }


def _check(file: Path, target: Path, vae: Path | None) -> None:
    for path in (file, vae):
        if path is not None and not path.is_file():
            what = "is a folder and no file" if path.is_dir() else "is not there"
            raise ConfigError(f"{path} {what}")
    if target.exists():
        raise ConfigError(f"{target} is there already; name a folder that is not")
    wrong = slots.mismatch(file, slots.CHECKPOINT if vae is None else slots.CHECKPOINT_AND_VAE)
    if wrong is None and vae is not None:
        wrong = slots.mismatch(vae, slots.VAE)
    if wrong is not None:
        raise ConfigError(wrong.replace("name a file of one at the model's key `vae`", _VAE_HINT))


_VAE_HINT = "name a file of one by `--vae`"
