"""Hashes models and compares them with the published files, and with what manifests say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dna_pipeline.base.files import sha256_file
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.models.selection import configured
from dna_pipeline.providers.base import Device, Provider
from dna_pipeline.publish.manifest import NAME
from dna_pipeline.publish.published import find_results
from dna_pipeline.weights.fingerprint import hash_files, manifest_path, model_hash, name_below
from dna_pipeline.weights.pins import PinnedFile, PinnedModel, Pins, load_pins
from dna_pipeline.weights.progress import Progress

_HALF = Device("cuda:0", "float16")
"""A device for which a model of two variants is read from other files than elsewhere."""


@dataclass(slots=True)
class Recorded:
    """Hashes of one model in the manifests of the outbox.

    Attributes:
        counts: number of results by hash.
        newest: time of the newest result, and the hash in its manifest.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    newest: tuple[str, str] = ("", "")


def verify_models(config: Config, names: Sequence[str], progress: Progress) -> list[dict[str, Any]]:
    """Hash the named models of pipeline.yaml, else all that have weights.

    Returns:
        For each model its `name`, `path`, `state` (published, differs, unpublished, missing),
        `published` (name of the published model), `sha256` (as manifests have it), `differs`
        (`path`, `expected`, `received` of each file), `results` (`same`, `other`: the number of
        results that were made with these weights, and with others), `changed_since` (time of the
        newest result, if it was made with others), `problem` (a sentence, or null) and `mismatch`
        (a sentence about a file that is, by its header, another than is needed, or null).

    Raises:
        ConfigError: pipeline.yaml has no such model.
    """
    chosen = _chosen(config, names)
    recorded = _recorded(config.outbox)
    progress.begin(sum(_bytes(provider) for provider in chosen.values()))
    pins = load_pins()
    return [
        _verify(config, pins, name, provider, recorded, progress)
        for name, provider in chosen.items()
    ]


def _chosen(config: Config, names: Sequence[str]) -> dict[str, Provider]:
    for name in names:
        configured(config, name)
    return {
        name: provider
        for name, provider in config.models.items()
        if (name in names if names else provider.missing() or provider.weights()[1])
    }


def _bytes(provider: Provider) -> int:
    return sum(path.stat().st_size for path in _all_files(provider) if path.is_file())


def _all_files(provider: Provider) -> list[Path]:
    """The files of a model, those for float16 included, each once."""
    half = provider.for_device(_HALF)
    return list(dict.fromkeys([*provider.weights()[1], *half.weights()[1]]))


def _verify(
    config: Config,
    pins: Pins,
    name: str,
    provider: Provider,
    recorded: Mapping[str, Recorded],
    progress: Progress,
) -> dict[str, Any]:
    root, files = provider.weights()
    report: dict[str, Any] = {
        "name": name, "path": str(root), "state": "missing", "published": None, "sha256": None,
        "differs": [], "results": {"same": 0, "other": 0}, "changed_since": None,
        "problem": provider.missing(), "mismatch": None,
    }  # fmt: skip
    if report["problem"] is not None or not files:
        return report
    hashes = hash_files(name, _all_files(provider), sha256_file, progress)
    sums = [
        model_hash(root, {path: hashes[path] for path in read})
        for read in (files, provider.for_device(_HALF).weights()[1])
    ]
    report["sha256"] = sums[0]
    report |= _against_pins(pins, provider, {name_below(root, f): hashes[f] for f in files})
    report |= _against_manifests(manifest_path(config.data, root), set(sums), recorded)
    report["mismatch"] = provider.mismatch()
    report["problem"] = _problem(report)
    return report


