"""Listens on a port and serves the application there."""

from __future__ import annotations

import tempfile
from pathlib import Path

import uvicorn

from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.interfaces.web.site import Site


def run(config: Config, host: str, port: int, token_file: Path | None) -> None:
    """Serve until a signal ends it. Raises `ConfigError` if it cannot listen there."""
    uploads = config.data / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    # Uploads are spooled to files without a name, which are gone with the process. On the disk of
    # the data folder, since the system's folder may be kept in memory.
    tempfile.tempdir = str(uploads)
    app = make_app(Site(config))
    uvicorn.run(app, host=host, port=port, log_config=None, server_header=False)
