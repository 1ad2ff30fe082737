"""`dna-pipeline schema`: JSON Schemas, with which editors check files as they are written."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.cli.output import config_file, say

FIRST_LINE = "# yaml-language-server: $schema=schemas/pipeline.schema.json"


def schema(
    context: typer.Context,
    kind: Annotated[
        Literal["pipeline", "sidecar"] | None,
        typer.Argument(metavar="KIND", help="The one to print: pipeline or sidecar."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write both into schemas/ beside pipeline.yaml.")
    ] = False,
) -> None:
    """Print or write the JSON Schemas (draft 7) of pipeline.yaml and of sidecars, for editors.

    The schema of sidecars knows the names and the stages' ids of pipeline.yaml, so write it again
    after a change of these, and after an update of the program.
    """
    from dna_pipeline.operations import editor_schemas

    if write is (kind is not None):
        raise ConfigError("name one, pipeline or sidecar, to print it, or use --write for both")
    file = config_file(context)
    if kind is not None:
        print(editor_schemas.schema_text(kind, editor_schemas.pipelines_of(file)), end="")
        return
    try:
        paths = editor_schemas.write_schemas(file, overwrite=True)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    for path in paths:
        say(f"wrote {path}")
    say(f"The first line of pipeline.yaml names its own: {FIRST_LINE}")
