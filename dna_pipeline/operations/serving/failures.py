"""Failed and cancelled jobs as people mend them: the text of their sidecar, a check, a retry."""

from __future__ import annotations

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.config.yaml12 import MAX_BYTES
from dna_pipeline.operations.retry import Retrier, RetryPlan
from dna_pipeline.operations.serving.submissions import Submissions
from dna_pipeline.publish.manifest import OF_IMAGE, OF_MASK


def sidecar_text(config: Config, submissions: Submissions, job_id: str) -> str:
    """The sidecar of a failed or cancelled job as it is in its failure folder; "" if it has none.

    Raises ConfigError if the job is in another state, or the ledger cannot be used.
    """
    return Retrier(config, submissions.ledger()).sidecar_text(job_id)


def check(config: Config, submissions: Submissions, job_id: str, text: str) -> RetryPlan:
    """Say what `retry` would do, and change nothing. Raises as that."""
    with submissions.prober() as prober:
        return Retrier(config, submissions.ledger()).check(job_id, prober, _bytes(text))


def retry(config: Config, submissions: Submissions, job_id: str, text: str) -> list[str]:
    """Queue a job again with that text as its sidecar; give the stages that need not run again.

    Raises:
        ConfigError: the job is in another state, the text is wrong (the sentence names the line),
            or the ledger cannot be used. Nothing was changed.
        OSError: a file cannot be read or written.
    """
    with submissions.prober() as prober:
        return Retrier(config, submissions.ledger()).retry(job_id, prober, _bytes(text)).stages


def file_to_replace(code: str) -> str:
    """The file that is to be replaced before a job that failed with this code is retried, since no
    YAML mends it: `image` or `mask`; "" for none."""
    return "image" if code in OF_IMAGE else "mask" if code in OF_MASK else ""


def _bytes(text: str) -> bytes:
    """The text as a file; browsers send each line's end as CR LF."""
    data = text.replace("\r\n", "\n").encode("utf-8", "replace")
    if len(data) > MAX_BYTES:
        raise ConfigError(f"the text is larger than {MAX_BYTES // 1024} KiB")
    return data
