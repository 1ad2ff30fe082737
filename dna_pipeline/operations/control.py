"""Cancel, pause and resume: requests to the daemon, written to the ledger.

Only `resume` imports the scheduler, which doubles the time that a command takes to start.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger import batches, pauses, requests
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.lookup import find_batch, find_job, open_ledger, open_queries


def cancel(config: Config, jobs: Iterable[str], batch: str | None) -> dict[str, str | None]:
    """Cancel the jobs whose ids begin with one of `jobs`, or all jobs of a batch.

    A queued job ends at once, a running one at its next step; if its daemon was killed, when the
    next one starts. Jobs of the batch that have ended stay as they are.

    Returns:
        The status of each job before, by id.

    Raises:
        ConfigError: a job or batch does not exist, or both or neither are named.
    """
    prefixes = list(jobs)
    with closing(open_queries(config)) as queries:
        if bool(prefixes) == (batch is not None):
            raise ConfigError("name jobs, or one batch with --batch")
        ids = dict.fromkeys(find_job(queries, prefix) for prefix in prefixes)
        batch_id = find_batch(queries, batch)
    with closing(Ledger(config.ledger_path, unlocked=True)) as ledger:
        if batch_id is not None:
            return ledger.transact(lambda s: batches.cancel(s, batch_id))
        return {i: ledger.transact(lambda s, i=i: requests.request_cancel(s, i)) for i in ids}


def cancel_of_running(config: Config) -> str:
    """Say when a request to cancel a running job takes effect."""
    from dna_pipeline.operations.daemon.lock import is_held

    if is_held(config.data):
        return "ends at its next step"
    return "was running when the daemon ended; it is cancelled when the next one starts"


def pause(config: Config, batch: str | None) -> str | None:
    """Hold the whole queue, or one batch, until it is resumed; the running job goes on.

    Returns:
        The text of the hold on the batch's jobs; None for the whole queue.
    """
    batch_id = _find_batch(config, batch)
    if batch_id is None:
        pause = pauses.Pause("status", "queued", format_time(utcnow()))
    else:
        why = f"batch {batch_id[:8]} is paused; `dna-pipeline resume --batch {batch_id[:8]}`"
        pause = pauses.Pause("batch", batch_id, why)
    with closing(open_ledger(config)) as ledger:
        ledger.transact(lambda s: pauses.begin(s, pause))
    return None if batch_id is None else pause.why


def resume(config: Config, batch: str | None) -> None:
    """Resume the queue, and pipelines and batches that failures paused; or one batch alone.

    Jobs of inboxes outside their hours are held for these again.
    """
    from dna_pipeline.execution.scheduler import hold_outside_hours

    batch_id = _find_batch(config, batch)

    def free(session: Transaction) -> None:
        pauses.resume(session, batch_id)
        hold_outside_hours(session, config)

    with closing(open_ledger(config)) as ledger:
        ledger.transact(free)


def _find_batch(config: Config, prefix: str | None) -> str | None:
    """Find the batch that `prefix` names; None, without opening the ledger, if it names none."""
    if prefix is None:
        return None
    with closing(open_queries(config)) as queries:
        return find_batch(queries, prefix)
