"""The executor whose workers are on the machines of a Ray cluster.

The daemon never imports Ray. It starts the bridge, `execution/cluster/bridge.py`, which does, and
which may end at any time: a driver of Ray ends with its raylet. Then all jobs are interrupted, and
another bridge is started.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog

from dna_pipeline.base import ipc
from dna_pipeline.base.logs import relay
from dna_pipeline.execution.local_executor import LocalExecutor
from dna_pipeline.execution.local_workers import Workers, worker_names
from dna_pipeline.execution.protocol import Event, Order, Task, TaskDone, TaskFailed
from dna_pipeline.execution.ray_worker import LOST, RayWorker
from dna_pipeline.execution.worker_child import KILL_WAIT_S, WorkerSettings

log = structlog.get_logger()

BRIDGE = "dna_pipeline.execution.cluster.bridge"

SILENCE_S = 60.0
"""Time after which a bridge that says nothing is killed."""

CONNECT_LIMIT_S = 120.0
"""The same before it is connected."""

FIRST_REST_S = 2.0
"""Time from the end of a bridge to the next one, doubled after each that did not connect."""

MAX_REST_S = 30.0

PICTURES = ("make_thumbnails", "draw_sheet")
"""Tasks that a worker on this machine does: only this one may see the outbox."""


@dataclass(frozen=True, slots=True)
class RaySettings:
    """How to reach the cluster.

    Attributes:
        address: `auto` for the one of this machine, or `HOST:PORT` of its head.
        transfers: files are carried through Ray, since nodes do not see the data folder.
    """

    address: str = "auto"
    transfers: bool = False


class RayExecutor(Workers):
    """Workers on the nodes of a Ray cluster, each an actor with a worker process.

    Args:
        settings: those of each worker.
        ray: how to reach the cluster.
        wake, module: as for `LocalExecutor`.
        bridge: the module of the bridge.
    """

    def __init__(
        self,
        settings: Sequence[WorkerSettings],
        ray: RaySettings,
        wake: Callable[[], None] = lambda: None,
        module: str = "dna_pipeline.execution.worker.process",
        bridge: str = BRIDGE,
    ) -> None:
        self._wake = wake
        names = worker_names(len(settings))
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._ray_workers = {
            name: RayWorker(name, each.device, self._send, self._put)
            for name, each in zip(names, settings, strict=True)
        }
        super().__init__(self._ray_workers, events)
        self._bridge_module = bridge
        self._bridge_settings: dict[str, Any] = {
            "address": ray.address, "transfers": ray.transfers, "module": module,
            "data": settings[0].data,
            "workers": dict(zip(names, [asdict(_on_node(s, ray)) for s in settings], strict=True)),
        }  # fmt: skip
        self._pictures = PictureWorker(settings[0], len(settings) + 1, module, self._put)
        self._lock = threading.Lock()
        self._bridge: _Bridge | None = None
        self._failures = 0
        self._next_start = 0.0
        self._is_closed = False
        self._start_bridge()

    def _put(self, event: Event) -> None:
        self._events.put(event)
        self._wake()

    def submit(self, order: Order | Task, among: Collection[str] | None = None) -> None:
        if isinstance(order, Task) and order.kind in PICTURES:
            self._pictures.submit(order)
        else:
            super().submit(order, among)

    def enforce_timeouts(self) -> None:
        """End a bridge that is silent; start another one if there is none."""
        self._pictures.enforce_timeouts()
        now = time.monotonic()
        with self._lock:
            bridge = self._bridge
            if bridge is None and not self._is_closed and now >= self._next_start:
                self._start_bridge()
            elif bridge is not None and now - bridge.heard_at > bridge.silence_s:
                log.error("ray.silent", seconds=bridge.silence_s)
                bridge.kill()

    def close(self, grace_s: float) -> None:
        with self._lock:
            self._is_closed = True
            bridge = self._bridge
        closing = threading.Thread(target=self._pictures.close, args=(grace_s,), name="close")
        closing.start()
        if bridge is not None:
            bridge.close(grace_s)
        super().close(grace_s)
        closing.join()

    # --- the bridge ---

    def _start_bridge(self) -> None:
        """Start the process; if that fails, it is tried again later."""
        try:
            self._bridge = _Bridge(self._bridge_module, self._bridge_settings, self)
        except OSError as error:
            self._rest(f"the process that speaks to Ray cannot be started: {error}")

    def _send(self, message: ipc.Message) -> bool:
        if (bridge := self._bridge) is None:
            return False
        bridge.send(message)
        return True

    def take(self, message: ipc.Message) -> None:
        """Take a message of the bridge. Raises PipeError."""
        if "worker" in message:
            self._failures = 0
            self._ray_workers[message["worker"]].take(message)
            self._wake()

    def bridge_ended(self, why: str) -> None:
        """Note the end of the bridge: all actors end with it, and their jobs are interrupted."""
        with self._lock:
            self._bridge = None
            if self._is_closed:
                return
            self._rest(why)
        self._wake()

    def _rest(self, why: str) -> None:
        rest_s = min(FIRST_REST_S * 2**self._failures, MAX_REST_S)
        log.error("ray.lost", why=why, next_try_s=rest_s)
        self._next_start = time.monotonic() + rest_s
        self._failures += 1
        for worker in self._ray_workers.values():
            worker.lose(LOST, why, 0)


def _on_node(settings: WorkerSettings, ray: RaySettings) -> WorkerSettings:
    """The settings of a worker as its node gets them. Ray gives each actor cards of its own, the
    first of which is `cuda:0` there. Nobody removes old results from a node's own data folder, so
    none are kept there."""
    return replace(settings, keeps_results=settings.keeps_results and not ray.transfers)


class _Bridge:
    """The running bridge process.

    Attributes:
        heard_at: time of its last message.
    """

    def __init__(self, module: str, settings: dict[str, Any], owner: RayExecutor) -> None:
        self._owner = owner
        self._last_lines: deque[str] = deque(maxlen=2)
        self._has_spoken = False
        self.heard_at = time.monotonic()
        self._process = ipc.spawn(module, {"RAY_USAGE_STATS_ENABLED": "0"} | dict(os.environ))
        assert self._process.stdin
        self._stderr = ipc.follow_stderr(self._process, self._watch)
        self._writer = ipc.QueuedWriter(self._process.stdin)
        self._writer.send(settings)
        self._reader = threading.Thread(target=self._read, name="ray-events", daemon=True)
        self._reader.start()

    @property
    def silence_s(self) -> float:
        """Time that it may say nothing."""
        return SILENCE_S if self._has_spoken else CONNECT_LIMIT_S

    def send(self, message: ipc.Message) -> None:
        self._writer.send(message)

    def kill(self) -> None:
        self._process.kill()

    def close(self, grace_s: float) -> None:
        """Have it end its workers; kill it where it does not end in time."""
        self._writer.send({"close": grace_s})
        self._writer.close()
        try:
            self._process.wait(grace_s + 1)
        except Exception:
            ipc.end(self._process, KILL_WAIT_S)
        self._reader.join(KILL_WAIT_S)

    def _watch(self, line: str) -> None:
        if line.strip() and not line.startswith("{"):
            self._last_lines.append(line.strip())
        relay(line)

    def _read(self) -> None:
        assert self._process.stdout
        fault = ""
        try:
            for message in ipc.messages(self._process.stdout):
                self.heard_at, self._has_spoken = time.monotonic(), True
                self._owner.take(message)
        except Exception as error:
            fault = f"it sent {error}"
            self.kill()
        code = self._process.wait()
        self._process.stdout.close()
        self._writer.close()
        self._stderr.join(KILL_WAIT_S)
        # One that could not connect says why. What Ray prints before an abort is for its makers.
        words = " ".join(self._last_lines) if code > 0 else ""
        words = fault or words or f"its process {ipc.how_it_ended(code)}"
        self._owner.bridge_ended(f"the connection to Ray ended: {words}")


class PictureWorker:
    """Draws thumbnails and contact sheets on this machine, one task after another."""

    def __init__(
        self, settings: WorkerSettings, number: int, module: str, put: Callable[[Event], None]
    ) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._waiting: deque[Task] = deque()
        self._is_busy = False
        self._executor = LocalExecutor(
            replace(
                settings, device="cpu", models={}, checkpoints=None, number=number, threads=1,
                keeps_results=False,
            ),
            self._collect, module, "pictures",
        )  # fmt: skip

    def submit(self, task: Task) -> None:
        """Do a task once those before it are done."""
        with self._lock:
            self._waiting.append(task)
        self._next()

    def _next(self) -> None:
        with self._lock:
            if self._is_busy or not self._waiting:
                return
            self._is_busy = True
            task = self._waiting.popleft()
        self._executor.submit(task)

    def _collect(self) -> None:
        """Pass the ends of tasks on: all else is of no interest to the daemon."""
        while True:
            try:
                event = self._executor.events().get_nowait()
            except queue.Empty:
                return
            if isinstance(event, TaskDone | TaskFailed):
                self._put(event)
                with self._lock:
                    self._is_busy = False
                threading.Thread(target=self._next, name="pictures", daemon=True).start()

    def enforce_timeouts(self) -> None:
        self._executor.enforce_timeouts()

    def close(self, grace_s: float) -> None:
        self._executor.close(grace_s)
