"""What the daemon and its worker say to each other: orders in, events out, as JSON lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from dna_pipeline.base import ipc
from dna_pipeline.base.errors import Failure
from dna_pipeline.base.ipc import WireError

_FINITE = ConfigDict(allow_inf_nan=False)


def _file_name(text: str) -> str:
    if text in ("", ".", "..") or text != _storable(text) or set(text) & set("/\\:\0"):
        raise ValueError("should be the plain name of a file")
    return text


def _storable(text: str) -> str:
    """What UTF-8 cannot hold (from a file's name, say) made visible: columns take no such text."""
    return text.encode("utf-8", "backslashreplace").decode()


def _failure(data: dict[str, Any]) -> dict[str, Any]:
    failure: Failure = TypeAdapter(Failure).validate_python(data)
    facts = failure.to_dict()
    return {
        key: _storable(value) if isinstance(value, str) else value for key, value in facts.items()
    }


FileName = Annotated[str, AfterValidator(_file_name)]
Text = Annotated[str, AfterValidator(_storable)]

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

    `done` holds its files where it has run before, `done_key` the key of that run; None for a run
    of a version that recorded none.
    """

    id: str
    type: str
    params: dict[str, Any]
    stem: str
    done: tuple[FileRecord, ...] | None = None
    done_key: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt at one job. Paths are absolute and shared by both sides."""

    job: str
    attempt: int
    stages: tuple[StageOrder, ...]
    source: str
    source_sha256: str
    work_dir: str

    def to_message(self) -> ipc.Message:
        return asdict(self)

    @classmethod
    def from_message(cls, message: ipc.Message) -> Order:
        fields: dict[str, Any] = dict(message)
        fields["stages"] = tuple(
            StageOrder(**stage | {"done": _records(stage["done"])}) for stage in message["stages"]
        )
        return cls(**fields)


def _records(files: list[dict[str, Any]] | None) -> tuple[FileRecord, ...] | None:
    return None if files is None else tuple(FileRecord(**file) for file in files)


# --- events ---


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker holds its device."""

    kind: ClassVar[str] = "ready"
    device: str
    dtype: str
    environment: dict[str, Any]


@with_config(_FINITE)
@dataclass(frozen=True, slots=True)
class Phase:
    """What the job does now; over `limit_s` it counts as hung."""

    kind: ClassVar[str] = "phase"
    job: str
    stage: str
    phase: str
    limit_s: float


@with_config(_FINITE)
@dataclass(frozen=True, slots=True)
class Progress:
    """`fraction` is of the whole job."""

    kind: ClassVar[str] = "progress"
    job: str
    stage: str
    step: int
    steps: int
    fraction: float


@with_config(_FINITE)
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
    seconds: float
    warnings: list[str]
    environment: dict[str, Any]
    artifacts: list[FileRecord]
    stage_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class JobDone:
    kind: ClassVar[str] = "job_done"
    job: str


@dataclass(frozen=True, slots=True)
class JobFailed:
    """`hold` is set where the environment is at fault. `poisoned` is set where the process must
    end; without `hold`, the job is then tried again as after a crash of its worker."""

    kind: ClassVar[str] = "job_failed"
    job: str
    failure: Annotated[dict[str, Any], AfterValidator(_failure)]
    stage: str | None = None
    hold: bool = False
    poisoned: bool = False


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """The process is gone. `job` is what it ran; `reason` is crash, timeout, poisoned, cancel,
    closed, or unready where it ended before it was ready for any job."""

    kind: ClassVar[str] = "worker_ended"
    job: str | None
    reason: str
    detail: str


Event = Ready | Phase | Progress | StageDone | JobDone | JobFailed | WorkerEnded
_TOLD: dict[str, type[Any]] = {
    cls.kind: cls for cls in (Ready, Phase, Progress, StageDone, JobDone, JobFailed)
}
"""What a worker says; its end is told by whoever sees it."""


def event_to_message(event: Event) -> ipc.Message:
    return {"event": event.kind, **asdict(event)}


def event_from_message(message: ipc.Message) -> Event:
    """The event that a worker told. It may be broken in any way; the daemon relies on each field.

    Raises:
        WireError: it is none, or a field of it is missing or holds what it never should.
    """
    fields = dict(message)
    kind = fields.pop("event", None)
    if not isinstance(kind, str) or kind not in _TOLD:
        raise WireError("a message that is no event")
    try:
        event: Event = _reader(kind).validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WireError(f"{kind}: {where}: {first['msg']}"[:300]) from None
    if isinstance(event, StageDone) and len({f.path for f in event.artifacts}) < len(
        event.artifacts
    ):
        raise WireError("stage_done: two files of one name")
    return event


@cache
def _reader(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(_TOLD[kind])
