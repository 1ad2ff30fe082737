"""What all commands share: the configuration, the ledger, and how facts are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from dna_pipeline.base.clock import to_second
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.naming import visible
from dna_pipeline.base.terminal_text import shown, width

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.ledger.queries import Views
    from dna_pipeline.ledger.store import Ledger

T = TypeVar("T")

JsonOption = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]


HAS_UTF8_NAMES = sys.getfilesystemencoding() == "utf-8"
ONLY_ASCII_NAMES = (
    "this locale takes file names for plain ASCII, and results are named as their images are; "
    "set PYTHONUTF8=1, or a locale like C.UTF-8"
)


@dataclass(slots=True)
class Options:
    """What stands before the command's name."""

    config: Path | None = None


def load(context: typer.Context) -> Config:
    """The checked configuration. Raises `ConfigError`."""
    from dna_pipeline.config.loader import load_config
    from dna_pipeline.config.schema import find_config

    options: Options = context.obj
    return load_config(find_config(options.config))


def load_to_write(context: typer.Context) -> Config:
    """The checked configuration, for a command that may write the first file to the data folder.

    Raises:
        ConfigError: also where that folder holds other people's files and no ledger.
    """
    from dna_pipeline.base.reachability import brief_looks
    from dna_pipeline.operations.ownership import check_data_folder

    config = load(context)
    with brief_looks() as look:
        check_data_folder(config, look)
    return config


def open_ledger(config: Config) -> Ledger:
    """The ledger, to write to; made where there is none yet. Raises `ConfigError`."""
    from dna_pipeline.ledger.store import Ledger
    from dna_pipeline.operations.ownership import make_mark

    ledger = Ledger(config.ledger_path)
    make_mark(config, ledger)
    return ledger


def require_utf8_names() -> None:
    """Raises `ConfigError` where a file could not get every name."""
    if not HAS_UTF8_NAMES:
        raise ConfigError(ONLY_ASCII_NAMES)


def open_views(config: Config) -> Views:
    """The ledger, to look at. Raises `ConfigError` where there is none yet."""
    from dna_pipeline.ledger import health
    from dna_pipeline.ledger.queries import Views

    health.check_present(config.ledger_path)
    if not config.ledger_path.exists():
        raise ConfigError(
            f"{config.ledger_path}: there is no ledger yet; `dna-pipeline watch`, `run` or "
            "`submit` makes one"
        )
    health.check_header(config.ledger_path)
    return Views(config.ledger_path)


def find_job(views: Views, prefix: str) -> str:
    """The one job whose id begins so. Raises `ConfigError`."""
    from dna_pipeline.ledger.queries import AmbiguousPrefixError

    try:
        job_id = views.find(prefix)
    except AmbiguousPrefixError as error:
        raise ConfigError(str(error)) from None
    if job_id is None:
        raise ConfigError(f"no job's id begins with {prefix!r}; `dna-pipeline jobs` lists them")
    return job_id


def find_batch(views: Views, prefix: str | None) -> str | None:
    """The one batch whose id begins so, or whose folder is called so. Raises `ConfigError`."""
    from dna_pipeline.ledger.queries import AmbiguousPrefixError

    try:
        return None if prefix is None else views.find_batch(prefix)
    except AmbiguousPrefixError as error:
        raise ConfigError(str(error)) from None


def sentence(error: Exception) -> str | None:
    """What to say of an error that is the surroundings' and not the program's; None of others."""
    from dna_pipeline.ledger.engine import LedgerUnavailable
    from dna_pipeline.ledger.health import is_damage

    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, UnicodeEncodeError) and not HAS_UTF8_NAMES:
        return ONLY_ASCII_NAMES
    if is_damage(error):
        why = getattr(error, "orig", error)
        return f"ledger.db is damaged ({why}); `dna-pipeline repair` rebuilds it"
    if isinstance(error, LedgerUnavailable):
        return f"ledger.db cannot be used now ({error.orig})"
    return None


def do_each(items: Iterable[str], action: Callable[[str], T]) -> tuple[list[T], list[str]]:
    """What came of each, and what is to be said of those for which it could not be done."""
    done: list[T] = []
    problems: list[str] = []
    for item in items:
        try:
            done.append(action(item))
        except ConfigError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{item}: {sentence(error) or error}")
    return done, problems


def print_json(facts: Any) -> None:
    """Facts on standard output, times as RFC 3339."""
    print(json.dumps(facts, indent=2, default=_plain))


def print_json_line(facts: Any) -> None:
    print(json.dumps(facts, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value)


def say(text: str) -> None:
    """A remark for people, on standard error; it may quote what strangers wrote."""
    print("\n".join(map(visible, text.split("\n"))), file=sys.stderr)


def clean(value: Any) -> str:
    """Text that cannot steer a terminal: control characters become visible."""
    return visible("" if value is None else str(value))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Left-aligned columns; the last one is as wide as it likes."""
    cells = [list(header), *([shown(clean(value)) for value in row] for row in rows)]
    widths = [max(width(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        padded = (v + " " * (wide - width(v)) for v, wide in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip())


def jobs_text(number: int) -> str:
    """`1 job`, `5,000 jobs`."""
    return "1 job" if number == 1 else f"{number:,} jobs"


NO_HISTORY = "no history yet"
"""Said where nothing like it was done before."""


def about(seconds: float) -> str:
    """A time as a person would guess it, like `about 3 h 20 min`."""
    if seconds < 90:
        return f"about {max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"about {minutes} min"
    # Nobody can tell the minute of a day.
    rest = 0 if hours >= 24 else rest
    return f"about {hours:,} h {rest} min" if rest else f"about {hours:,} h"


def local_time(value: datetime | None) -> str:
    """A time as a person reads it, in the local zone."""
    return "" if value is None else to_second(value)
