"""Tasks: orders that are no jobs."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dna_pipeline.base.errors import DeviceUnavailable, JobError
from dna_pipeline.execution.protocol import (
    SheetOrder,
    Task,
    TaskDone,
    TaskFailed,
    ThumbnailOrder,
)
from dna_pipeline.execution.worker import device
from dna_pipeline.execution.worker.context import WorkerContext
from dna_pipeline.execution.worker.lanes import FIRST
from dna_pipeline.execution.worker.runner import failure_of
from dna_pipeline.providers.base import Device
from dna_pipeline.providers.device_errors import is_device_fault

T = TypeVar("T")


def run(task: Task, context: WorkerContext) -> None:
    """Do a task; emit exactly one TaskDone or TaskFailed at its end."""
    started = time.monotonic()
    try:
        facts = _do(task, context)
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


def _do(task: Task, context: WorkerContext) -> dict[str, Any]:
    """Do the task; give its facts."""
    match task.kind:
        case "self_test":
            return _on_device(lambda: _tested(context.models.device), context)
        case "load_model":
            _on_device(lambda: context.models.get(task.model), context)
            return {}
        case "make_thumbnails":
            return {"failed": [order.source for order in task.thumbnails if not _make(order)]}
        case "draw_sheet":
            assert task.sheet is not None
            _draw(task.sheet)
            return {}


def _tested(place: Device) -> dict[str, Any]:
    device.self_test(place)
    return device.facts(place)


def _on_device(work: Callable[[], T], context: WorkerContext) -> T:
    """Do some work before the jobs that wait for the device, since people wait for a task."""
    return context.device.take(work, FIRST, lambda: None, lambda: None)


def _make(order: ThumbnailOrder) -> bool:
    """Make a thumbnail; False if the picture cannot be read, or was removed meanwhile."""
    from dna_pipeline.media.thumbnails import make_thumbnail

    try:
        make_thumbnail(Path(order.source), Path(order.target))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    except (JobError, ValueError):
        return False
    return True


def _draw(order: SheetOrder) -> None:
    from dna_pipeline.media import contact_sheet

    target = Path(order.target)
    target.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet.draw(target, order.title, order.cells, order.columns)
