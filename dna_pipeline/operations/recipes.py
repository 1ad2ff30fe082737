"""Recipes of files: how a result was made, read from the file itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import read_json, sha256_file
from dna_pipeline.config.image_metadata import MetadataError
from dna_pipeline.config.recipe import a1111_stages, as_sidecar


def sidecar_of_file(path: Path) -> str:
    """The sidecar that asks for what a file was made with, wherever the file lies.

    It is read from the metadata in the file. A file without any may lie beside the manifest that
    has its hash.

    Raises:
        ConfigError: there is no such file, or nothing in it says how it was made.
    """
    from dna_pipeline.media.marks.reading import read_recipe

    if not path.is_file():
        raise ConfigError(
            f"{path}: there is no such file; a job is named by its id, which "
            "`dna-pipeline jobs` lists"
        )
    made = read_recipe(path)
    if made.recipe is not None:
        return _of_recipe(made.recipe)
    if (manifest := _manifest_with(path)) is not None:
        return _of_manifest(manifest)
    if made.parameters:
        try:
            return as_sidecar(a1111_stages(made.parameters))
        except MetadataError:
            pass  # a text of another program, which names no prompt
    raise ConfigError(
        f"{path}: nothing in this file says how it was made. Results have their recipe in them "
        "with `metadata: full`, unless a program that saved them since has left it out; the "
        "manifest.json in the result's folder always has it"
    )


def _of_recipe(recipe: Mapping[str, Any]) -> str:
    remarks = [f"made by dna-pipeline {recipe.get('version', '')}".rstrip()]
    source: Any = recipe.get("input")
    if isinstance(source, dict):
        sha256 = cast("dict[str, Any]", source).get("sha256")
        remarks += [f"from an image with the SHA-256 {sha256}"] if sha256 else []
    return as_sidecar(recipe["stages"], remarks=list(map(str, remarks)))


def _of_manifest(manifest: Mapping[str, Any]) -> str:
    job: dict[str, Any] = manifest["job"]
    head = {key: job.get(key) for key in ("pipeline", "tags", "meta")}
    return as_sidecar(manifest["stages"], head=head)


def _manifest_with(path: Path) -> dict[str, Any] | None:
    """The manifest beside the file, if it has the file's hash."""
    manifest = read_json(path.parent / "manifest.json")
    try:
        files: list[dict[str, Any]] = [] if manifest is None else manifest["artifacts"]
        recorded = {file["path"]: file["sha256"] for file in files}
        is_own = recorded.get(path.name) == sha256_file(path)
    except (KeyError, TypeError, AttributeError):
        return None
    return manifest if is_own else None
