"""What a worker's events say of its device and its models."""

from __future__ import annotations

from typing import Any

from dna_pipeline.base.errors import DeviceUnavailable
from dna_pipeline.execution.protocol import (
    JobFailed,
    ModelsLoaded,
    TaskFailed,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.execution.worker_state import MAX_REST_S, WorkerMemory
from tests.played_workers import loaded_model

LOST: dict[str, Any] = {"code": DeviceUnavailable.code, "message": "m", "detail": "it is gone"}


def ready(gpu: str | None = None) -> WorkerReady:
    return WorkerReady("cuda:1", "float16", {"gpu": gpu}, "w2-1")


def test_models_go_with_their_process():
    memory = WorkerMemory()
    memory.note(ready("H200"), "w2-1")
    assert (memory.device, memory.gpu) == ("cuda:1", "H200")
    models = (loaded_model("sd15"), loaded_model("matte"))
    memory.note(ModelsLoaded(models, "w2-1"), "w2-1")
    assert memory.models == models
    memory.note(WorkerEnded("w2-0", (), "poisoned", "it ended"), "w2-1")
    assert memory.models == models, "an older process ended"
    memory.note(WorkerEnded("w2-1", (), "crash", "it ended"), "w2-1")
    assert (memory.models, memory.problem) == ((), "")
    assert (memory.device, memory.gpu) == ("cuda:1", "H200"), "the next process gets no worse one"


def test_a_worker_without_its_device_rests_longer_each_time():
    clock = [100.0]
    memory = WorkerMemory(now=lambda: clock[0])
    assert not memory.waits_for_device
    rests: list[float] = []
    for number in range(10):
        if number % 2:
            memory.note(TaskFailed("t", LOST, poisoned=True), "w")
        else:
            memory.note(JobFailed("j", LOST, hold=True, poisoned=True, worker="w"), "w")
        begun = clock[0]
        while memory.waits_for_device:
            clock[0] += 1.0
        rests.append(clock[0] - begun)
    assert rests[:4] == [2, 4, 8, 16]
    assert rests[-1] == MAX_REST_S
    assert memory.problem == "it is gone"
    memory.note(ready(), "w")
    assert (memory.problem, memory.waits_for_device) == ("", False)


def test_a_process_that_ends_before_it_is_ready_has_no_device():
    memory = WorkerMemory()
    memory.note(WorkerEnded("w-1", ("j",), "unready", "it said nothing"), "w-1")
    assert (memory.problem, memory.waits_for_device) == ("it said nothing", True)


def test_a_job_that_fails_says_nothing_of_the_device():
    memory = WorkerMemory()
    memory.note(JobFailed("j", {"code": "out_of_memory"}, poisoned=True), "w")
    memory.note(JobFailed("j", LOST, hold=True), "w")
    assert memory.problem == ""
