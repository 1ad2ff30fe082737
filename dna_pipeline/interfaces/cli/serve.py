"""`dna-pipeline serve`: the HTTP server on the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.cli.output import load_to_write
from dna_pipeline.operations.lookup import require_utf8_names

NOT_INSTALLED = (
    "the packages of the server are missing; `pip install 'dna-pipeline[web]'` installs them"
)


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="To listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Whose first line clients must send; else $DNA_SERVE_TOKEN."
        ),
    ] = None,
) -> None:
    """Serve the HTTP API on the ledger, until SIGTERM or Ctrl-C. Needs no daemon to show."""
    require_utf8_names()
    config = load_to_write(context)
    try:
        from dna_pipeline.interfaces.web.server import run
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette", "python_multipart"):
            raise
        raise ConfigError(NOT_INSTALLED) from None
    run(config, host, port, token_file)
