"""A worker process and the orders that it has, as its executor sees them."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeGuard

from dna_pipeline.base import ipc
from dna_pipeline.base.errors import WorkerCrashed
from dna_pipeline.base.logs import relay
from dna_pipeline.config.file_parts import BATCH_ON_CUDA
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    ModelsLoaded,
    Order,
    Phase,
    Task,
    TaskDone,
    TaskEnd,
    TaskFailed,
    WorkerEnded,
    WorkerReady,
    event_from_message,
)

WORKER_ENV = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
"""Defaults of the worker's environment.

OpenMP's threads spin while they wait for one another. By default they do so for long, which makes a
job many times slower if other programs need the cores too; threads that sleep at once cost a job
about 3 % if no other program does. So the threads of GNU's OpenMP spin for some microseconds, and
those of other makers, which have no such setting, sleep.

glibc's memory for tensors comes from the system at each operation, page by page, and goes back
after it. Kept up to 1 GiB, it makes a job on a CPU about 5 % faster; a worker at rest gives it
back.
"""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"
)  # fmt: skip
"""Variables that limit the threads of libraries."""

NAMED = WorkerReady | ModelsLoaded | Phase | JobFailed | TaskDone
"""Events that say which process sent them."""

START_LIMIT_S = 1800.0
"""Time limit from an order to its first stage: meanwhile a worker starts, waits for another one
that has outlived its daemon, checks its device, and reads large files for their hashes."""

DOUBTFUL_ENDS = ("poisoned", "crash", "timeout", "unready")
"""Reasons of a worker's end that a broken device may have caused."""

CANCEL_GRACE_S = 10.0
"""Time that a job has to react to its cancellation before its worker is killed."""

UNKILLABLE_S = 60.0
"""Time that a killed worker has to end before its job is given to another worker."""

KILL_WAIT_S = 5.0
"""Time to wait for the end of a killed worker, and of each thread that served it."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings that a worker receives once, before its first order."""

    device: str
    dtype: str
    data: str
    models: dict[str, dict[str, Any]]
    stage_timeout_s: float
    idle_unload_s: float
    self_test: bool = False
    """True to check, before the first order, that the device computes correctly."""
    seeks_device: bool = False
    """True to choose a device by torch even if no model needs one."""
    last_device: str | None = None
    """Device of the previous worker; a worse one is refused. None for the first worker."""
    last_gpu: str | None = None
    """Name of the previous device's hardware, for people."""
    checkpoints: str | None = None
    """Folder each checkpoint in which is a model by its name."""
    signing: dict[str, str | None] | None = None
    """How files are signed: the arguments of `media/marks/signing.py: Signer`; None: not at all."""
    keeps_results: bool = True
    """False to keep no results for later jobs, and to take none."""
    number: int = 1
    """Number of the worker among those of one data folder. No two processes of one number work at
    the same time."""
    threads: int | None = None
    """Threads of its libraries on the CPU; None: as many as they choose."""
    most_orders: int = 1
    """Orders that it may have at once, from when it has its device; before that, one. Those that
    share a turn with the device count as one."""
    batch_size: int | None = 1
    """Most img2img jobs that share a turn with the device; None to choose by the device."""

    def most_together(self, device: str) -> int:
        """Most jobs that share a turn with that device."""
        if self.batch_size is not None:
            return self.batch_size
        return BATCH_ON_CUDA if device.startswith("cuda") else 1

    @property
    def capacity(self) -> int:
        """Most orders that the worker may have at once on any device."""
        return self.most_orders + self.most_together("cuda") - 1

    def environment(self) -> dict[str, str]:
        """Variables of its process that it does not have from its parent."""
        if self.threads is None:
            return {}
        return dict.fromkeys(THREAD_VARIABLES, str(self.threads))


def put_ends(
    put: Callable[[Event], None],
    worker: str,
    orders: Iterable[Order | Task],
    reason: str,
    why: str,
    cause: str | None = None,
) -> None:
    """Report the end of a worker and of the orders that it had."""
    ended = list(orders)
    jobs: list[str] = []
    for order in ended:
        if isinstance(order, Task):
            put(TaskFailed(order.id, WorkerCrashed(why).failure().to_dict()))
        else:
            jobs.append(order.job)
    put(WorkerEnded(worker, tuple(jobs), reason, why, cause, shared=len(ended) > 1))


def models_of(order: Order | Task) -> frozenset[str]:
    """Names of the models that an order needs."""
    if isinstance(order, Task):
        return frozenset({order.model} - {""})
    names = (stage.params.get("model") for stage in order.stages)
    return frozenset(name for name in names if name is not None)


@dataclass(frozen=True, slots=True)
class Load:
    """The orders of a worker process, in short.

    Attributes:
        orders: number of its orders.
        last_needs: the models that the last of them needs.
        is_full: it may get no further one.
    """

    orders: int
    last_needs: frozenset[str]
    is_full: bool


