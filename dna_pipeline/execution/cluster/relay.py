"""The actor on a node: it hosts the worker process there, and hands its events on.

The worker is a `LocalExecutor`, so that its crashes, time limits, self-tests and cancels are
handled as those of a local one. The process ends with its actor, since its pipe ends then.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import Empty
from typing import Any

from dna_pipeline import __version__
from dna_pipeline.base.files import remove_tree
from dna_pipeline.base.ipc import Message
from dna_pipeline.base.layout import ATTEMPTS
from dna_pipeline.base.logs import configure_child
from dna_pipeline.execution.cluster import api, files
from dna_pipeline.execution.local_executor import LocalExecutor
from dna_pipeline.execution.protocol import Event, Order, Task, WorkerEnded, event_to_message
from dna_pipeline.execution.worker_child import THREAD_VARIABLES, WorkerSettings

TICK_S = 1.0
LEFTOVER_S = 3 * 86400.0
"""Age from which the folder of an attempt counts as left over by an actor that was killed."""

EVENTS = "events"
"""Group of the calls that the events' thread makes; all others come from the orders' thread."""


class Relay:
    """Runs orders on its node by a `LocalExecutor`, and keeps their events until they are taken.

    Args:
        settings: as plain values, those of the worker.
        name: of the worker, as for `LocalExecutor`.
        module: of the worker's process.
        witness: a file in the data folder that this node has to see, with `work_dir: shared`; ""
            with `work_dir: transfer`.

    Raises:
        FileNotFoundError: the node does not see the witness.
    """

    def __init__(self, settings: dict[str, Any], name: str, module: str, witness: str) -> None:
        configure_child()
        for variable in THREAD_VARIABLES:  # Ray sets one of them for its own tasks
            os.environ.pop(variable, None)
        own = WorkerSettings(**settings)
        self._attempts = Path(own.data, ATTEMPTS)
        self._is_shared = witness != ""
        if witness and not Path(witness).exists():
            raise FileNotFoundError(
                f"the node does not see the data folder {own.data}; mount it there at the same "
                "path, or set runtime.ray.work_dir: transfer"
            )
        self._attempts.mkdir(parents=True, exist_ok=True)
        if not self._is_shared:
            _remove_leftovers(self._attempts)
        self._open: set[str] = set()
        """Attempts whose folders are there."""
        self._received = 0
        self._change = threading.Condition()
        self._pending: deque[tuple[int, Message]] = deque()
        self._number = 0
        self._version = 0
        """Number of changes, so that a call of `poll` misses none."""
        self._last_room: dict[str, Any] = {}
        self._executor = LocalExecutor(own, self._collect, module, name)
        threading.Thread(target=self._tick, name="ticks", daemon=True).start()

    def about(self) -> dict[str, Any]:
        """Facts about this process: its node's id and its version of the program."""
        return {"node": api.own_node(), "version": __version__}

    # --- events ---

    def _collect(self) -> None:
        """Number the events that have come; called from any thread after each."""
        with self._change:
            with suppress(Empty):
                while True:
                    event = self._executor.events().get_nowait()
                    self._number += 1
                    self._pending.append((self._number, _message_of(event)))
            self._version += 1
            self._change.notify_all()

    def poll(self, after: int, wait_s: float) -> dict[str, Any]:
        """Wait for events, and for a change of the room for orders.

        Args:
            after: number of the last event that the caller has; older ones are forgotten.

        Returns:
            `events`, each with its number, and `room`: whether another order may come, how many at
            once, and how many have come.
        """
        deadline = time.monotonic() + wait_s
        while True:
            with self._change:
                version = self._version
                while self._pending and self._pending[0][0] <= after:
                    self._pending.popleft()
                events = list(self._pending)
            # Asked after the events were taken, so that the room that their ends leave is counted;
            # and without the lock, since the executor calls `_collect` while it holds its own.
            room = self._room()
            left = deadline - time.monotonic()
            if events or room != self._last_room or left <= 0:
                self._last_room = room
                return {"events": events, "room": room}
            with self._change:
                if version == self._version:
                    self._change.wait(left)

    def _room(self) -> dict[str, Any]:
        state = self._executor.state()
        capacity = self._executor.capacity
        return {"free": state.is_free, "capacity": capacity, "received": self._received}

    def _tick(self) -> None:
        while True:
            time.sleep(TICK_S)
            self._executor.enforce_timeouts()

    # --- orders ---

    def store(self, attempt: str, target: str, piece: bytes, is_first: bool) -> None:
        """Write a piece of a file that comes with an order."""
        self._open.add(attempt)
        files.append(self._attempts / attempt / target, piece, is_first=is_first)

    def check(self, attempt: str, target: str, sha256: str) -> bool:
        """True if a file has arrived as it was sent."""
        try:
            files.check_arrival(self._attempts / attempt / target, sha256)
        except files.Damaged:
            return False
        return True

    def run_order(self, attempt: str, message: Message) -> None:
        """Start an attempt at a job; its files have come before, unless both sides see them."""
        folder = self._attempts / attempt
        self._open.add(attempt)
        folder.mkdir(parents=True, exist_ok=True)
        order = Order.from_message(message)
        if self._is_shared:
            files.link_finished(order, folder)
        self._submit(files.placed(order, folder, with_inputs=not self._is_shared))

    def skip_order(self, attempt: str) -> None:
        """Count an order that was taken back before it began."""
        self.forget(attempt)
        self._count()

    def run_task(self, message: Message) -> None:
        """Start a task."""
        self._submit(Task.from_message(message))

    def _submit(self, order: Order | Task) -> None:
        self._executor.submit(order)
        self._count()

    def _count(self) -> None:
        with self._change:
            self._received += 1
            self._version += 1
            self._change.notify_all()

    def cancel(self, job: str) -> None:
        self._executor.cancel(job)

    def yield_after_stage(self, job: str) -> None:
        self._executor.yield_after_stage(job)

    def read(self, attempt: str, stage: str, name: str, offset: int) -> bytes:
        """A piece of a file that a stage has made."""
        return files.read_chunk(self._attempts / attempt / files.WORK / stage / name, offset)

    def forget(self, attempt: str) -> None:
        """Remove the folder of an attempt that has ended."""
        remove_tree(self._attempts / attempt, ignore_errors=True)
        self._open.discard(attempt)

    def close(self, grace_s: float) -> None:
        """End the worker process, as `LocalExecutor.close` does, and remove its files."""
        self._executor.close(grace_s)
        for attempt in list(self._open):
            self.forget(attempt)


def _message_of(event: Event) -> Message:
    """An event as plain values, the end of a worker too."""
    if isinstance(event, WorkerEnded):
        return {"event": event.kind, **asdict(event), "jobs": list(event.jobs)}
    return event_to_message(event)


def _remove_leftovers(folder: Path) -> None:
    """Remove the folders of attempts of long ago."""
    oldest = time.time() - LEFTOVER_S
    for path in folder.iterdir():
        with suppress(OSError):
            if path.is_dir() and path.stat().st_mtime < oldest:
                remove_tree(path, ignore_errors=True)
