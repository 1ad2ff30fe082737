"""JSON Schemas for editors: their texts, and the files beside pipeline.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import write_bytes
from dna_pipeline.config.json_schema.pipeline_file import pipeline_schema
from dna_pipeline.config.json_schema.sidecar_file import sidecar_schema
from dna_pipeline.config.loader import load_config

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Pipeline

FOLDER = "schemas"
"""Folder beside pipeline.yaml. The first lines of files name it by a relative path, which holds
wherever the whole folder is moved, without a network."""
Kind = Literal["pipeline", "sidecar"]
KINDS: tuple[Kind, ...] = ("pipeline", "sidecar")


def path_beside(config_file: Path, kind: Kind) -> Path:
    """Path of that schema for a studio with that pipeline.yaml."""
    return config_file.parent / FOLDER / f"{kind}.schema.json"


def schema_text(kind: Kind, pipelines: Mapping[str, Pipeline] | None = None) -> str:
    """The schema as JSON in draft 7, which is what editors read.

    Args:
        pipelines: those of pipeline.yaml, whose stages' ids are keys of its sidecars.
    """
    schema = pipeline_schema() if kind == "pipeline" else sidecar_schema(pipelines)
    return json.dumps(schema, indent=2) + "\n"


def pipelines_of(config_file: Path) -> Mapping[str, Pipeline] | None:
    """The pipelines of a pipeline.yaml; None if there is none that can be read. An editor needs the
    schema above all while the file is wrong."""
    try:
        return load_config(config_file).pipelines
    except (ConfigError, OSError):
        return None


def write_schemas(config_file: Path, *, overwrite: bool) -> list[Path]:
    """Write both schemas beside pipeline.yaml.

    Args:
        overwrite: False to leave existing files as they are.

    Returns:
        The files that were written. Raises OSError.
    """
    pipelines = pipelines_of(config_file)
    paths: dict[Kind, Path] = {kind: path_beside(config_file, kind) for kind in KINDS}
    new: dict[Kind, Path] = {
        kind: path for kind, path in paths.items() if overwrite or not path.exists()
    }
    for kind, path in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, schema_text(kind, pipelines).encode())
    return list(new.values())
