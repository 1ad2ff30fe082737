"""Shapes of the answers of `/api/v1`. Times are RFC 3339 in UTC, addresses are paths on this
server."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Status = Literal["queued", "running", "completed", "failed", "cancelled"]
Count = Annotated[int, Field(ge=0)]


class Problem(BaseModel):
    """The reason why a request or a job failed."""

    code: str = Field(description="stable name of the cause, for programs")
    message: str = Field(description="a sentence that says what to do")
    detail: str = Field(default="", description="the facts of this case")
    hint: str = Field(default="", description="a further way to correct this case")


class Hold(BaseModel):
    """A reason why a queued job waits for more than its turn."""

    code: str
    detail: str


class QueueHold(Hold):
    """A reason why jobs wait, and how many."""

    jobs: int | None = Field(description="number of jobs; null: the whole queue")


class Failure(Problem):
    """The reason why a job failed."""

    retryable: bool = Field(default=False, description="the same job may succeed unchanged")


class Progress(BaseModel):
    """How far a running job is."""

    stage: str | None = None
    step: int | None = None
    steps: int | None = None
    fraction: float = Field(description="finished part of the whole job, from 0 to 1")


class Job(BaseModel):
    """One run of one pipeline on one image."""

    id: str
    url: str
    batch: str | None
    inbox: str
    folder: str = Field(description="subfolder of the inbox that the image came from")
    name: str = Field(description="name of the image")
    pipeline: str
    priority: int
    status: Status
    is_published: bool = Field(description="its files are in the outbox")
    hold: Hold | None = None
    attempt: Count
    progress: Progress | None = Field(default=None, description="of a running job")
    error: Failure | None = None
    warnings: Count = Field(default=0, description="number of warnings of its stages")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Jobs(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[Job]
    next: int | None = Field(description="`before` of the next page; null: this is the last one")


class File(BaseModel):
    """A file of a job's folder."""

    path: str
    role: str
    stage: str | None = Field(description="the stage that made it; null: none did")
    media_type: str
    bytes: int | None = Field(description="null: the ledger does not know it")
    sha256: str | None = Field(description="null: the ledger does not know it")
    url: str
    facts: dict[str, Any] = Field(description="what the stage tells of it, like faces of a mesh")


class Stage(BaseModel):
    """A stage of a job, with every parameter resolved."""

    id: str
    type: str
    params: dict[str, Any]
    is_done: bool
    provider: str | None = None
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    seconds: float | None = None
    warnings: list[str] = []


class Input(BaseModel):
    """The image of a job as it was dropped; width and height in pixels."""

    name: str
    sha256: str | None
    bytes: int | None
    width: int | None
    height: int | None


class JobDetail(Job):
    """All about one job."""

    tags: list[str]
    meta: dict[str, Any]
    input: Input
    sidecar: str | None = Field(description="what was asked for, as it was written")
    stages: list[Stage]
    files: list[File]
    folder_name: str | None = Field(description="its folder below the outbox")


class BatchJobs(BaseModel):
    """Numbers of a batch's jobs by status."""

    queued: Count = 0
    running: Count = 0
    completed: Count = 0
    failed: Count = 0
    cancelled: Count = 0


class Batch(BaseModel):
    """The jobs of one drop that made several."""

    id: str
    url: str
    inbox: str
    folder: str
    name: str
    kind: str = Field(description="job_file, table or matrix")
    state: str = Field(description="claimed, open (its folder is there) or done")
    rows: Count
    wrong: Count = Field(description="rows that made no job, since they are wrong")
    jobs: BatchJobs
    paused: str | None = Field(description="why it is paused")
    folder_name: str = Field(description="its folder below the outbox")
    created_at: datetime
    finished_at: datetime | None


class Batches(BaseModel):
    """A page of batches, the newest first."""

    batches: list[Batch]
    next: int | None = Field(description="`before` of the next page; null: this is the last one")


class Cancelled(BaseModel):
    """Jobs that a request has cancelled; a running one ends at its next step."""

    cancelled: list[str]


class DropJob(BaseModel):
    """A job that a drop has made."""

    id: str
    name: str
    batch: str | None
    url: str


class Drop(BaseModel):
    """The jobs that a drop has made."""

    jobs: list[DropJob]
    batches: list[str]
    is_new: bool = Field(
        description="false: the same request, by its client_token, had made them before"
    )


