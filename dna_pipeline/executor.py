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

from dna_pipeline import wire
from dna_pipeline.logs import relay
from dna_pipeline.messages import (
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

KILLED_S = 2.0
"""How long a worker that was killed is waited for."""

CANCEL_GRACE_S = 10.0
"""How long a job may take to notice that it is cancelled before its worker is ended."""


class Executor(Protocol):
    """Runs orders somewhere and reports on them; not more than `capacity` at a time."""

    capacity: int

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


class LocalExecutor:
    """One child process, started with the first order and again after each of its deaths.

    Args:
        module: what the child runs, as `python -m`; it talks as `dna_pipeline.worker` does.
    """

    capacity = 1

    def __init__(
        self,
        settings: WorkerSettings,
        wake: Callable[[], None] = lambda: None,
        module: str = "dna_pipeline.worker",
    ) -> None:
        self._settings = settings
        self._module = module
        self._wake = wake
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def events(self) -> queue.SimpleQueue[Event]:
        return self._events

    def submit(self, order: Order) -> None:
        with self._lock:
            if self._child is None or not self._child.run(order):
                # Whatever ended the last one may have been the device's doing.
                doubt = self._child is not None and self._child.ending in DOUBTFUL_ENDS
                settings = replace(self._settings, prove=doubt)
                try:
                    self._child = _Child(self._module, settings, self._put)
                except OSError as error:
                    why = f"no worker can be started: {error}"
                    self._put(WorkerEnded(order.job, "unready", why))
                    return
                self._child.run(order)

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
        """End the child: at once when it is idle, else after at most `grace_s`."""
        with self._lock:
            if self._child is not None:
                self._child.close(grace_s)
                self._child = None

    def _put(self, event: Event) -> None:
        self._events.put(event)
        self._wake()


class _Child:
    """A running worker process and what it is at."""

    def __init__(self, module: str, settings: WorkerSettings, put: Callable[[Event], None]) -> None:
        self._put = put
        self._process = wire.spawn(module, WORKER_ENV | dict(os.environ))
        assert self._process.stdin and self._process.stdout
        self._said: deque[str] = deque(maxlen=3)  # its last words
        self._stderr = wire.follow_stderr(self._process, self._overhear)
        self._writer = wire.LineWriter(self._process.stdin)
        # An order either comes before the end, which then names its job, or goes to a new child.
        self._turn = threading.Lock()
        self.job: str | None = None
        self._stages: frozenset[str] = frozenset()
        self.ending: str | None = None
        self._is_ready = False
        self._detail = self._fault = ""
        self._deadline: float | None = None
        self._cancel_deadline: float | None = None
        self._send(asdict(settings))
        self._reader = threading.Thread(target=self._read, name="worker-events", daemon=True)
        self._reader.start()

    def run(self, order: Order) -> bool:
        """Take an order; False if this child has come to its end."""
        with self._turn:
            if self.ending is not None:
                return False
            self.job = order.job
            self._stages = frozenset(stage.id for stage in order.stages)
            self._detail = "before its first stage"
            self._deadline = time.monotonic() + START_LIMIT_S
        self._send({"order": order.to_message()})
        return True

    def cancel(self, job: str) -> None:
        if job == self.job and self._cancel_deadline is None:
            self._cancel_deadline = time.monotonic() + CANCEL_GRACE_S
            self._send({"cancel": job})

    def rest(self, job: str) -> None:
        if job == self.job:
            self._send({"rest": job})

    def tend(self, now: float) -> None:
        if self._deadline is not None and now > self._deadline:
            self._end("timeout")
        elif self._cancel_deadline is not None and now > self._cancel_deadline:
            self._end("cancel")

    def close(self, grace_s: float) -> None:
        self.ending = self.ending or "closed"
        self._writer.close()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            wire.end(self._process, KILLED_S)
        self._reader.join(KILLED_S)

    def _end(self, reason: str) -> None:
        if self.ending is None:
            self.ending = reason
            self._process.kill()

    def _overhear(self, line: str) -> None:
        if line.strip() and not line.startswith("{"):  # the worker's own log
            self._said.append(line.strip())
        relay(line)

    def _send(self, message: wire.Message) -> None:
        with suppress(OSError, ValueError):  # it has just died; the reader reports that
            self._writer.send(message)

    def _read(self) -> None:
        assert self._process.stdout
        try:
            for message in wire.messages(self._process.stdout):
                self._check(event := event_from_message(message))
                self._note(event)
                self._put(event)
        except wire.WireError as error:
            # Whatever it is that talks so, it is not the worker that was started.
            self._fault = f"because it sent {error} "
            self._end("crash")
        code = self._process.wait()
        self._writer.close()
        self._process.stdout.close()
        self._stderr.join(5)
        with self._turn:
            self.ending = self.ending or "crash"
            if not self._is_ready and self.ending in ("crash", "timeout"):
                self.ending = "unready"
                said = " | ".join(self._said) or "it said nothing"
                self._detail = f"before it was ready: {said}"
        why = f"the worker {wire.how_it_ended(code)} {self._fault}{self._detail}".strip()
        self._put(WorkerEnded(self.job, self.ending, why))

    def _check(self, event: Event) -> None:
        """Raise WireError for what a worker that does as it was ordered cannot tell."""
        job, stage = getattr(event, "job", None), getattr(event, "stage", None)
        if job is not None and job != self.job:
            raise wire.WireError(f"{event.kind} of a job that it was not given")
        if stage is not None and stage not in self._stages:
            raise wire.WireError(f"{event.kind} of a stage that its job does not have")

    def _note(self, event: Event) -> None:
        """Follow the child's state, for the limits."""
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
