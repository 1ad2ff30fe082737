"""Places of results that people want to look at."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.layout import batch_folder
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.lookup import open_queries
from dna_pipeline.operations.serving import addresses
from dna_pipeline.operations.sheet import page_of

LATEST = "latest"


def find_page(config: Config, target: str) -> str | None:
    """Find the address of a job's page; None if no server runs, or the target names no job.

    Args:
        target: a job, by the beginning of its id or the name of its folder; `latest`: the newest
            result.

    Raises:
        ConfigError: there is no ledger, or several jobs have such ids.
    """
    if (server := addresses.newest(config.data)) is None:
        return None
    with closing(open_queries(config)) as queries:
        if target == LATEST:
            recent = queries.recent(1)
            return server.result(recent[0]["id"]) if recent else None
        job_id = queries.find(target)
    return None if job_id is None else server.result(job_id)


def find_place(config: Config, target: str) -> Path:
    """Find the folder of a result, or the page of a batch's contact sheet if there is one.

    Args:
        target: a job or a batch, by the beginning of its id or the name of its folder; `latest`:
            the newest result.

    Raises:
        ConfigError: there is none, or it has no folder in the outbox.
    """
    with closing(open_queries(config)) as queries:
        if target == LATEST:
            recent = queries.recent(1)
            if not recent:
                raise ConfigError("there is no result yet; `dna-pipeline jobs` lists the jobs")
            name, what = recent[0]["publish_name"], f"job {recent[0]['id'][:8]}"
        elif (job_id := queries.find(target)) is not None:
            job = queries.job(job_id)
            what = f"job {job_id[:8]}"
            if job["publish"] != "done":
                raise ConfigError(f"{what} is {job['status']} and has no folder yet")
            name = job["publish_name"]
        else:
            try:
                batch = queries.batch(queries.find_batch(target))
            except ConfigError:
                raise ConfigError(
                    f"no job or batch has an id that begins with {target!r}; `dna-pipeline jobs` "
                    "lists the jobs"
                ) from None
            name = batch_folder(batch["inbox"], batch["folder"], batch["stem"], batch["id"])
            what = f"batch {batch['id'][:8]}"
    folder = config.outbox / name
    if not folder.is_dir():
        raise ConfigError(f"{folder}: the folder of {what} is not there any more")
    return page_of(folder) or folder
