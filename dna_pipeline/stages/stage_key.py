"""The key of a stage run: equal keys mean that the same code would do the same work again.

A job that is resumed or retried keeps a finished stage only while its key is the same, so that
no result mixes old parameters, weights or code with new ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dna_pipeline import __version__
from dna_pipeline.providers.base import Provider
from dna_pipeline.stages.base import Stage


def stage_key(
    stage: Stage,
    stem: str,
    input_sha256: str,
    provider: Provider | None,
    weights_sha256: str | None,
    extra_files: Mapping[str, str] | None = None,
    marking: Mapping[str, Any] | None = None,
) -> str:
    """Hexadecimal SHA-256 of everything that decides the bytes that a stage writes.

    The device and its dtype are left out: a result does not become wrong when the machine changes.

    Args:
        stem: the start of the names of its files.
        input_sha256: hash of the file that the stage reads.
        provider: the entry of the stage's model; None for a stage without one.
        weights_sha256: hash of the model's weights; None for a model without any.
        extra_files: hashes of the files of `Stage.extra_files`, by their names.
        marking: what the marks of its files hold besides; nothing for a stage without marks.
    """
    inputs: dict[str, Any] = {
        "version": __version__,
        "type": stage.type,
        "params": stage.result_params(),
        "stem": stem,
        "input": input_sha256,
        "provider": None if provider is None else provider_options(provider),
        "weights": weights_sha256,
    }
    if extra_files:  # keys of earlier versions, which had none, stay as they are
        inputs["files"] = dict(extra_files)
    if marking:
        inputs["marking"] = dict(marking)
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def provider_options(provider: Provider) -> dict[str, Any]:
    """The entry's kind and keys. Paths are left out: the hash of the weights stands for them; and
    so is what says where the model computes."""
    values = provider.model_dump(mode="json")
    left_out = provider.machine_options | {"license"}
    options = {
        name: values[name]
        for name, value in provider
        if name in values and name not in left_out and not isinstance(value, Path)
    }
    return {"kind": provider.name_in_config, **options}
