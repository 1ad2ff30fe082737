"""Shared by all commands: loading the configuration, and printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dna_pipeline.base.clock import to_second
from dna_pipeline.base.naming import visible
from dna_pipeline.base.terminal_text import shown, width
from dna_pipeline.base.times import format_time

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config

JsonOption = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]


def load(context: typer.Context) -> Config:
    """Load and check the configuration. Raises `ConfigError`."""
    from dna_pipeline.operations import configuration

    return configuration.load(config_file(context))


def load_to_write(context: typer.Context) -> Config:
    """Load the configuration for a command that may write the first file to the data folder.

    Raises:
        ConfigError: the configuration is wrong, or the data folder holds other people's files and
            no ledger.
    """
    from dna_pipeline.operations import configuration

    return configuration.load_to_write(config_file(context))


def config_file(context: typer.Context) -> Path:
    """Find pipeline.yaml; `context.obj` is the value of the option `--config`."""
    from dna_pipeline.config.schema import find_config

    return find_config(context.obj)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output, times as RFC 3339."""
    print(json.dumps(value, indent=2, default=_plain))


def print_json_line(value: Any) -> None:
    print(json.dumps(value, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    return str(value)


def say(text: str) -> None:
    """Print a remark for people on standard error. Control characters become visible, since the
    remark may quote text of strangers. Without a standard error (`2>&-`) nothing is printed, since
    `print` would take standard output in its place."""
    if sys.stderr is None:  # type: ignore[reportUnnecessaryComparison]
        return
    print("\n".join(map(visible, text.split("\n"))), file=sys.stderr)


def clean(value: Any) -> str:
    """Make control characters visible, so that the text cannot control a terminal."""
    return visible("" if value is None else str(value))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print left-aligned columns below their names."""
    print("\n".join(aligned([header, *rows])))


def aligned(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of left-aligned columns; the last one has no padding."""
    cells = [[shown(clean(value)) for value in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    padded = (
        [text + " " * (wide - width(text)) for text, wide in zip(row, widths, strict=True)]
        for row in cells
    )
    return ["  ".join(row).rstrip() for row in padded]


def local_time(value: datetime | None) -> str:
    """Write a time for people, in the local zone."""
    return "" if value is None else to_second(value)
