"""Carries models to another machine in one archive."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.models.selection import configured
from dna_pipeline.providers.base import Provider
from dna_pipeline.weights import archive
from dna_pipeline.weights.archive import MODELS, PackedModel
from dna_pipeline.weights.fingerprint import Fingerprints, hash_files
from dna_pipeline.weights.progress import Progress


def export_models(
    config: Config, target_file: Path, names: Sequence[str], progress: Progress
) -> list[dict[str, Any]]:
    """Write the named models of pipeline.yaml to a new archive, else all that are there.

    Returns each with `name`, `target` (its place below the data folder), `bytes`, `files` and
    `license`.

    Raises:
        ConfigError: there is no such model.
        TransferFailed: a model is missing, or the archive cannot be written.
    """
    fingerprints = Fingerprints(config.data)
    chosen = _chosen(config, names)
    number = sum(path.stat().st_size for one in chosen.values() for path in one.weights()[1])
    progress.begin(2 * number)  # each file is hashed, then written
    packed: dict[Path, PackedModel] = {}
    for name, provider in chosen.items():
        for root, files in _places(provider):
            if root in packed:
                continue
            target = _target(config, name, root, {model.target for model in packed.values()})
            hashes = hash_files(name, files, fingerprints.sha256, progress)
            licence = fingerprints.licence(provider)
            packed[root] = archive.pack(name, target, licence, root, hashes)
    archive.export(target_file, [(model, root) for root, model in packed.items()], progress)
    return [_facts(model) for model in packed.values()]


def _places(provider: Provider) -> list[tuple[Path, list[Path]]]:
    """The model's root with the files below it, and each of its files that lies elsewhere."""
    root, files = provider.weights()
    inside = [path for path in files if path.is_relative_to(root)]
    return [(root, inside), *((path, [path]) for path in files if path not in inside)]


def _chosen(config: Config, names: Sequence[str]) -> dict[str, Provider]:
    """The models to pack; alone, all whose weights are there."""
    chosen: dict[str, Provider] = {}
    for name in names or config.models:
        provider = configured(config, name)
        if (missing := provider.missing()) is None:
            chosen |= {name: provider} if provider.weights()[1] else {}
        elif names:
            raise TransferFailed(f"{name}: {missing}")
    if not chosen:
        raise TransferFailed("pipeline.yaml has no such model with weights that are there")
    return chosen


def _target(config: Config, name: str, root: Path, used: Collection[str]) -> str:
    """Place of a model below the data folder of the machine that imports it."""
    if root.is_relative_to(config.data / MODELS) and root != config.data / MODELS:
        return root.relative_to(config.data).as_posix()
    target = f"{MODELS}/{root.name}"
    return target if target not in used else f"{MODELS}/{name}-{root.name}"


def import_models(config: Config, path: Path, progress: Progress) -> list[dict[str, Any]]:
    """Take the models of an archive into the data folder.

    Returns each with `name`, `target`, `bytes`, `files`, `license` and `was_there`.

    Raises:
        TransferFailed: the archive is damaged or foreign, or a model's place is taken.
    """
    new, present = archive.import_archive(path, config.data, progress)
    return [_facts(model) | {"was_there": model in present} for model in [*new, *present]]


def _facts(model: PackedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "target": model.target,
        "bytes": model.bytes,
        "files": len(model.files),
        "license": model.licence,
    }