def _against_pins(pins: Pins, provider: Provider, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Find the published model that most of the files are of, and the files that differ.

    Where none of the weights are alike, it is the model that the place is named after.
    """
    root = provider.weights()[0]
    models = [
        model
        for model in pins.models.values()
        if model.provider == provider.name_in_config and model.is_file == root.is_file()
    ]
    best = max(models, key=lambda model: _sameness(model, root, hashes), default=None)
    if best is None or _sameness(best, root, hashes) == 0:
        best = _named_after(pins, provider, hashes)
    if best is None:
        return {"state": "unpublished"}
    differs = [
        {"path": name, "expected": file.sha256 if file else None, "received": sha256}
        for file, name, sha256 in _pairs(best, root, hashes)
        if file is None or file.sha256 != sha256
    ]
    state = "differs" if differs else "published"
    return {"state": state, "published": best.name, "differs": differs}


def _pairs(
    model: PinnedModel, root: Path, hashes: Mapping[str, str]
) -> list[tuple[PinnedFile | None, str, str]]:
    """The published file, the name and the hash of each file."""
    by_path = {root.name if model.is_file else file.path: file for file in model.files}
    return [(by_path.get(name), name, sha256) for name, sha256 in hashes.items()]


def _sameness(model: PinnedModel, root: Path, hashes: Mapping[str, str]) -> int:
    """Weight of all files as a sign that they are those of the published model."""
    return sum(
        _likeness(file, root if model.is_file else root / name, sha256)
        for file, name, sha256 in _pairs(model, root, hashes)
    )


def _named_after(pins: Pins, provider: Provider, hashes: Mapping[str, str]) -> PinnedModel | None:
    """The published model, in the variant that has most of the files, whose place this is."""
    root = provider.weights()[0]
    variants = [
        model
        for placement in provider.published(pins)
        if placement.target == root
        for model in pins.variants(placement.model)
        if model.is_file == root.is_file()
        and (not model.is_file or Path(model.target).name == root.name)
    ]
    if not variants or variants[0].is_file:
        return variants[0] if variants else None
    return max(variants, key=lambda model: len(hashes.keys() & {f.path for f in model.files}))


def _likeness(file: PinnedFile | None, path: Path, sha256: str) -> int:
    """Weight of a file as a sign that a folder is the published model: its bytes, or its size.

    Configurations and vocabularies are no sign, since other models have the same.
    """
    if file is None or not file.is_weights:
        return 0
    if file.sha256 == sha256:
        return 2
    return 1 if path.stat().st_size == file.bytes else 0


def _recorded(outbox: Path) -> dict[str, Recorded]:
    """Read the hashes of all models from the manifests, by the paths of the models."""
    recorded: dict[str, Recorded] = {}
    for path in find_results(outbox):
        if path.name != NAME:
            continue
        try:
            manifest = json.loads(path.read_bytes())
            time = str(manifest["job"]["finished_at"])
            models = [stage["model"] for stage in manifest["stages"] if stage["model"]]
            pairs = {(str(model["path"]), model["sha256"]) for model in models}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # `dna-pipeline verify` reports results that cannot be read
        for place, sha256 in pairs:
            if sha256 is not None:
                entry = recorded.setdefault(place, Recorded())
                entry.counts[sha256] += 1
                entry.newest = max(entry.newest, (time, sha256))
    return recorded


def _against_manifests(
    place: str, sums: set[str], recorded: Mapping[str, Recorded]
) -> dict[str, Any]:
    entry = recorded.get(place, Recorded())
    same = sum(entry.counts[sha256] for sha256 in sums)
    time, newest = entry.newest
    return {
        "results": {"same": same, "other": entry.counts.total() - same},
        "changed_since": time if newest and newest not in sums else None,
    }


def _problem(report: Mapping[str, Any]) -> str | None:
    problems: list[str] = []
    if differs := cast("list[dict[str, Any]]", report["differs"]):
        names = ", ".join(one["path"] for one in differs[:4])
        problems.append(f"differs from the published {report['published']}: {names}")
    if report["mismatch"]:
        problems.append(report["mismatch"])
    if report["changed_since"]:
        problems.append(f"changed since the result of {report['changed_since']}")
    return "; ".join(problems) or None
