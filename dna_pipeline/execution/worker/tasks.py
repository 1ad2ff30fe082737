"""Tasks: orders that are no jobs."""

from __future__ import annotations

import time
from typing import Any

from dna_pipeline.base.errors import DeviceUnavailable
from dna_pipeline.execution.protocol import Task, TaskDone, TaskFailed
from dna_pipeline.execution.worker import device
from dna_pipeline.execution.worker.runner import WorkerContext, failure_of
from dna_pipeline.providers.device_errors import is_device_fault


def run(task: Task, context: WorkerContext) -> None:
    """Do a task; emit exactly one TaskDone or TaskFailed at its end."""
    started = time.monotonic()
    facts: dict[str, Any] = {}
    try:
        if task.kind == "self_test":
            device.self_test(context.models.device)
            facts = device.facts(context.models.device)
        else:
            context.models.get(task.model)
    except Exception as error:
        # As after a job: a process whose device failed must not compute the next one.
        is_fault = is_device_fault(error) or isinstance(error, DeviceUnavailable)
        failure = failure_of(error, is_fault=is_fault).to_dict()
        # The frames of the error would keep what was loaded of a model that did not fit.
        error.__traceback__ = None
        if not is_fault:
            context.release_memory()
        context.emit(TaskFailed(task.id, failure, poisoned=is_fault))
    else:
        context.emit(TaskDone(task.id, time.monotonic() - started, facts))
