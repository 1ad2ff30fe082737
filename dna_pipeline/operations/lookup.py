"""Open the ledger, find jobs and batches by what people type, and put errors into sentences.

Modules of the ledger are imported inside the functions, so that a command that only prints its help
starts at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dna_pipeline.base.errors import ConfigError

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.ledger.queries import Queries
    from dna_pipeline.ledger.store import Ledger

HAS_UTF8_NAMES = sys.getfilesystemencoding() == "utf-8"
ONLY_ASCII_NAMES = (
    "this locale takes file names for plain ASCII, and results are named as their images are; "
    "set PYTHONUTF8=1, or a locale like C.UTF-8"
)


def open_ledger(config: Config) -> Ledger:
    """Open the ledger for writing, beside a daemon; create it if there is none yet. Raises
    `ConfigError`."""
    from dna_pipeline.ledger.store import Ledger
    from dna_pipeline.operations.ownership import make_mark

    ledger = Ledger(config.ledger_path, unlocked=True)
    make_mark(config, ledger)
    return ledger


def require_utf8_names() -> None:
    """Raise `ConfigError` if the locale cannot write every file name."""
    if not HAS_UTF8_NAMES:
        raise ConfigError(ONLY_ASCII_NAMES)


def open_queries(config: Config) -> Queries:
    """Open the ledger for reading. Raises `ConfigError` if there is none yet."""
    from dna_pipeline.ledger.queries import Queries

    require_ledger(config)
    return Queries(config.ledger_path)


def require_ledger(config: Config) -> None:
    """Raise `ConfigError` if there is no ledger yet, or none that can be read."""
    from dna_pipeline.ledger import health

    health.check_present(config.ledger_path)
    if not config.ledger_path.exists():
        raise ConfigError(
            f"{config.ledger_path}: there is no ledger yet; `dna-pipeline watch`, `run` or "
            "`submit` makes one"
        )
    health.check_header(config.ledger_path)


def find_job(queries: Queries, prefix: str) -> str:
    """Give the id of the one job whose id begins with `prefix`. Raises `ConfigError`."""
    if (job_id := queries.find(prefix)) is None:
        raise ConfigError(f"no job's id begins with {prefix!r}; `dna-pipeline jobs` lists them")
    return job_id


def find_batch(queries: Queries, prefix: str | None) -> str | None:
    """Give the id of the one batch whose id begins with `prefix`, or whose folder has that name.

    Raises `ConfigError`.
    """
    return None if prefix is None else queries.find_batch(prefix)


def sentence(error: Exception) -> str | None:
    """Put an error with a cause outside the program into a sentence; None for other errors."""
    if isinstance(error, ConfigError):
        return str(error)

    from dna_pipeline.ledger.engine import LedgerUnavailable
    from dna_pipeline.ledger.health import is_damage

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


def explain(item: str, error: ConfigError | OSError) -> str:
    """Put the error of one of several items that people named into a sentence."""
    return str(error) if isinstance(error, ConfigError) else f"{item}: {sentence(error) or error}"
