"""Carries models to another machine in one archive."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.base.naming import folded
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
        TransferFailed: a model is missing, a name of its files is one that `import_models` refuses,
            or the archive cannot be written.
    """
    fingerprints = Fingerprints(config.data)
    chosen = _chosen(config, names)
    places = _places(chosen)
    targets = _targets(config, {root: name for root, (name, _) in places.items()})
    archive.check_members(
        [
            (name, archive.member_name(targets[root], root, file))
            for root, (name, files) in places.items()
            for file in files
        ]
    )
    number = sum(path.stat().st_size for _, files in places.values() for path in files)
    progress.begin(2 * number)  # each file is hashed, then written
    packed: list[tuple[PackedModel, Path]] = []
    for root, (name, files) in places.items():
        hashes = hash_files(name, files, fingerprints.sha256, progress)
        licence = fingerprints.licence(chosen[name])
        packed.append((archive.pack(name, targets[root], licence, root, hashes), root))
    archive.export(target_file, packed, progress)
    return [_facts(model) for model, _ in packed]


def _places(chosen: Mapping[str, Provider]) -> dict[Path, tuple[str, list[Path]]]:
    """The name of a model and its files by each root: its folder, and each file elsewhere.

    Models may share files, such as a VAE; those of a folder that has them all are left out.
    """
    places: dict[Path, tuple[str, list[Path]]] = {}
    for name, provider in chosen.items():
        root, files = provider.weights()
        inside = [path for path in files if path.is_relative_to(root)]
        places.setdefault(root, (name, inside))
        for path in files:
            if path not in inside:
                places.setdefault(path, (name, [path]))
    whole = {root: set(files) for root, (_, files) in places.items()}
    return {
        root: place
        for root, place in places.items()
        if not any(whole[root] <= whole.get(folder, set()) for folder in root.parents)
    }


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


def _targets(config: Config, names: Mapping[Path, str]) -> dict[Path, str]:
    """Place of each root below the data folder of the machine that imports it.

    Args:
        names: of the model of each root.
    """
    models = config.data / MODELS
    inside = [root for root in names if root.is_relative_to(models) and root != models]
    targets = {root: root.relative_to(config.data).as_posix() for root in inside}
    for root, name in names.items():
        if root not in targets:
            targets[root] = _free_target(name, root, targets.values())
    return targets


def _free_target(name: str, root: Path, used: Iterable[str]) -> str:
    """A place for a root that lies elsewhere, apart from those that are used."""
    paths = [f"{folded(target)}/" for target in used]
    numbered = (f"{name}-{number}-{root.name}" for number in itertools.count(2))
    names = itertools.chain((root.name, f"{name}-{root.name}"), numbered)
    return next(target for one in names if _is_apart(target := f"{MODELS}/{one}", paths))


def _is_apart(target: str, others: Iterable[str]) -> bool:
    """True if a place is none of those, in none of them and around none."""
    own = f"{folded(target)}/"
    return not any(path.startswith(own) or own.startswith(path) for path in others)


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
