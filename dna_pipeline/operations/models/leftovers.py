"""Find and remove files in hidden folders of transfers of models that were cut off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dna_pipeline.config.schema import Config
from dna_pipeline.providers.base import Provider
from dna_pipeline.weights import staging
from dna_pipeline.weights.archive import MODELS
from dna_pipeline.weights.pins import load_pins
from dna_pipeline.weights.staging import STAGING, Leftover


def list_leftovers(config: Config) -> list[dict[str, Any]]:
    """List the hidden folders with files of transfers that were cut off: `path` and `bytes`."""
    return [_facts(one) for one in staging.leftovers(_roots(config))]


def list_unneeded(config: Config) -> list[dict[str, Any]]:
    """List the leftovers that no pull of a missing model of pipeline.yaml would continue, each as
    `list_leftovers` gives it."""
    pins = load_pins()
    placements = [
        placement
        for provider in config.models.values()
        if provider.missing() is not None
        for placement in provider.published(pins)
    ]
    needed = {os.path.realpath(staging.staging_of(one).folder) for one in placements}
    return [one for one in list_leftovers(config) if one["path"] not in needed]


def discard_leftovers(config: Config) -> list[dict[str, Any]]:
    """Remove all leftovers. Returns them as `list_leftovers` gives them.

    Raises:
        TransferFailed: a transfer works in one of them now; nothing was removed.
        OSError: of the disk.
    """
    return [_facts(one) for one in staging.discard(_roots(config))]


def _roots(config: Config) -> set[Path]:
    """The folders of staging folders: beside each model of pipeline.yaml, and in the data folder.

    Links are resolved as a pull resolves them, so that no folder counts twice.
    """
    weights = [provider.weights() for provider in config.models.values() if _has_weights(provider)]
    places = [Path(os.path.realpath(root)).parent for root, _ in weights]
    return {Path(os.path.realpath(place)) / STAGING for place in (*places, config.data / MODELS)}


def _has_weights(provider: Provider) -> bool:
    return provider.missing() is not None or bool(provider.weights()[1])


def _facts(one: Leftover) -> dict[str, Any]:
    return {"path": str(one.folder), "bytes": one.bytes}
