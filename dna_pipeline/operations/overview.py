"""Typed values of the state of daemon and queue, for the live view and the command `status`.

They are made from the fields of `status.json`, whoever put these together: the daemon in the same
process, or `operations/status.py` from the file and the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from dna_pipeline.base.quantities import about, number_of, size
from dna_pipeline.operations.receivers import problem_sentence

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config

Record = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job at a worker; `fraction` is the share of all its stages that is done."""

    job: str
    inbox: str
    name: str
    attempt: int
    stage: str | None
    phase: str | None
    step: int
    steps: int
    fraction: float
    eta_s: float | None
    worker: str = ""


@dataclass(frozen=True, slots=True)
class InboxState:
    """A watched folder, and the jobs since it last had none to do. `path` is "" for an inbox that
    is no folder, such as that of `submit`."""

    name: str
    path: str = ""
    done: int = 0
    total: int = 0
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch with jobs that are not done. `paused` says why, if it is."""

    batch: str
    inbox: str
    folder: str
    jobs: Mapping[str, int]
    wrong: int
    paused: str | None
    eta_s: float | None = None

    @property
    def total(self) -> int:
        return sum(self.jobs.values())

    @property
    def done(self) -> int:
        return self.total - self.jobs.get("queued", 0) - self.jobs.get("running", 0)


@dataclass(frozen=True, slots=True)
class JobHold:
    """A reason why jobs wait. `jobs` is None for the whole queue."""

    code: str
    detail: str
    jobs: int | None


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file that is not taken in yet; `file` is None for the inbox itself."""

    inbox: str
    file: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A result or a failure, with its folder below the outbox; `code` is None for a result."""

    job: str
    inbox: str
    name: str
    status: str
    folder: str
    code: str | None
    finished_at: str | None
    message: str = ""
    detail: str = ""
    hint: str = ""
    warnings: int = 0


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The device of a worker; None where it is not known yet."""

    device: str | None = None
    dtype: str | None = None
    gpu: str | None = None
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerModel:
    """A model at a worker.

    Attributes:
        state: `loading` or `loaded`.
        since: begin of that state, RFC 3339 in UTC.
        bytes: memory of the device that it took; None where that is not known.
    """

    name: str
    state: str
    device: str
    since: str
    worker: str = ""
    bytes: int | None = None

    @property
    def words(self) -> str:
        """`loaded on cuda:0, 2 GiB`, or `loading on cpu`."""
        memory = "" if self.bytes is None else f", {size(self.bytes)}"
        return f"{self.state} on {self.device}{memory}"


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker with its device.

    Attributes:
        worker: name of its process.
        device: before it has one, as `runtime.device` names it.
        state: as in `execution/worker_state.py: State`.
        models: those that it has or is loading.
        problem: the reason why it did not get its device; None if it did.
        node: the machine of a Ray cluster that it is on; None for this machine.
    """

    worker: str = ""
    device: str = ""
    state: str = "idle"
    dtype: str | None = None
    gpu: str | None = None
    models: tuple[WorkerModel, ...] = ()
    problem: str | None = None
    node: str | None = None
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None

    @property
    def place(self) -> str:
        """Its device, with its node: `cuda on render1`."""
        return self.device if self.node is None else f"{self.device} on {self.node}"


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of daemon and queue at one instant.

    Attributes:
        outbox: the folder of results.
        has_daemon: True if a daemon runs.
        queued: number of jobs that have not started, held ones included.
        runnable: number of those that wait for nothing but their turn.
        queue_eta_s: seconds until these and the running jobs have ended; None if unknown.
        ended: the jobs that ended last, the newest first.
        remarks: sentences about pipeline.yaml, if an edit of it is not taken over, about the HTTP
            server, if it does not run, and about receivers of notifications that are behind.
        loading: what a worker loads before its first job, as words; "" if nothing.
        server: address of the HTTP server that runs beside the daemon; None if none does.
        models: the models that workers have or are loading; all others are not loaded.
        workers: all workers, in the order of `runtime.device`.
        delay: the job that lets others pass, as a sentence; "" if none does.
    """

    outbox: str
    has_daemon: bool
    device: DeviceState
    inboxes: tuple[InboxState, ...]
    running: tuple[RunningJob, ...]
    queued: int
    runnable: int
    queue_eta_s: float | None
    jobs_per_hour: int
    batches: tuple[OpenBatch, ...]
    holds: tuple[JobHold, ...]
    waiting: tuple[WaitingFile, ...]
    waiting_total: int
    ended: tuple[EndedJob, ...]
    remarks: tuple[str, ...] = ()
    server: str | None = None
    loading: str = ""
    models: tuple[WorkerModel, ...] = ()
    workers: tuple[WorkerInfo, ...] = ()
    delay: str = ""

    @property
    def held(self) -> int:
        """Number of queued jobs that wait for more than their turn; all where the queue is
        paused."""
        counts = [self.queued if hold.jobs is None else hold.jobs for hold in self.holds]
        return min(sum(counts), self.queued)


