"""The messages between daemon and worker, as JSON lines: orders go in, events come out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from dna_pipeline.base import ipc
from dna_pipeline.base.errors import Failure
from dna_pipeline.base.ipc import PipeError


def _file_name(text: str) -> str:
    if text in ("", ".", "..") or text != _encodable(text) or set(text) & set("/\\:\0"):
        raise ValueError("should be the plain name of a file")
    return text


def _encodable(text: str) -> str:
    """The text with characters that UTF-8 cannot hold written as escapes. Such characters come from
    names of files, for instance, and a column of the ledger would refuse them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _failure(data: dict[str, Any]) -> dict[str, Any]:
    failure: Failure = TypeAdapter(Failure).validate_python(data)
    record = failure.to_dict()
    return {
        key: _encodable(value) if isinstance(value, str) else value for key, value in record.items()
    }


FileName = Annotated[str, AfterValidator(_file_name)]
Text = Annotated[str, AfterValidator(_encodable)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
FailureRecord = Annotated[dict[str, Any], AfterValidator(_failure)]
"""A failure as plain values, `base/errors.py: Failure.to_dict`."""

# --- orders ---


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A finished stage's file: its name in the stage's work folder, and its hash."""

    path: FileName
    role: Text
    media_type: Text
    bytes: Annotated[int, Field(ge=0, lt=1 << 63)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class StageOrder:
    """One stage with all its parameters.

    Attributes:
        stem: start of the names of its files.
        done: its files if it has run before.
        done_key: the stage key of that run; None if that version of the program recorded none.
        done_model: the model of that run, as its `StageDone` described it.
        request, part_request: hashes that the store of results is to remember the stage's result
            and its part by, for estimates; "" for none.
    """

    id: str
    type: str
    params: dict[str, Any]
    stem: str
    done: tuple[FileRecord, ...] | None = None
    done_key: str | None = None
    done_model: dict[str, Any] | None = None
    request: str = ""
    part_request: str = ""


@dataclass(frozen=True, slots=True)
class OrderInput:
    """A file that a job reads and never writes: its image, or a companion of that role.

    Attributes:
        reference: the path by which the job's parameters name it; "" for the image, and for a
            companion that lay beside it.
    """

    role: str
    path: str
    sha256: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt at one job. Paths are absolute and shared by both sides.

    Attributes:
        inputs: the image, then its companions.
        tags: the job's, which the marks of its files repeat.
        priority: the job's; among the orders of one worker, a higher one gets the device first.
        alone: the worker is to have no other order meanwhile, since the job may be the one that
            ended a worker before.
    """

    job: str
    attempt: int
    stages: tuple[StageOrder, ...]
    inputs: tuple[OrderInput, ...]
    work_dir: str
    tags: tuple[str, ...] = ()
    priority: int = 0
    alone: bool = False

    @property
    def image(self) -> OrderInput:
        return self.inputs[0]

    @classmethod
    def from_message(cls, message: ipc.Message) -> Order:
        """Make an order from its plain values, as `dataclasses.asdict` gives them."""
        return _reader(cls).validate_python(message)


@dataclass(frozen=True, slots=True)
class ThumbnailOrder:
    """A picture file, and the small picture to be made of it."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class SheetCell:
    """A place of a contact sheet: the file of a thumbnail, or "", and the text below it."""

    picture: str
    label: str
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class SheetOrder:
    """A contact sheet to be drawn as one picture; `columns` is chosen if it is None."""

    target: str
    title: str
    cells: tuple[SheetCell, ...]
    columns: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """An order that is no job: it makes no result, and the ledger does not know it.

    Attributes:
        id: names it in the events that answer it.
        kind: `self_test`: the device computes a result that is known. `load_model`: a model is
            loaded, so that the first job need not wait for it. `make_thumbnails`, `draw_sheet`:
            pictures of results that people look through.
        model: the name of that model.
        thumbnails, sheet: what is to be drawn.
        worker: name of the worker that is to do it; "" for any.
    """

    id: str
    kind: Literal["self_test", "load_model", "make_thumbnails", "draw_sheet"]
    model: str = ""
    thumbnails: tuple[ThumbnailOrder, ...] = ()
    sheet: SheetOrder | None = None
    worker: str = ""

    @classmethod
    def from_message(cls, message: ipc.Message) -> Task:
        """Make a task from its plain values, as `dataclasses.asdict` gives them."""
        return _reader(cls).validate_python(message)


# --- events ---


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Memory of the device in use, and all it has, in bytes. On a CPU: of the worker process, and
    of the machine."""

    used: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker has its device and waits for orders."""

    kind: ClassVar[str] = "ready"
    device: str
    dtype: str
    environment: dict[str, Any]
    worker: str = ""
    """Its name, which the executor gives it."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that a worker has, or is about to have.

    Attributes:
        state: `loading` until its weights are on the device.
        device: as torch names it.
        since: begin of that state, RFC 3339 in UTC.
        bytes: memory of the device that its loading took; None where that is not known.
    """

    name: Text
    state: Literal["loading", "loaded"]
    device: Text
    since: Text
    bytes: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None


@dataclass(frozen=True, slots=True)
class ModelsLoaded:
    """All models of a worker, sent whenever one of them is loaded or forgotten."""

    kind: ClassVar[str] = "models_loaded"
    models: tuple[LoadedModel, ...]
    worker: str = ""
    """Its name, which the executor gives it."""


@dataclass(frozen=True, slots=True)
class Phase:
    """The start of a phase of a stage.

    Attributes:
        phase: `reading` the input; `waiting` for the device, which another job of the worker has;
            `loading` a model; `running` on the device; `writing`, while another job may have it.
        limit_s: a phase that lasts longer counts as hung; None for one without a limit.
        on_device: False while it is `running` on the CPU, and another job may have the device.
    """

    kind: ClassVar[str] = "phase"
    job: str
    stage: str
    phase: str
    limit_s: FiniteFloat | None
    worker: str = ""
    memory: MemoryUse | None = None
    on_device: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps of a stage that are done; `fraction` is the share of the whole job that is done."""

    kind: ClassVar[str] = "progress"
    job: str
    stage: str
    step: int
    steps: int
    fraction: FiniteFloat
    memory: MemoryUse | None = None


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage's files are written, durable and hashed."""

    kind: ClassVar[str] = "stage_done"
    job: str
    stage: str
    type: Text
    provider: Text | None
    model: dict[str, Any] | None
    params: dict[str, Any]
    device: Text
    dtype: Text
    batch_size: Annotated[int, Field(ge=1, lt=1 << 31)]
    seconds: FiniteFloat
    warnings: list[str]
    environment: dict[str, Any]
    artifacts: list[FileRecord]
    stage_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    reused_from: dict[str, Any] | None = None
    """The origin of a result that was taken, as `publish/manifest.py: ReusedPart` has it; None for
    one that was computed."""


@dataclass(frozen=True, slots=True)
class JobDone:
    """All stages of the job are done."""

    kind: ClassVar[str] = "job_done"
    job: str


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The attempt at the job ended before its last stage.

    Attributes:
        hold: the environment is at fault, so the job has to wait and has not failed.
        poisoned: the process must end. Without `hold`, the job is then tried again as after a
            crash of its worker.
        worker: its name, which the executor gives it.
    """

    kind: ClassVar[str] = "job_failed"
    job: str
    failure: FailureRecord
    stage: str | None = None
    hold: bool = False
    poisoned: bool = False
    worker: str = ""


@dataclass(frozen=True, slots=True)
class TaskDone:
    """A task is done.

    Attributes:
        facts: of a self-test, those of the device: see `execution/worker/device.py: facts`. Of
            thumbnails, `failed`: the sources of those that could not be made.
        worker: name of the process that did it, which the executor gives it.
    """

    kind: ClassVar[str] = "task_done"
    task: str
    seconds: FiniteFloat
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    worker: str = ""


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A task could not be done.

    Attributes:
        poisoned: the process must end.
    """

    kind: ClassVar[str] = "task_failed"
    task: str
    failure: FailureRecord
    poisoned: bool = False


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker process has ended; the executor reports it, not the worker.

    Attributes:
        worker: its name.
        jobs: the jobs that it ran.
        reason: crash, timeout, poisoned, cancel, closed, unready if the process ended before it
            was ready for any job, or lost if the machine that it runs on was.
        cause: the job for whose sake the process was ended, of those that it ran; None if any of
            them may have ended it, or none did.
        shared: it had several orders, jobs or tasks, of which each may have ended it.
    """

    kind: ClassVar[str] = "worker_ended"
    worker: str
    jobs: tuple[str, ...]
    reason: str
    detail: str
    cause: str | None = None
    shared: bool = False


JobEvent = Phase | Progress | StageDone | JobDone | JobFailed
TaskEnd = TaskDone | TaskFailed
Event = WorkerReady | ModelsLoaded | JobEvent | TaskEnd | WorkerEnded
_EVENTS: dict[str, type[Any]] = {
    cls.kind: cls
    for cls in (
        WorkerReady, ModelsLoaded, Phase, Progress, StageDone, JobDone, JobFailed, TaskDone,
        TaskFailed,
    )
}  # fmt: skip
"""The events that a worker sends itself, by their names in messages."""


def event_to_message(event: Event) -> ipc.Message:
    return {"event": event.kind, **asdict(event)}


def event_from_message(message: ipc.Message) -> Event:
    """The event in a worker's message. The message may be broken in any way, so every field is
    checked: the daemon relies on each.

    Raises:
        PipeError: the message is no event, or a field is missing or has a value that it never
            should have.
    """
    fields = dict(message)
    kind = fields.pop("event", None)
    if not isinstance(kind, str) or kind not in _EVENTS:
        raise PipeError("a message that is no event")
    try:
        event: Event = _reader(_EVENTS[kind]).validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PipeError(f"{kind}: {where}: {first['msg']}"[:300]) from None
    if isinstance(event, StageDone) and len({f.path for f in event.artifacts}) < len(
        event.artifacts
    ):
        raise PipeError("stage_done: two files of one name")
    return event


@cache
def _reader(message: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(message)