class PlannedJob(BaseModel):
    """A job that a drop would make."""

    name: str
    pipeline: str
    priority: int
    not_before: datetime | None
    stages: list[Stage]
    tags: list[str]
    meta: dict[str, Any]
    seconds: float | None = Field(description="of its stages; null: too little is known")


class DropPlan(BaseModel):
    """The jobs that a drop would make; nothing was queued."""

    jobs: list[PlannedJob] = Field(description="at most the first 1000")
    total: Count
    seconds: float | None = Field(description="of all jobs; null: too little is known")
    queue_seconds: float | None = Field(description="until it would be their turn")


class Device(BaseModel):
    """The device that models run on; null where it is not known yet."""

    device: str | None = None
    dtype: str | None = None
    gpu: str | None = None
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None


class Worker(BaseModel):
    """A worker with its device, and the names of the models that it has loaded."""

    worker: str
    device: str = Field(description="before it has one, as runtime.device names it")
    state: str = Field(description="not_started, starting, idle, working or lost")
    dtype: str | None
    gpu: str | None
    models: list[str]
    problem: str | None = Field(description="why it did not get its device")
    memory_bytes: int | None
    memory_total_bytes: int | None


class RunningJob(BaseModel):
    """A job at a worker."""

    job: str
    url: str
    inbox: str
    name: str
    stage: str | None
    phase: str | None
    step: int
    steps: int
    fraction: float
    eta_s: float | None
    worker: str


class Ended(BaseModel):
    """A job that ended lately."""

    job: str
    url: str
    inbox: str
    name: str
    status: Status
    code: str | None
    finished_at: datetime | None
    message: str
    warnings: Count


class Waiting(BaseModel):
    """A file that is not taken in yet; without a name it is the inbox itself."""

    inbox: str
    file: str | None
    reason: str


class SiteStatus(BaseModel):
    """State of daemon and queue. It is put together at most once a second for all who ask."""

    has_daemon: bool
    device: Device
    queue: dict[str, dict[str, int]] = Field(description="number of jobs by status and inbox")
    runnable: Count = Field(description="jobs that wait for nothing but their turn")
    queue_eta_s: float | None
    jobs_per_hour: Count
    is_paused: bool
    running: list[RunningJob]
    workers: list[Worker]
    holds: list[QueueHold]
    waiting: list[Waiting]
    waiting_total: Count
    recent: list[Ended]
    remarks: list[str]
    inboxes: list[str]
    pipelines: list[str]
    version: str


class QueueState(BaseModel):
    """A pause of the whole queue, or none."""

    is_paused: bool


class QueueHolds(BaseModel):
    """All reasons why jobs wait."""

    holds: list[QueueHold]


class Model(BaseModel):
    """A model of pipeline.yaml, or a LoRA, an embedding or a file of wildcards."""

    kind: str
    name: str
    provider: str | None
    is_present: bool
    missing: str | None
    bytes: int
    license: str | None
    pipelines: list[str]
    mismatch: str | None
    fits: str | None
    trigger_words: list[str]


class Models(BaseModel):
    """All models that jobs may name."""

    models: list[Model]


class PipelineStage(BaseModel):
    """A stage as pipeline.yaml declares it."""

    id: str
    type: str
    params: dict[str, Any] = Field(description="those that pipeline.yaml sets")
    parameters: dict[str, Any] = Field(description="all parameters, as a JSON Schema")


class Pipeline(BaseModel):
    """An ordered list of stages."""

    name: str
    stages: list[PipelineStage]


class Pipelines(BaseModel):
    """All pipelines of pipeline.yaml."""

    pipelines: list[Pipeline]


class Inbox(BaseModel):
    """An inbox; images can be sent to it."""

    name: str
    pipeline: str
    priority: int
    sidecar_required: bool
    hours: str | None
    defaults: dict[str, Any]
    url: str = Field(description="where to send images to")


class Inboxes(BaseModel):
    """All inboxes of pipeline.yaml."""

    inboxes: list[Inbox]


class Event(BaseModel):
    """Data of an event of a stream."""

    id: int = Field(description="numbers grow; also that of the frame")
    job: str | None = Field(description="null: of a batch, the queue, a hold or a pause")
    at: datetime
    kind: str = Field(
        description="queued, started, progress, completed, failed, cancelled, or one of those in "
        "docs/ledger.md"
    )
    data: dict[str, Any]
