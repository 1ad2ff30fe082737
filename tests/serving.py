"""A small pipeline.yaml, events in a ledger, and another ledger in its place."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import store
from dna_pipeline.ledger.store import Ledger
from tests.ledgers import lay_out

PIPELINE_YAML = """
version: 1
models: {key: {provider: border_key}}
pipelines: {cut: [{remove_background: {model: key}}]}
inboxes: [{path: in, pipeline: cut}]
"""


def add_events(ledger: Ledger, *jobs: str, kind: str = "progress") -> None:
    """Record an event of each of these jobs, in one commit."""

    def add(session: store.Session) -> None:
        for job in jobs:
            store.add_event(session, job, kind)

    ledger.transact(add)


def replace_ledger(config: Config, *jobs: str) -> None:
    """Put another ledger, with an event of each of these jobs, in the place of the one there."""
    config.data.mkdir(exist_ok=True)
    other = config.data / "other.db"
    lay_out(other)
    with closing(Ledger(other)) as ledger:
        add_events(ledger, *jobs)
    for ending in ("-wal", "-shm"):
        Path(f"{config.ledger_path}{ending}").unlink(missing_ok=True)
    other.replace(config.ledger_path)
