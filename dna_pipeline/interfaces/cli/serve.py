"""`dna-pipeline serve`: the HTTP server on the ledger."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.cli.output import load_to_write, say
from dna_pipeline.operations.lookup import require_utf8_names

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.interfaces.web.server import Server

PACKAGES = ("fastapi", "uvicorn", "starlette", "python_multipart", "h11")
"""Modules of the packages that the extra `web` brings."""

NOT_INSTALLED = (
    "the packages of the server are not installed; install dna-pipeline with its extra web: "
    '`pip install ".[web]" -c constraints.txt` in its folder'
)

HostOption = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="To listen on.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")]
TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Whose first line clients must send; else $DNA_SERVE_TOKEN.",
    ),
]


def serve(
    context: typer.Context,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    token_file: TokenOption = None,
) -> None:
    """Serve the HTTP API on the ledger, until SIGTERM or Ctrl-C. Needs no daemon to show."""
    from dna_pipeline.base.logs import configure, server_log_file, show_on_console

    require_utf8_names()
    config = load_to_write(context)
    require_packages()
    from dna_pipeline.interfaces.web.server import Options, Server

    configure(config.logs, console=False, file=server_log_file(config.logs))
    show_on_console(least=logging.ERROR)
    server = Server(config, Options(host, port, token_file))
    server.run(lambda: _say_where(config, server))


def require_packages() -> None:
    """Raise `ConfigError` if packages that the server needs are not installed."""
    if any(find_spec(name) is None for name in PACKAGES):
        raise ConfigError(NOT_INSTALLED)


def _say_where(config: Config, server: Server) -> None:
    """Say where the server is, and whether anyone works on what it is sent."""
    from dna_pipeline.operations.daemon.lock import is_held

    for warning in server.warnings:
        say(f"dna-pipeline: {warning}")
    no_daemon = "no daemon runs, so jobs wait; `dna-pipeline watch` starts one"
    say(
        f"dna-pipeline serves on {server.url}; "
        f"{'Ctrl-C ends it' if is_held(config.data) else no_daemon}"
    )
