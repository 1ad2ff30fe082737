"""A worker of a Ray cluster, as the daemon knows it from what the bridge says of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from dna_pipeline.base import ipc
from dna_pipeline.base.errors import WorkerCrashed
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
from dna_pipeline.execution.worker_child import models_of
from dna_pipeline.execution.worker_state import State, WorkerMemory, WorkerState

LOST = "lost"
"""Reason of a worker's end whose node or actor was lost: its jobs are interrupted."""

_RETURN = "return of"
"""Begin of the names of the tasks that start a worker whose actor is back."""


class RayWorker:
    """One worker. Orders go to the bridge; the bridge's messages come to `take`.

    Args:
        device: the device that it is to use, as `runtime.device` has it.
        send: sends a message to the bridge; False if there is none.
        put: takes its events.
    """

    def __init__(
        self,
        name: str,
        device: str,
        send: Callable[[ipc.Message], bool],
        put: Callable[[Event], None],
    ) -> None:
        self._name = name
        self._device = device
        self._send = send
        self._put_on = put
        self._lock = threading.RLock()
        self._memory = WorkerMemory()
        self._orders: dict[str, Order | Task] = {}
        """The orders that it has, by the ids of their jobs or tasks."""
        self._epoch = 0
        self._sent = 0
        """Number of orders of this epoch."""
        self._room: dict[str, Any] = {}
        self._process = f"{name}-1"
        self._is_ready = False
        self._is_draining = False
        self._node = ""
        self._absent = ""
        """The reason why it has no actor; "" if it has one, or the first one is awaited."""
        self._absent_at = 0.0
        self._is_closed = False

    # --- for the executor ---

    @property
    def capacity(self) -> int:
        return int(self._room.get("capacity", 1))

    @property
    def waits_for_device(self) -> bool:
        return bool(self._absent) or self._is_draining or self._memory.waits_for_device

    @property
    def lost_at(self) -> float:
        return max(self._absent_at, self._memory.lost_at)

    def state(self) -> WorkerState:
        with self._lock:
            memory, problem = self._memory, self._absent or self._memory.problem
            orders = list(self._orders.values())
            last_needs = models_of(orders[-1]) if orders else frozenset[str]()
            return WorkerState(
                self._name, self._process, memory.device or self._device, self._state(problem),
                self._is_free(), memory.models, problem, len(orders), last_needs, self._node,
            )  # fmt: skip

    def _state(self, problem: str) -> State:
        if self._orders:
            return "working" if self._is_ready else "starting"
        if problem:
            return "lost"
        return "idle" if self._is_ready else "not_started"

    def _is_free(self) -> bool:
        if self._absent or not self._room:
            return not self._orders and not self._is_draining
        # The actor tells whether it has room; it has to know of all orders that were sent.
        is_known = self._room["received"] == self._sent
        return is_known and bool(self._room["free"]) and not self._is_draining

    def submit(self, order: Order | Task) -> None:
        with self._lock:
            self._orders[_id_of(order)] = order
            if self._absent or self._is_closed:
                self._end_all("closed" if self._is_closed else "unready", self._absent)
                return
            self._sent += 1
            kind = "order" if isinstance(order, Order) else "task"
            self._tell({kind: asdict(order)})

    def _tell(self, message: ipc.Message) -> None:
        # Without a bridge, its end is about to be noticed, which ends all orders.
        self._send({"worker": self._name, "epoch": self._epoch, **message})

    def cancel(self, job: str) -> None:
        with self._lock:
            if job in self._orders:
                self._tell({"cancel": job})

    def yield_after_stage(self, job: str) -> None:
        with self._lock:
            if job in self._orders:
                self._tell({"rest": job})

    def enforce_timeouts(self) -> None:
        """Nothing to do: its node enforces the limits, and the bridge notices a silent node."""

    def close(self, grace_s: float) -> None:
        """End its orders; the bridge has ended."""
        with self._lock:
            self._is_closed = True
            self._end_all("closed", "the executor was closed")

    # --- messages of the bridge ---

    def take(self, message: ipc.Message) -> None:
        """Learn from a message of the bridge, and pass its event on.

        Raises:
            PipeError: it is no message that a bridge sends.
        """
        with self._lock:
            if "absent" in message:
                self.lose(message["reason"], message["absent"], message["epoch"])
            elif message["epoch"] != self._epoch:
                return
            elif "node" in message:
                self._arrive(message["node"], message["process"])
            elif "room" in message:
                self._room = message["room"]
            elif "draining" in message:
                self._is_draining = True
            else:
                self._take_event(message["event"])

    def lose(self, reason: str, why: str, epoch: int) -> None:
        """Note that it has no actor any more. Its orders end; another worker may take the jobs.

        Args:
            reason: `lost`, or `unready` if there was no actor.
        """
        with self._lock:
            had_actor = bool(self._node)
            self._epoch, self._sent, self._room = epoch, 0, {}
            self._is_ready = self._is_draining = False
            self._absent, self._absent_at = why, time.monotonic()
            self._end_all(reason, why, has_worker=had_actor)
            self._node = ""
            self._memory = WorkerMemory()

    def _end_all(self, reason: str, why: str, *, has_worker: bool = False) -> None:
        """End all orders that it has, each with one event, and the worker if there was one."""
        orders = list(self._orders.values())
        self._orders.clear()
        for task in orders:
            if isinstance(task, Task) and not task.id.startswith(_RETURN):
                self._put_on(TaskFailed(task.id, WorkerCrashed(why).failure().to_dict()))
        jobs = tuple(order.job for order in orders if isinstance(order, Order))
        if jobs or has_worker:
            self._put_on(WorkerEnded(self._process, jobs, reason, why))

    def _arrive(self, node: str, process: str) -> None:
        """Note that it has an actor. After a loss, its worker is started by a task: the event that
        it is ready releases the jobs that wait for a device. A card is tested by the way."""
        was_absent, self._absent = bool(self._absent), ""
        self._node, self._process = node, process
        if was_absent:
            kind = "make_thumbnails" if self._device == "cpu" else "self_test"
            self.submit(Task(f"{_RETURN} {process}", kind))

    def _take_event(self, message: ipc.Message) -> None:
        event = _event_of(message)
        if isinstance(event, WorkerEnded):
            event = replace(event, jobs=tuple(job for job in event.jobs if job in self._orders))
        elif not self._belongs(event):
            return
        if isinstance(event, WorkerReady | ModelsLoaded | Phase | JobFailed | TaskDone):
            self._process = event.worker or self._process
        self._memory.note(event, self._process)
        match event:
            case WorkerReady():
                self._is_ready = True
            case JobDone() | JobFailed():
                del self._orders[event.job]
            case TaskDone() | TaskFailed():
                del self._orders[event.task]
                if event.task.startswith(_RETURN):
                    return
            case WorkerEnded():
                self._is_ready = False
                for job in event.jobs:
                    del self._orders[job]
            case _:
                pass
        self._put_on(event)

    def _belongs(self, event: Event) -> bool:
        """True if the event is about orders that it has, or about none."""
        if isinstance(event, TaskEnd):
            return event.task in self._orders
        job = getattr(event, "job", None)
        return job is None or job in self._orders


def _event_of(message: ipc.Message) -> Event:
    """The event in a message. Raises PipeError."""
    if message.get("event") != WorkerEnded.kind:
        return event_from_message(message)
    fields = {key: value for key, value in message.items() if key != "event"}
    try:
        return replace(WorkerEnded(**fields), jobs=tuple(fields["jobs"]))
    except (TypeError, KeyError) as error:
        raise ipc.PipeError(f"{WorkerEnded.kind}: {error}") from None


def _id_of(order: Order | Task) -> str:
    return order.id if isinstance(order, Task) else order.job
