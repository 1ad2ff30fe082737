"""The self-test of the device, in a worker process of its own."""

from __future__ import annotations

import queue
import tempfile
import time

from dna_pipeline.execution.local_executor import LocalExecutor
from dna_pipeline.execution.protocol import Task, TaskDone, TaskFailed
from dna_pipeline.execution.worker_child import WorkerSettings
from dna_pipeline.operations.doctor.facts import Trial

LIMIT_S = 180.0
"""Time limit. torch takes seconds to import, and a minute from a slow disk."""

_TASK = "self-test"


def run(
    device: str,
    dtype: str,
    limit_s: float = LIMIT_S,
    module: str = "dna_pipeline.execution.worker.process",
) -> Trial:
    """Let a worker choose the device and compute a result that is known.

    The worker gets a data folder of its own, so that it needs not wait for the one of a daemon.

    Args:
        device, dtype: as in `runtime:`.
        module: module of the worker, as for `LocalExecutor`.
    """
    with tempfile.TemporaryDirectory(prefix="dna-doctor-") as data:
        settings = WorkerSettings(device, dtype, data, {}, limit_s, 0, seeks_device=True)
        executor = LocalExecutor(settings, module=module)
        try:
            executor.submit(Task(_TASK, "self_test"))
            return _outcome(executor, time.monotonic() + limit_s, limit_s)
        finally:
            executor.close(0)


def _outcome(executor: LocalExecutor, deadline: float, limit_s: float) -> Trial:
    events = executor.events()
    while True:
        try:
            event = events.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            return Trial(f"the device did not answer within {limit_s:g} s")
        if isinstance(event, TaskDone):
            return Trial("", event.facts | {"seconds": event.seconds})
        if isinstance(event, TaskFailed):
            return Trial(str(event.failure["detail"] or event.failure["message"]))
