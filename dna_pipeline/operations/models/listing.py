"""Lists models: those of pipeline.yaml, the published ones, and files beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dna_pipeline.base.layout import WILDCARDS
from dna_pipeline.config.schema import Config
from dna_pipeline.providers.base import Provider
from dna_pipeline.weights import extra_files
from dna_pipeline.weights.fingerprint import Fingerprints
from dna_pipeline.weights.pins import load_pins
from dna_pipeline.weights.staging import staging_of


def list_models(config: Config) -> list[dict[str, Any]]:
    """List the models of pipeline.yaml, then LoRA, embeddings and wildcards in their folders.

    Each has `kind` (model, lora, embedding, wildcards), `name`, `provider`, `path`, `present`,
    `missing` (a sentence, or null), `bytes`, `staged_bytes` (of a pull that was cut off),
    `license` (null until the files were hashed), `pipelines`, `mismatch` (a sentence about a file
    that is another than is needed, or null), `small` (true for weights that only stand in for real
    ones), `fits` (of a LoRA or an embedding, the family of models that it changes; null if that is
    not known), and `trigger_words` (of a LoRA). Hashes nothing.

    Of a folder of many checkpoints, only those that a pipeline names are examined for a mismatch.
    A name that several checkpoints of the folder have is listed as missing, and so is a folder of
    checkpoints that is none.
    """
    fingerprints = Fingerprints(config.data)
    examined = config.models.to_examine(config.models_in_pipelines())
    models = [
        _model(config, fingerprints, name, provider, is_examined=name in examined)
        for name, provider in config.models.items()
    ]
    return [*models, *_unclear(config), *_extras(config.data)]


_ABSENT: dict[str, Any] = {
    "kind": "model", "name": "", "provider": None, "path": None, "present": False, "missing": None,
    "bytes": 0, "staged_bytes": 0, "license": None, "pipelines": [], "mismatch": None,
    "small": False, "fits": None, "trigger_words": [],
}  # fmt: skip
"""Facts of an entry about which nothing else is known, in their order."""


def _model(
    config: Config, fingerprints: Fingerprints, name: str, provider: Provider, *, is_examined: bool
) -> dict[str, Any]:
    missing = provider.missing()
    root, files = provider.weights()
    has_weights = missing is not None or bool(files)
    placements = provider.published(load_pins()) if missing else []
    staged = sum(staging_of(one).bytes_of(file) for one in placements for file in one.lacking())
    return _ABSENT | {
        "name": name,
        "provider": provider.name_in_config,
        "path": str(root) if has_weights else None,
        "present": missing is None,
        "missing": missing,
        "bytes": sum(file.stat().st_size for file in files if file.is_file()),
        "staged_bytes": staged,
        "license": provider.license or fingerprints.known_licence(provider),
        "pipelines": _pipelines(config, name),
        "mismatch": provider.mismatch() if missing is None and is_examined else None,
        "small": missing is None and provider.is_small(),
    }


def _unclear(config: Config) -> Iterator[dict[str, Any]]:
    """Entries for the folder of checkpoints if it is none, and for names that mean no one file."""
    models = config.models
    for name, text in models.problems().items():
        yield _ABSENT | {
            "name": name, "provider": "diffusers", "path": str(models.folder), "missing": text,
            "pipelines": _pipelines(config, name),
        }  # fmt: skip


def _pipelines(config: Config, model: str) -> list[str]:
    return [
        name
        for name, pipeline in config.pipelines.items()
        if any(stage.params.get("model") == model for stage in pipeline.stages)
    ]


def _extras(data: Path) -> Iterator[dict[str, Any]]:
    for entry in extra_files.entries(data):
        yield _extra(entry)
    root = data / WILDCARDS
    for path in sorted(root.rglob("*.txt")):
        if path.is_file():
            name = path.relative_to(root).with_suffix("").as_posix()
            yield _extra(extra_files.Entry(WILDCARDS, name, path, None, None, []))


def _extra(entry: extra_files.Entry) -> dict[str, Any]:
    return _ABSENT | {
        "kind": entry.kind, "name": entry.name, "path": str(entry.path), "present": True,
        "bytes": entry.path.stat().st_size, "mismatch": entry.mismatch, "fits": entry.fits,
        "trigger_words": entry.trigger_words,
    }  # fmt: skip


def list_published() -> list[dict[str, Any]]:
    """List all models that can be pulled: `name`, `title`, `provider`, `target` (below the data
    folder), `source`, `revision`, `bytes`, `files` (their number), `license` and `note`."""
    return [
        {
            "name": model.name,
            "title": model.title,
            "provider": model.provider,
            "target": model.target,
            "source": f"{model.source.endpoint()}/{model.source.repository}",
            "revision": model.source.revision,
            "bytes": model.bytes(),
            "files": len(model.selected()),
            "license": model.licence,
            "note": model.note or None,
        }
        for model in load_pins().models.values()
    ]