class _Entry:
    """An order that a worker process has, with its time limits.

    Attributes:
        detail: what the worker does for it, for a message.
        deadline: time at which its phase counts as hung; None if that has no limit.
        cancel_deadline: time by which it has to end, since it was cancelled.
    """

    def __init__(self, order: Order | Task) -> None:
        self.order = order
        self.stages = frozenset(s.id for s in order.stages) if isinstance(order, Order) else ()
        self.detail = "before its first stage"
        self.deadline: float | None = time.monotonic() + START_LIMIT_S
        self.cancel_deadline: float | None = None

    def enter(self, phase: Phase) -> None:
        """Note the phase that it is in."""
        self.deadline = None if phase.limit_s is None else time.monotonic() + phase.limit_s
        self.detail = f"while {phase.phase} in stage {phase.stage}"

    def why_over(self, now: float) -> str | None:
        """The reason to end the worker for its sake: timeout or cancel; None if there is none."""
        if self.deadline is not None and now > self.deadline:
            return "timeout"
        if self.cancel_deadline is not None and now > self.cancel_deadline:
            return "cancel"
        return None


class Child:
    """A running worker process and the orders that it has.

    The caller's thread and the reader thread both change the state, so `_lock` guards it. Each
    accepted order ends with exactly one event.

    Attributes:
        ending: why the process ends or has ended; None while it runs.
        is_ready: it has its device.

    Raises:
        Exception: the process or one of its threads could not be started; nothing is left over.
    """

    def __init__(
        self,
        module: str,
        name: str,
        settings: WorkerSettings,
        order: Order | Task,
        put: Callable[[Event], None],
    ) -> None:
        self._name = name
        self._put = put
        self._settings = settings
        self._most_orders = 1
        self._lock = threading.Lock()
        self._last_lines: deque[str] = deque(maxlen=3)
        """The last lines that the process wrote to standard error, its own log left out."""
        self.ending: str | None = None
        self.is_ready = False
        self._cause: str | None = None
        self._fault = ""
        self._entries: dict[str, _Entry] = {}
        """Its orders by the ids of their jobs or tasks, the oldest first."""
        self._kill_deadline: float | None = None
        self._begin(order)
        threads = settings.environment()
        self._process = ipc.spawn(module, WORKER_ENV | dict(os.environ) | threads)
        try:
            self._start(settings, order)
        except BaseException:
            self._process.kill()
            self._process.wait()
            for pipe in filter(None, [self._process.stdin, self._process.stdout]):
                with suppress(OSError):
                    pipe.close()
            raise

    def _start(self, settings: WorkerSettings, order: Order | Task) -> None:
        assert self._process.stdin
        self._stderr = ipc.follow_stderr(self._process, self._watch)
        self._writer = ipc.QueuedWriter(self._process.stdin)
        self._writer.send(asdict(settings))
        self._send(order)
        self._reader = threading.Thread(target=self._read, name="worker-events", daemon=True)
        try:
            self._reader.start()
        except RuntimeError:
            self._writer.close()
            raise

    def _send(self, order: Order | Task) -> None:
        kind = "order" if isinstance(order, Order) else "task"
        self._writer.send({kind: asdict(order)})

    def run(self, order: Order | Task) -> bool:
        """Send an order to the process; False if the process has ended or is about to end."""
        with self._lock:
            if self.ending is not None or self._process.poll() is not None:
                return False
            self._begin(order)
            self._send(order)
        return True

    def _begin(self, order: Order | Task) -> None:
        self._entries[_id_of(order)] = _Entry(order)

    def load(self) -> Load:
        """The orders that it has now, in short."""
        with self._lock:
            orders = [entry.order for entry in self._entries.values()]
            most = self._most_orders if self.ending is None else 1
            is_alone = any(isinstance(order, Order) and order.alone for order in orders)
            needs = models_of(orders[-1]) if orders else frozenset[str]()
            return Load(len(orders), needs, is_alone or len(orders) >= most)

    def cancel(self, job: str) -> None:
        with self._lock:
            entry = self._entries.get(job)
            if entry is not None and entry.cancel_deadline is None:
                entry.cancel_deadline = time.monotonic() + CANCEL_GRACE_S
                self._writer.send({"cancel": job})

    def yield_after_stage(self, job: str) -> None:
        with self._lock:
            if job in self._entries:
                self._writer.send({"rest": job})

    def enforce_timeouts(self, now: float) -> None:
        with self._lock:
            if self._kill_deadline is not None:
                if now > self._kill_deadline:
                    self._give_up()
                return
            for job, entry in self._entries.items():
                if (reason := entry.why_over(now)) is not None:
                    self._end(reason, job)
                    return

    def close(self, grace_s: float) -> None:
        with self._lock:
            self.ending = self.ending or "closed"
        self._writer.close()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            ipc.end(self._process, KILL_WAIT_S)  # limited: a driver can keep a killed process alive
        self._reader.join(KILL_WAIT_S)

    def _end(self, reason: str, cause: str | None = None) -> None:
        """Kill the process for the sake of that order; the caller holds the lock."""
        if self.ending is None:
            self.ending, self._cause = reason, cause
            self._kill_deadline = time.monotonic() + UNKILLABLE_S
            self._process.kill()

    def _give_up(self) -> None:
        """Report the end of the worker and of its orders although the killed process still exists;
        the caller holds the lock. A driver that hangs can keep a killed process alive."""
        self._kill_deadline = None
        if self.ending is not None:
            detail = self._detail()
            why = f"the worker was killed {detail} and does not end; its driver may hang"
            put_ends(self._put, self._name, self._take_orders(), self.ending, why, self._cause)

    def _take_orders(self) -> list[Order | Task]:
        """Take all orders away from it; the caller holds the lock."""
        orders = [entry.order for entry in self._entries.values()]
        self._entries.clear()
        return orders

    def _detail(self) -> str:
        """The phase in which it ended, for a message; the caller holds the lock."""
        if self._cause in self._entries:
            return self._entries[self._cause].detail
        if len(self._entries) > 1:
            return f"while it had {len(self._entries)} orders"
        return "".join(entry.detail for entry in self._entries.values())

    def _watch(self, line: str) -> None:
        if line.strip() and not line.startswith("{"):  # the worker's own log
            self._last_lines.append(line.strip())
        relay(line)

    def _read(self) -> None:
        try:
            self._follow()
        except Exception as error:
            # No sound worker sends such a message, so the process is not to be trusted any more.
            with self._lock:
                self._fault = f"because it sent {error} "
                self._end("crash")
        finally:
            self._report_end()

    def _follow(self) -> None:
        """Pass on the events of the process until its pipe ends."""
        assert self._process.stdout
        for message in ipc.messages(self._process.stdout):
            event = event_from_message(message)
            with self._lock:
                self._check(event)
                if self.ending is not None and _is_fault(event):
                    continue  # a device that has failed fails the next job too: it just goes back
                self._note(event)
            is_named = isinstance(event, NAMED)
            self._put(replace(event, worker=self._name) if is_named else event)

    def _report_end(self) -> None:
        assert self._process.stdout
        code = self._process.wait()
        self._process.stdout.close()
        self._writer.close()
        self._writer.join(KILL_WAIT_S)
        self._stderr.join(KILL_WAIT_S)
        with self._lock:  # `ending` is set, so later orders go to another worker
            self.ending = self.ending or "crash"
            detail = self._detail()
            if not self.is_ready and self.ending in ("crash", "timeout"):
                self.ending = "unready"
                last_words = " | ".join(self._last_lines) or "it said nothing"
                detail = f"before it was ready: {last_words}"
            orders = self._take_orders()
        why = f"the worker {ipc.how_it_ended(code)} {self._fault}{detail}".strip()
        put_ends(self._put, self._name, orders, self.ending, why, self._cause)

    def _check(self, event: Event) -> None:
        """Raise PipeError for an event that does not belong to an order: of another job or stage,
        or a second `ready`. The caller holds the lock, since `_give_up` may end the orders."""
        stage, job = getattr(event, "stage", None), getattr(event, "job", None)
        entry = self._entries.get(job or "")
        if job is not None and (entry is None or not isinstance(entry.order, Order)):
            raise ipc.PipeError(f"{event.kind} of a job that it was not given")
        if isinstance(event, TaskEnd):
            task = self._entries.get(event.task)
            if task is None or not isinstance(task.order, Task):
                raise ipc.PipeError(f"{event.kind} of a task that it was not given")
        if stage is not None and entry is not None and stage not in entry.stages:
            raise ipc.PipeError(f"{event.kind} of a stage that its job does not have")
        if isinstance(event, WorkerReady) and self.is_ready:
            raise ipc.PipeError("a second ready")

    def _note(self, event: Event) -> None:
        """Update the state of the child, from which its time limits follow; the caller holds the
        lock."""
        match event:
            case WorkerReady():
                self.is_ready = True
                together = self._settings.most_together(event.device)
                self._most_orders = self._settings.most_orders + together - 1
            case Phase():
                self._entries[event.job].enter(event)
            case JobDone() | JobFailed():
                del self._entries[event.job]
            case TaskDone() | TaskFailed():
                del self._entries[event.task]
            case _:
                pass
        if _is_fault(event):
            self._end("poisoned", event.job if isinstance(event, JobFailed) else event.task)


def _is_fault(event: Event) -> TypeGuard[JobFailed | TaskFailed]:
    """True for the end of an order after which the process must end."""
    return isinstance(event, JobFailed | TaskFailed) and event.poisoned


def _id_of(order: Order | Task) -> str:
    return order.id if isinstance(order, Task) else order.job
