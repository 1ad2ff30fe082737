"""How far this API's request is, and how a program stops it.

Only jobs that came by this API count. Those of folders, of commands and of other APIs are neither
shown nor cancelled here, since a program of this API takes the server for its own.
"""

from __future__ import annotations

from dna_pipeline.base.times import utcnow
from dna_pipeline.interfaces.web.sdapi.answers import ProgressAnswer, StateAnswer
from dna_pipeline.interfaces.web.sdapi.generation import ORIGIN
from dna_pipeline.interfaces.web.sdapi.info import timestamp
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving.request_jobs import (
    RequestJob,
    cancel,
    current_request,
    open_jobs,
)

NOTHING = ProgressAnswer(
    progress=0.0,
    eta_relative=0.0,
    state=StateAnswer.model_validate({}),
    current_image=None,
    textinfo=None,
)
LEAST_PROGRESS = 0.01
"""Progress of a request before its first step, so that nobody takes it for none."""


def progress_of(site: Site) -> ProgressAnswer:
    """The progress of the request that runs, or else of the one that is next."""
    jobs = current_request(_open(site))
    return _of_request(jobs) if jobs else NOTHING


def interrupt(site: Site) -> list[str]:
    """Cancel the request that runs, or else the one that is next; gives the jobs that it had
    still to compute."""
    jobs = current_request(_open(site))
    return cancel(site.submissions, [job.id for job in jobs if not job.is_computed])


def skip(site: Site) -> list[str]:
    """Cancel the picture that is at work; the request goes on with its next one.

    Of several that run, it is the first: a worker is given the next ones in advance.
    """
    jobs = current_request(_open(site))
    at_work = [job.id for job in jobs if job.is_running and not job.is_computed]
    return cancel(site.submissions, at_work[:1])


def _open(site: Site) -> list[RequestJob]:
    return open_jobs(site.readers, ORIGIN) if site.config.ledger_path.exists() else []


def _of_request(jobs: list[RequestJob]) -> ProgressAnswer:
    """The progress of a request by its open jobs, of which the first one runs or is next, unless
    all are computed."""
    first = jobs[0]
    done = (first.number + first.fraction) / first.count
    progress = min(max(done, LEAST_PROGRESS), 1.0)
    state = StateAnswer(
        job="scripts_img2img",
        job_count=first.count,
        job_timestamp=timestamp(first.created_at),
        job_no=first.number,
        sampling_step=first.step,
        sampling_steps=first.steps,
    )
    return ProgressAnswer(
        progress=progress,
        eta_relative=_seconds_left(first),
        state=state,
        current_image=None,
        textinfo=None if first.is_running else "Waiting for its turn",
    )


def _seconds_left(job: RequestJob) -> float:
    """Seconds until the request ends, if each of its pictures takes as long as this one."""
    if job.started_at is None or job.fraction <= 0:
        return 0.0
    elapsed_s = max((utcnow() - job.started_at).total_seconds(), 0.0)
    of_one_s = elapsed_s / job.fraction
    return round(of_one_s * (job.count - job.number) - elapsed_s, 1)
