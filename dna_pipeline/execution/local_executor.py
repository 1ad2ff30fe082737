"""The seam between the daemon and whatever computes: orders in, events out.

`Executor` is the seam; `LocalExecutor` is one child process that owns the device. The daemon
imports this module and never torch. Messages carry no pixels: both sides share the work folder.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from dna_pipeline.base import ipc
from dna_pipeline.base.logs import relay
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    Order,
    Phase,
    Ready,
    WorkerEnded,
    event_from_message,
)

WORKER_ENV = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Defaults of the worker's environment. Threads of OpenMP that spin while they wait make a job many
times slower where other programs want the cores too; resting ones cost a little where none do."""

START_LIMIT_S = 1800.0
"""How long an order may take to come to its first stage: a worker starts, waits for one that has
outlived its daemon, checks its device, and reads large files for their hashes."""

DOUBTFUL_ENDS = ("poisoned", "crash", "timeout", "unready")

CANCEL_GRACE_S = 10.0
"""How long a job may take to notice that it is cancelled before its worker is ended."""

UNKILLABLE_S = 60.0
"""How long a killed worker may take to end before its job is given to another."""

KILL_WAIT_S = 5.0
"""How long a killed worker and the threads that served it may take to end."""


class Executor(Protocol):
    """Runs orders somewhere and reports on them."""

    def submit(self, order: Order) -> None: ...
    def cancel(self, job: str) -> None: ...
    def rest(self, job: str) -> None:
        """Give the job back, held as `hours`, before its next stage begins."""
        ...

    def events(self) -> queue.SimpleQueue[Event]: ...
    def tend(self) -> None:
        """Enforce limits; to be called about once a second."""
        ...

    def close(self, grace_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is told once, before its first order."""

    device: str
    dtype: str
    data: str
    models: dict[str, dict[str, Any]]
    stage_timeout_s: float
    idle_unload_s: float
    prove: bool = False
    """Check that the device computes right before the first order."""
    seen_device: str | None = None
    """The device of the worker before; a worse one is refused. None: this is the first worker."""
    seen_gpu: str | None = None
    """Name of that device's hardware, for people."""


class LocalExecutor:
    """One child process, started with the first order and again after each of its deaths.

    Args:
        module: what the child runs, as `python -m`; it talks as
            `dna_pipeline.execution.worker.process` does.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        wake: Callable[[], None] = lambda: None,
        module: str = "dna_pipeline.execution.worker.process",
    ) -> None:
        self._settings = settings
        self._module = module
        self._wake = wake
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._is_closed = False
        self._seen_device: str | None = None
        self._seen_gpu: str | None = None

    def events(self) -> queue.SimpleQueue[Event]:
        return self._events

    def submit(self, order: Order) -> None:
        """Start an attempt, whose one end is reported as an event that names the job."""
        with self._lock:
            if self._is_closed:
                self._put(WorkerEnded(order.job, "closed", "the executor was closed"))
            elif self._child is None or not self._child.run(order):
                self._replace_child(order)

    def _replace_child(self, order: Order) -> None:
        """Start a worker with that order. It has the order before it can end, so that its end
        names the job, however early it comes."""
        try:
            self._child = _Child(self._module, self._next_settings(), order, self._put)
        except Exception as error:  # no memory, process or thread is to be had
            why = f"no worker can be started: {error}"
            self._put(WorkerEnded(order.job, "unready", why))

    def _next_settings(self) -> WorkerSettings:
        # A device may be the cause of an unexpected end, so the next worker must check it first.
        doubt = self._child is not None and self._child.ending in (None, *DOUBTFUL_ENDS)
        return replace(
            self._settings, prove=doubt, seen_device=self._seen_device, seen_gpu=self._seen_gpu
        )

    def cancel(self, job: str) -> None:
        with self._lock:
            if self._child is not None:
                self._child.cancel(job)

    def rest(self, job: str) -> None:
        with self._lock:
            if self._child is not None:
                self._child.rest(job)

    def tend(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.tend(time.monotonic())

    def close(self, grace_s: float) -> None:
        """End the child: at once when it is idle, else after at most `grace_s`. No order is run
        from then on."""
        with self._lock:
            self._is_closed = True
            if self._child is not None:
                self._child.close(grace_s)
                self._child = None

    def _put(self, event: Event) -> None:
        if isinstance(event, Ready):
            # A worker with a worse device never becomes ready, so the last one had the best.
            gpu = event.environment.get("gpu")
            self._seen_gpu = gpu if isinstance(gpu, str) else None
            self._seen_device = event.device
        self._events.put(event)
        self._wake()


class _Child:
    """A running worker process and the order that it has.

    `_lock` guards its state, which the caller's thread and the reader's both change. Each order
    that was taken ends in one event: JobDone, JobFailed, or the WorkerEnded that names its job.

    Raises:
        Exception: the process or one of its threads could not be started; nothing is left of it.
    """

    def __init__(
        self, module: str, settings: WorkerSettings, order: Order, put: Callable[[Event], None]
    ) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._said: deque[str] = deque(maxlen=3)  # its last words
        self.ending: str | None = None
        self._is_ready = False
        self._fault = ""
        self._take(order)
        self._process = ipc.spawn(module, WORKER_ENV | dict(os.environ))
        try:
            self._start(settings, order)
        except BaseException:
            self._process.kill()
            self._process.wait()
            for pipe in filter(None, [self._process.stdin, self._process.stdout]):
                with suppress(OSError):
                    pipe.close()
            raise

    def _start(self, settings: WorkerSettings, order: Order) -> None:
        assert self._process.stdin
        self._stderr = ipc.follow_stderr(self._process, self._overhear)
        self._writer = ipc.QueuedWriter(self._process.stdin)
        self._writer.send(asdict(settings))
        self._writer.send({"order": order.to_message()})
        self._reader = threading.Thread(target=self._read, name="worker-events", daemon=True)
        try:
            self._reader.start()
        except RuntimeError:
            self._writer.close()
            raise

    def run(self, order: Order) -> bool:
        """Take an order; False if this child has come to its end."""
        with self._lock:
            if self.ending is not None or self._process.poll() is not None:
                return False
            self._take(order)
            self._writer.send({"order": order.to_message()})
        return True

    def _take(self, order: Order) -> None:
        self.job: str | None = order.job
        self._stages = frozenset(stage.id for stage in order.stages)
        self._detail = "before its first stage"
        self._deadline: float | None = time.monotonic() + START_LIMIT_S
        self._cancel_deadline: float | None = None
        self._kill_deadline: float | None = None

    def cancel(self, job: str) -> None:
        with self._lock:
            if job == self.job and self._cancel_deadline is None:
                self._cancel_deadline = time.monotonic() + CANCEL_GRACE_S
                self._writer.send({"cancel": job})

    def rest(self, job: str) -> None:
        with self._lock:
            if job == self.job:
                self._writer.send({"rest": job})

    def tend(self, now: float) -> None:
        with self._lock:
            if self._kill_deadline is not None:
                if now > self._kill_deadline:
                    self._give_up()
            elif self._deadline is not None and now > self._deadline:
                self._end("timeout")
            elif self._cancel_deadline is not None and now > self._cancel_deadline:
                self._end("cancel")

    def close(self, grace_s: float) -> None:
        with self._lock:
            self.ending = self.ending or "closed"
        self._writer.close()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            ipc.end(self._process, KILL_WAIT_S)  # a driver may keep even a killed process
        self._reader.join(KILL_WAIT_S)

    def _end(self, reason: str) -> None:
        """Kill the process; the caller holds the lock."""
        if self.ending is None:
            self.ending = reason
            self._kill_deadline = time.monotonic() + UNKILLABLE_S
            self._process.kill()

    def _give_up(self) -> None:
        """Report the end of the job where its process stays; the caller holds the lock. A driver
        that hangs keeps a process that was killed."""
        if self.job is not None and self.ending is not None:
            job, self.job = self.job, None
            why = f"the worker was killed {self._detail} and does not end; its driver may hang"
            self._put(WorkerEnded(job, self.ending, why))

    def _overhear(self, line: str) -> None:
        if line.strip() and not line.startswith("{"):  # the worker's own log
            self._said.append(line.strip())
        relay(line)

    def _read(self) -> None:
        try:
            self._follow()
        except Exception as error:
            # Whatever it is that talks so, it is not the worker that was started.
            with self._lock:
                self._fault = f"because it sent {error} "
                self._end("crash")
        finally:
            self._report_end()

    def _follow(self) -> None:
        """Pass on its events until its pipe ends."""
        assert self._process.stdout
        for message in ipc.messages(self._process.stdout):
            self._check(event := event_from_message(message))
            self._note(event)
            self._put(event)

    def _report_end(self) -> None:
        assert self._process.stdout
        code = self._process.wait()
        self._process.stdout.close()
        self._writer.close()
        self._writer.join(KILL_WAIT_S)
        self._stderr.join(KILL_WAIT_S)
        with self._lock:  # an order that comes from now on goes to another worker
            self.ending = self.ending or "crash"
            if not self._is_ready and self.ending in ("crash", "timeout"):
                self.ending = "unready"
                said = " | ".join(self._said) or "it said nothing"
                self._detail = f"before it was ready: {said}"
            job, self.job = self.job, None
        why = f"the worker {ipc.how_it_ended(code)} {self._fault}{self._detail}".strip()
        self._put(WorkerEnded(job, self.ending, why))

    def _check(self, event: Event) -> None:
        """Raise WireError for what a worker that does as it was ordered cannot tell."""
        job, stage = getattr(event, "job", None), getattr(event, "stage", None)
        if job is not None and job != self.job:
            raise ipc.WireError(f"{event.kind} of a job that it was not given")
        if stage is not None and stage not in self._stages:
            raise ipc.WireError(f"{event.kind} of a stage that its job does not have")
        if isinstance(event, Ready) and self._is_ready:
            raise ipc.WireError("a second ready")

    def _note(self, event: Event) -> None:
        """Follow the child's state, for the limits."""
        with self._lock:
            match event:
                case Ready():
                    self._is_ready = True
                case Phase():
                    self._deadline = time.monotonic() + event.limit_s
                    self._detail = f"while {event.phase} in stage {event.stage}"
                case JobDone() | JobFailed():
                    self._deadline = self._cancel_deadline = None
                    self.job = None
                    self._detail = ""
                    if isinstance(event, JobFailed) and event.poisoned:
                        self._end("poisoned")
                case _:
                    pass
