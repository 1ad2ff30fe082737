"""The outbox's folder at a start: it is made, unless its disk may only not be mounted yet."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

import structlog

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.reachability import Look
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.inbox_folders import make_folder
from dna_pipeline.ledger import health
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.publish.outbox import Outbox

log = structlog.get_logger()


def make_outbox(config: Config, look: Look) -> None:
    """Make the outbox if it does not exist, and log it.

    It is not made a second time where the folder above is empty, as a mount point is: results would
    be hidden there once the disk is mounted. Elsewhere it was removed or moved on purpose; the new
    one then gets its mark, or nothing would be published to an outbox without earlier results.
    """
    outbox = Outbox(config.outbox, health.known_id(config.ledger_path) or "")
    if look(outbox.root).state != "missing" or not _has_published(config.ledger_path):
        make_folder(outbox.root, look)
        return
    above = next(folder for folder in outbox.root.parents if look(folder).is_there)
    if look(above).is_empty:
        why = f"{above} is empty, as when its disk is not mounted; mount it, or make {outbox.mark}"
        log.warning("folder.missing", path=str(outbox.root), why=why)
        return
    make_folder(outbox.root, look)
    with suppress(OSError):  # the outbox could not be made, which was said
        outbox.mark.mkdir(parents=True, exist_ok=True)


def _has_published(ledger: Path) -> bool:
    if not ledger.exists():
        return False
    with suppress(ConfigError), closing(Queries(ledger)) as queries:
        return queries.has_published_jobs()
    return False  # a ledger that cannot be read is refused when it is opened
