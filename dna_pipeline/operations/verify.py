"""Comparison of results with their manifests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import sha256_file
from dna_pipeline.operations.repair.results import find_results
from dna_pipeline.publish.manifest import NAME, Manifest


def verify(roots: Iterable[Path]) -> list[dict[str, Any]]:
    """Hash all results at or below the roots and compare: `folder`, number of `files`, `problems`.

    Raises:
        ConfigError: a root does not exist; no result was hashed.
    """
    places = list(roots)
    for root in places:
        if not root.exists():
            raise ConfigError(f"{root}: there is no such file or folder")
    return [_compare_result(path) for root in places for path in _manifests(root)]


def _manifests(root: Path) -> list[Path]:
    """List the manifests at or below `root`, except those in hidden folders."""
    if root.is_file():
        return [root]
    return [path for path in find_results(root) if path.name == NAME]


def _compare_result(path: Path) -> dict[str, Any]:
    """Compare the files of one result with its manifest at `path`."""
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        text = str(error).splitlines()[0]
        return {"folder": str(path.parent), "files": 0, "problems": [f"{path.name}: {text}"]}
    folder = path.parent
    problems = [
        problem
        for artifact in manifest.artifacts
        if (problem := _compare_file(_file(folder, artifact.path), artifact.sha256)) is not None
    ]
    return {"folder": str(folder), "files": len(manifest.artifacts), "problems": problems}


def _file(folder: Path, name: str) -> Path:
    """Path of a file by its name in a manifest, also if the locale takes names for plain ASCII."""
    return folder / os.fsdecode(name.encode("utf-8", "surrogatepass"))


def _compare_file(path: Path, sha256: str) -> str | None:
    try:
        same = sha256_file(path) == sha256
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    return None if same else f"{path.name}: is not what the manifest says"