def make_overview(config: Config, status: Record) -> Overview:
    """Make the values from the fields of `status.json`. An older version of the program may have
    written them, so those that came later may be missing."""
    daemon: Record | None = status.get("daemon")
    waiting = _all(WaitingFile, status.get("waiting", ()))
    workers = make_workers(status)
    return Overview(
        outbox=str(config.outbox),
        has_daemon=daemon is not None,
        device=_one(DeviceState, daemon or {}),
        inboxes=_inboxes(config, status.get("progress", ())),
        running=_running(status),
        queued=sum(status.get("queue", {}).get("queued", {}).values()),
        runnable=status.get("runnable", 0),
        queue_eta_s=status.get("queue_eta_s"),
        jobs_per_hour=status.get("jobs_per_hour", 0),
        batches=_all(OpenBatch, status.get("batches", ())),
        holds=make_holds(status.get("holds", ())),
        waiting=waiting,
        waiting_total=max(status.get("waiting_total", 0), len(waiting)),
        ended=_all(EndedJob, status.get("recent", ())),
        remarks=tuple(make_remarks(status)),
        server=server_url(status),
        loading=loading_words(status),
        models=tuple(model for worker in workers for model in worker.models),
        workers=workers,
        delay=delay_words(status),
    )


def make_workers(status: Record) -> tuple[WorkerInfo, ...]:
    """Make values from the field `workers`."""
    return tuple(
        _one(WorkerInfo, entry | {"models": _models(entry)}) for entry in status.get("workers", ())
    )


def _models(worker: Record) -> tuple[WorkerModel, ...]:
    entries: list[Record] = worker.get("models", [])
    return _all(WorkerModel, ({**entry, "worker": worker["worker"]} for entry in entries))


def delay_words(status: Record) -> str:
    """Describe the field `delayed`: `jobs with sd15 come before 0d3a987e (anime), which starts
    after 4 min of them at most`; "" if no job lets others pass."""
    delay: Record | None = status.get("delayed")
    if delay is None:
        return ""
    left = about(max(delay["limit_s"] - delay["passed_s"], 0.0)).removeprefix("about ")
    return (
        f"jobs with {', '.join(delay['first'])} come before {delay['job'][:8]} "
        f"({', '.join(delay['models'])}), which starts after {left} of them at most"
    )


def loading_words(status: Record) -> str:
    """Describe the field `loading`: `loading sd15 (1 of 2)`; "" if nothing is loaded."""
    loading: Record | None = status.get("loading")
    if loading is None:
        return ""
    return f"loading {loading['model']} ({loading['number']} of {loading['of']})"


def make_remarks(status: Record) -> Iterator[str]:
    """Write sentences about the fields `config`, `server` and `receivers`, if something is
    wrong, and about files that are left alone."""
    config: Record = status.get("config") or {}
    if problem := config.get("problem"):
        # The reason first and without the path, since the live view shows but a few lines.
        file = str(config.get("file") or "")
        lines = [line.removeprefix(f"{file}: ") if file else line for line in problem.splitlines()]
        yield f"pipeline.yaml is not taken over: {'; '.join(lines)}; the one before goes on"
    if pending := config.get("pending"):
        yield f"pipeline.yaml is not taken over yet: {pending}"
    server: Record = status.get("server") or {}
    if problem := server.get("problem"):
        yield f"the HTTP server does not run: {problem}; it is started again now and then"
    workers = make_workers(status)
    for worker in workers if len(workers) > 1 else ():
        if worker.problem is not None:
            yield f"{worker.place} is not used: {worker.problem}; the other devices go on"
    for receiver in status.get("receivers", ()):
        if (text := problem_sentence(receiver)) is not None:
            yield f"receiver {receiver['name']} {text}"
    yield from left_alone_lines(status)


def left_alone_lines(status: Record) -> Iterator[str]:
    """Say of each inbox how many files lay there before the first watch (`left_alone`)."""
    for entry in status.get("left_alone", ()):
        verb, them = ("is", "it") if entry["files"] == 1 else ("are", "them")
        yield (
            f"inbox {entry['inbox']}: {number_of(entry['files'], 'file')} that lay there before "
            f"the first watch {verb} left alone (existing: ignore); save {them} again to have "
            f"{them} made"
        )


def server_url(status: Record) -> str | None:
    """Address of the HTTP server that runs beside the daemon; None if none does."""
    server: Record = status.get("server") or {}
    return server.get("url")


def make_holds(entries: Any) -> tuple[JobHold, ...]:
    """Make values from the field `holds`."""
    return tuple(JobHold(e["code"], e["detail"] or "", e["jobs"]) for e in entries)


def make_waiting(entries: Any) -> tuple[WaitingFile, ...]:
    """Make values from the field `waiting`."""
    return _all(WaitingFile, entries)


def ended_at(job: EndedJob) -> datetime | None:
    """Give the time at which the job ended; None if it is not recorded."""
    return None if job.finished_at is None else datetime.fromisoformat(job.finished_at)


def _running(status: Record) -> tuple[RunningJob, ...]:
    """All running jobs. Older daemons wrote the first one, and those of each worker."""
    if listed := status.get("running_jobs"):
        return _all(RunningJob, listed)
    jobs = [job for worker in status.get("workers", ()) for job in worker["jobs"]]
    first = status.get("running")
    if first is not None and first["job"] not in {job["job"] for job in jobs}:
        jobs.insert(0, first)
    return _all(RunningJob, jobs)


def _inboxes(config: Config, progress: Any) -> tuple[InboxState, ...]:
    """List the inboxes that are configured, then others that have jobs."""
    paths = {inbox.name: str(inbox.path) for inbox in config.inboxes}
    counted: dict[str, Record] = {entry["inbox"]: entry for entry in progress}
    return tuple(
        _one(InboxState, {"name": name, "path": paths.get(name, ""), **counted.get(name, {})})
        for name in [*paths, *(name for name in counted if name not in paths)]
    )


def _all(kind: type[T], entries: Any) -> tuple[T, ...]:
    return tuple(_one(kind, entry) for entry in entries)


def _one(kind: type[T], entry: Record) -> T:
    """Make a value from the entry's fields that it has."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: entry[name] for name in names if name in entry})
