"""Tasks: orders that are no jobs."""

from __future__ import annotations

import time

from dna_pipeline.execution.protocol import Task, TaskDone, TaskFailed
from dna_pipeline.execution.worker import device
from dna_pipeline.execution.worker.runner import WorkerContext, failure_of


def run(task: Task, context: WorkerContext) -> None:
    """Do a task; emit exactly one TaskDone or TaskFailed at its end."""
    started = time.monotonic()
    try:
        if task.kind == "self_test":
            device.self_test(context.models.device)
        else:
            context.models.get(task.model)
    except Exception as error:
        context.emit(TaskFailed(task.id, failure_of(error).to_dict()))
    else:
        context.emit(TaskDone(task.id, time.monotonic() - started))
