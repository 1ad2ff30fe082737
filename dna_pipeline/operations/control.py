"""Cancel, pause and resume: requests to the daemon, written to the ledger.

Only `resume` imports the scheduler, which doubles the time that a command takes to start.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import batches, pauses, requests, store
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.lookup import find_batch, find_job, open_ledger, open_queries


def cancel(config: Config, jobs: Iterable[str], batch: str | None) -> dict[str, str | None]:
    """Cancel the jobs whose ids begin so, or all of a batch.

    Queued jobs end at once, a running one at its next step; of a batch, only these are changed.

    Returns:
        The status of each job before, by id.

    Raises:
        ConfigError: a job or batch does not exist, or both or neither are named.
    """
    prefixes = list(jobs)
    with closing(open_queries(config)) as views:
        if bool(prefixes) == (batch is not None):
            raise ConfigError("name jobs, or one batch with --batch")
        ids = dict.fromkeys(find_job(views, prefix) for prefix in prefixes)
        batch_id = find_batch(views, batch)
    with closing(Ledger(config.ledger_path)) as ledger:
        if batch_id is not None:
            return ledger.transact(lambda s: batches.cancel(s, batch_id))
        return {i: ledger.transact(lambda s, i=i: requests.request_cancel(s, i)) for i in ids}


def pause(config: Config, batch: str | None) -> str | None:
    """Hold the whole queue, or one batch, until it is resumed; the running job goes on.

    Returns:
        Why the jobs of the batch wait, as the ledger has it; None for the whole queue.
    """
    batch_id = _find_batch(config, batch)
    since = format_time(utcnow())
    with closing(open_ledger(config)) as ledger:
        if batch_id is None:
            ledger.transact(lambda s: store.set_setting(s, "paused", since))
            return None
        detail = f"batch {batch_id[:8]} is paused; `dna-pipeline resume --batch {batch_id[:8]}`"
        ledger.transact(lambda s: batches.pause(s, batch_id, detail))
        return detail


def resume(config: Config, batch: str | None) -> None:
    """Free the queue, and the pipelines and batches paused for their failures; or one batch.

    Jobs of inboxes outside their hours are held for these again.
    """
    from dna_pipeline.execution.scheduler import hold_outside_hours

    batch_id = _find_batch(config, batch)

    def free(session: Transaction) -> None:
        if batch_id is None:
            pauses.resume(session)
        else:
            batches.resume(session, batch_id)
        hold_outside_hours(session, config)

    with closing(open_ledger(config)) as ledger:
        ledger.transact(free)


def _find_batch(config: Config, prefix: str | None) -> str | None:
    """The one batch whose id begins so; the ledger is not opened where none is named."""
    if prefix is None:
        return None
    with closing(open_queries(config)) as views:
        return find_batch(views, prefix)
