"""Logging: readable lines on standard error, JSON lines in a rotating file.

Events are `noun.verb` in the past; facts are fields. A child process writes JSON lines to its
standard error, which its parent writes to its own log (`relay`).
"""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import structlog

from dna_pipeline.base.naming import visible
from dna_pipeline.base.terminal_text import escape_unencodable

LOG_BYTES = 10 << 20
LOG_FILES = 5

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def log_file(logs: Path) -> Path:
    """Path of the log: `$DNA_DEBUG_LOG_PATH`, else a file in `logs`."""
    override = os.environ.get("DNA_DEBUG_LOG_PATH")
    return Path(override).absolute() if override else logs / "dna-pipeline.log"


def server_log_file(logs: Path) -> Path:
    """Path of the server's log, beside that of the daemon: two processes cannot share a file."""
    return log_file(logs).with_name("serve.log")


def configure(
    logs: Path, *, quiet: bool = False, console: bool = True, file: Path | None = None
) -> None:
    """Set up the log of the daemon or the server.

    Args:
        quiet: keep all but warnings from standard error.
        console: False to keep everything from standard error, where something else is shown.
        file: the log's file; None for the daemon's.
    """
    path = file or log_file(logs)
    path.parent.mkdir(parents=True, exist_ok=True)
    rotating = logging.handlers.RotatingFileHandler(
        path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
    )
    rotating.setFormatter(_as_json())
    root = logging.getLogger()
    root.handlers = [rotating]
    root.setLevel(logging.INFO)
    if console:
        show_on_console(quiet=quiet)
    # Clients of HTTP log each address, and that of a webhook may be a secret.
    for name in ("alembic", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _as_json() -> logging.Formatter:
    return _formatter(
        structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)
    )


def pass_errors_on() -> None:
    """Write errors to standard error as well, for the parent to relay."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.ERROR)
    handler.setFormatter(_as_json())
    logging.getLogger().addHandler(handler)


def show_on_console(*, quiet: bool = False, least: int | None = None) -> None:
    """Show the log of this process on standard error, too, from now on.

    Args:
        least: level from which it is shown; None: `INFO`, or `WARNING` if `quiet`.
    """
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(least or (logging.WARNING if quiet else logging.INFO))
    readable = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        # File names come from strangers and could steer the terminal, so they are quoted.
        repr_native_str=True,
        exception_formatter=_traceback,
    )
    console.setFormatter(_formatter(readable))
    logging.getLogger().addHandler(console)


def _traceback(out: TextIO, failure: Any) -> None:
    """Write a plain traceback. Errors quote names and texts of files, so these are made visible."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, failure)
    out.write("\n".join(map(visible, plain.getvalue().split("\n"))))


def _formatter(*processors: Any) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *processors],
    )


def configure_child() -> None:
    """Set up a child's log: JSON lines on standard error, for the parent to relay."""
    escape_unencodable()  # otherwise a library that prints such text could end a stage
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def silence() -> None:
    """Drop all logs of this process, and what it relays: for a command that reports in its own
    words, whose output programs read."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


def relay(line: str) -> None:
    """Write a line from a child's standard error to this process's log."""
    logger = structlog.get_logger("worker")
    try:
        fields: dict[str, Any] = json.loads(line)
        level = logging.getLevelNamesMapping().get(str(fields.pop("level", "")).upper(), 20)
        event = str(fields.pop("event"))
        if not all(map(str.isprintable, (event, *fields))):
            raise ValueError("none of our lines")
        logger.log(level, event, **fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Libraries print any text, so other lines go to the log file and not to the terminal.
        logger.debug("worker.printed", text=line)


def note_failure(event: str) -> None:
    """Log the error that is being handled, with its traceback."""
    structlog.get_logger().exception(event)


class PrintsToLog(io.TextIOBase):
    """A stream whose lines go to the log. Libraries print warnings at any time, and an error of a
    thread is printed too."""

    def __init__(self) -> None:
        self._rest = ""
        self._is_writing = False

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if self._is_writing:  # the log itself printed an error: it would go round in a circle
            return len(text)
        self._is_writing = True
        try:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in filter(str.strip, lines):
                structlog.get_logger().warning("process.printed", text=line)
        finally:
            self._is_writing = False
        return len(text)
