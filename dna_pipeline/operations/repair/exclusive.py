"""The two repairs, each with the data folder to itself: no daemon may work on it meanwhile."""

from __future__ import annotations

from contextlib import closing

from dna_pipeline.config.schema import Config
from dna_pipeline.operations.daemon.lock import hold_lock
from dna_pipeline.operations.lookup import open_ledger
from dna_pipeline.operations.repair.rebuild import Report, rebuild
from dna_pipeline.operations.repair.takeover import ForeignClaims, take_over


def rebuild_ledger(config: Config) -> Report:
    """Rebuild the ledger if it is damaged or gone. Raises `Locked`, as `take_over_claims` does."""
    with hold_lock(config.data):
        return rebuild(config)


def take_over_claims(config: Config) -> list[ForeignClaims]:
    """Take over the claims of dead daemons; an entry for each daemon and inbox."""
    with hold_lock(config.data), closing(open_ledger(config)) as ledger:
        return take_over(config, ledger)
