"""What a worker does about too little memory, and about a device that it cannot trust."""

import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest

from dna_pipeline.base import ipc
from dna_pipeline.base.errors import DeviceUnavailable
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    ModelsLoaded,
    Order,
    Phase,
    StageDone,
    StageOrder,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.execution.worker import device
from dna_pipeline.providers.base import Device
from tests import fork_server
from tests.integration.acting import Bench, stage

pytestmark = pytest.mark.slow


@pytest.fixture
def torch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """For workers that are forked by what has imported torch, which takes each two seconds."""
    monkeypatch.setattr(ipc, "spawn", ipc.spawn)  # to be put back
    fork_server.heavy().serve_this_process()


LIAR = """
import os
if os.path.exists({flag!r}):
    import torch
    torch.Tensor.exp = lambda self: self * float("nan")
"""


def failure_of(events: list[Event]) -> tuple[str, bool]:
    """Code and hold of the failure that ended a job."""
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    return failed.failure["code"], failed.hold


def test_where_memory_runs_out_the_stage_runs_again_with_less(shared_bench: Bench):
    events = shared_bench.run("squeeze", room=1)
    assert events[-1] == JobDone("j")
    (done,) = [event for event in events if isinstance(event, StageDone)]
    assert len(done.warnings) == 2
    assert "Memory ran out" in done.warnings[0]
    assert "try number 2" in done.warnings[0]
    assert done.warnings[1] == "thrift 1"


def test_where_it_runs_out_again_the_job_fails(shared_bench: Bench):
    failed = shared_bench.run("squeeze", room=2)[-1]
    assert isinstance(failed, JobFailed)
    assert failed.failure["code"] == "out_of_memory"
    assert "at thrift 1" in failed.failure["detail"]


@pytest.mark.usefixtures("torch_is_there")
def test_after_a_fault_the_device_is_checked_before_it_is_trusted(plugin: Path, tmp_path: Path):
    bench = Bench(tmp_path / "bench", models=toy(tmp_path))
    flag = tmp_path / "liar"
    (plugin / "sitecustomize.py").write_text(LIAR.format(flag=str(flag)))
    flag.touch()
    assert bench.run("burn", job="a")[-1] == JobFailed(
        "a", *_burnt(), poisoned=True, worker="local-1"
    )
    failed = bench.run("copy", job="b")[-1]
    assert isinstance(failed, JobFailed)
    assert (failed.failure["code"], failed.hold) == ("device_unavailable", True)
    assert "known" in failed.failure["detail"]
    flag.unlink()
    assert bench.run("copy", job="b")[-1] == JobDone("b")
    bench.executor.close(5)


def _burnt() -> tuple[dict[str, object], str]:
    from dna_pipeline.base.errors import StageFailed

    detail = "RuntimeError: CUDA error: an illegal memory access was encountered"
    return StageFailed(detail).failure().to_dict(), "act"


OUT_OF_MEMORY = [
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ("AcceleratorError", "CUDA error: out of memory\nCUDA kernel errors might be asynchronously"),
    ("OutOfMemoryError", "HIP out of memory. Tried to allocate 20.00 MiB"),
    ("RuntimeError", "MPS backend out of memory (MPS allocated: 16.00 GB)"),
]


@pytest.mark.parametrize(("error", "text"), OUT_OF_MEMORY, ids=[t[:24] for _, t in OUT_OF_MEMORY])
def test_a_device_without_memory_gets_less_to_do(shared_bench: Bench, error: str, text: str):
    events = shared_bench.run("starve", error=error, text=text)
    assert events[-1] == JobDone("j")
    (done,) = [event for event in events if isinstance(event, StageDone)]
    assert ["Memory ran out" in warning for warning in done.warnings] == [True]
    failed = shared_bench.run("starve", error=error, text=text, room=9)[-1]
    assert isinstance(failed, JobFailed)
    assert (failed.failure["code"], failed.poisoned) == ("out_of_memory", False)


FAULTS = [
    ("AcceleratorError", "CUDA error: unspecified launch failure"),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
]


@pytest.mark.parametrize(("error", "text"), FAULTS)
def test_a_device_that_fails_ends_its_worker(shared_bench: Bench, error: str, text: str):
    failed = shared_bench.run("burn", error=error, text=text)[-1]
    assert isinstance(failed, JobFailed)
    assert (failed.poisoned, failed.hold) == (True, False)
    assert text in failed.failure["detail"]
    again = shared_bench.run("copy", job="next")
    assert isinstance(again[0], WorkerEnded | WorkerReady)
    assert again[-1] == JobDone("next")


GPU = """
import os
if os.path.exists({flag!r}):
    import torch
    torch.cuda.is_available = lambda: True
    torch.cuda.set_device = lambda number: None
    torch.cuda.device_count = lambda: 1
    torch.cuda.get_device_name = lambda *_: "NVIDIA H200"
    torch.cuda.empty_cache = lambda: None
    move = torch.Tensor.to
    torch.Tensor.to = lambda self, device, *rest: move(self, "cpu", *rest)
"""


@pytest.mark.usefixtures("torch_is_there")
@pytest.mark.parametrize("fault", ["burn", "segfault"])
def test_a_gpu_that_is_gone_is_waited_for(plugin: Path, tmp_path: Path, fault: str):
    """`device: auto` must not go on on the CPU where a GPU was."""
    flag = tmp_path / "gpu"
    (plugin / "sitecustomize.py").write_text(GPU.format(flag=str(flag)))
    flag.touch()
    bench = Bench(tmp_path / "bench", device="auto", models=toy(tmp_path))
    try:
        assert devices_in(bench.run("copy")) == ["cuda:0"]
        bench.run(fault)
        flag.unlink()
        for _ in range(2):
            events = bench.run("copy")
            assert failure_of(events) == ("device_unavailable", True)
            assert devices_in(events) == []
            sentence = events[-1].failure["detail"]
            assert sentence.startswith("cuda:0 (NVIDIA H200) computed for this daemon and is gone")
            assert "only cpu is found" in sentence
            assert "set `runtime.device: cpu`" in sentence
        flag.touch()
        events = bench.run("copy")
        assert (devices_in(events), events[-1]) == (["cuda:0"], JobDone("j"))
    finally:
        bench.executor.close(5)


@pytest.mark.usefixtures("torch_is_there")
def test_a_gpu_that_comes_later_is_taken(plugin: Path, tmp_path: Path):
    flag = tmp_path / "gpu"
    (plugin / "sitecustomize.py").write_text(GPU.format(flag=str(flag)))
    bench = Bench(tmp_path / "bench", device="auto", models=toy(tmp_path))
    try:
        assert devices_in(bench.run("copy")) == ["cpu"]
        bench.run("leave")
        flag.touch()
        assert devices_in(bench.run("copy")) == ["cuda:0"]
        bench.run("leave")
        flag.unlink()
        assert failure_of(bench.run("copy")) == ("device_unavailable", True)
    finally:
        bench.executor.close(5)


def toy(folder: Path) -> dict[str, dict[str, str]]:
    """A model that needs a device."""
    return {"toy": {"provider": "toy", "log": str(folder / "toy.log")}}


def devices_in(events: list[Event]) -> list[str]:
    """Devices of the workers that became ready."""
    return [event.device for event in events if isinstance(event, WorkerReady)]


@pytest.mark.parametrize(
    ("seen", "found", "is_refused"),
    [
        (None, "cpu", False), ("cpu", "cpu", False), ("cpu", "cuda:0", False),
        ("cuda:0", "cuda:0", False), ("cuda:0", "cpu", True), ("mps", "cpu", True),
        ("cuda:0", "mps", True), ("mps", "cuda:0", False),
    ],
)  # fmt: skip
def test_a_slower_kind_of_device_is_refused(seen: str | None, found: str, is_refused: bool):
    refusal = pytest.raises(DeviceUnavailable) if is_refused else nullcontext()
    with refusal:
        device.refuse_worse(Device(found, "float32"), seen, None)


BROKEN = """
import sys
sys.modules["torch"] = None
print("libcudart.so.12: cannot open shared object file", file=sys.stderr)
"""


def test_a_worker_that_cannot_start_blames_no_job(plugin: Path, tmp_path: Path):
    """A broken driver or installation ends each one before it is ready."""
    bench = Bench(tmp_path / "bench", models=toy(tmp_path))
    (plugin / "sitecustomize.py").write_text(BROKEN)
    for _ in range(2):
        ended = bench.run("copy")[-1]
        assert isinstance(ended, WorkerEnded)
        assert ended.reason == "unready"
        assert "exit status 1 before it was ready: " in ended.detail
        assert ended.detail.endswith(
            "ModuleNotFoundError: import of torch halted; None in sys.modules"
        )
    (plugin / "sitecustomize.py").unlink()
    assert bench.run("copy")[-1] == JobDone("j")
    bench.executor.close(5)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_worker_without_a_model_for_a_device_needs_no_torch(
    plugin: Path, tmp_path: Path, device: str
):
    (plugin / "sitecustomize.py").write_text(BROKEN)
    bench = Bench(tmp_path / "bench", device=device, models={"matte": {"provider": "border_key"}})
    try:
        events = bench.run("copy")
        assert (devices_in(events), events[-1]) == (["cpu"], JobDone("j"))
    finally:
        bench.executor.close(5)


def test_a_worker_that_cannot_even_be_made(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    ended = bench.run("copy")[-1]
    assert isinstance(ended, WorkerEnded)
    assert (ended.reason, ended.jobs) == ("unready", ("j",))
    assert "no worker can be started" in ended.detail
    monkeypatch.undo()


def test_a_sound_device_passes_the_check():
    device.self_test(Device("cpu", "float32"))


def test_facts_of_a_gpu(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: (3, 8))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: f"a card at {name}")
    gpu = Device("cuda:1", "float16")
    assert device.facts(gpu) == {
        "name": "cuda:1", "dtype": "float16", "gpu": "a card at cuda:1", "free_bytes": 3,
        "total_bytes": 8,
    }  # fmt: skip

    def refuse(name: str) -> tuple[int, int]:
        raise RuntimeError("not supported")

    monkeypatch.setattr(torch.cuda, "mem_get_info", refuse)
    assert device.facts(gpu) == {"name": "cuda:1", "dtype": "float16"}


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1.01, 0.0])
def test_a_wrong_answer_is_noticed(monkeypatch: pytest.MonkeyPatch, wrong: float):
    import torch

    exp = torch.Tensor.exp

    def lie(self: torch.Tensor) -> torch.Tensor:
        right = exp(self)
        return right if self.dtype == torch.float64 else right * wrong

    monkeypatch.setattr(torch.Tensor, "exp", lie)
    with pytest.raises(DeviceUnavailable, match="known"):
        device.self_test(Device("cpu", "float32"))


@pytest.mark.usefixtures("torch_is_there")
def test_models_leave_the_device_when_there_is_no_work(tmp_path: Path, plugin: Path):
    log = tmp_path / "loads"
    models = {"toy": {"provider": "toy", "log": str(log)}}
    bench = Bench(tmp_path / "b", models=models, idle_unload_s=1.0)
    try:
        for job in ("a", "b"):
            assert bench.run("copy", job=job, model="toy", steps=1)[-1] == JobDone(job)
        assert log.read_text() == "loaded\n"
        time.sleep(2.5)
        events = bench.run("copy", job="c", model="toy")
        assert events[-1] == JobDone("c")
        loaded = [event for event in events if isinstance(event, ModelsLoaded)]
        assert [[(m.name, m.state, m.device) for m in event.models] for event in loaded] == [
            [], [("toy", "loading", "cpu")], [("toy", "loaded", "cpu")],
        ]  # fmt: skip
        assert {event.worker for event in loaded} == {"local-1"}
        assert log.read_text() == "loaded\n" * 2
    finally:
        bench.executor.close(5)


def test_a_worker_that_never_comes_to_a_stage_is_ended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    bench.run("copy", job="before")
    monkeypatch.setattr("dna_pipeline.execution.worker_child.START_LIMIT_S", 3.0)
    bench.executor.submit(bench.order(StageOrder("slow", "slow", {}, "pic")))
    ended = bench.until_end("j")[-1]
    assert isinstance(ended, WorkerEnded)
    assert ended.reason == "timeout"
    assert "before its first stage" in ended.detail


def test_a_worker_that_hangs_before_it_is_ready_blames_no_job(
    bench: Bench, plugin: Path, monkeypatch: pytest.MonkeyPatch
):
    (plugin / "sitecustomize.py").write_text("import time; time.sleep(3600)")
    monkeypatch.setattr("dna_pipeline.execution.worker_child.START_LIMIT_S", 1.0)
    ended = bench.run("copy")[-1]
    assert isinstance(ended, WorkerEnded)
    assert ended.reason == "unready"
    assert "it said nothing" in ended.detail


def test_a_job_that_is_to_rest_is_given_back_between_stages(shared_bench: Bench):
    two = (stage("copy", "one", steps=20, seconds=0.1), stage("copy", "two"))
    order = shared_bench.order(*two)
    shared_bench.executor.submit(order)
    while not isinstance(shared_bench.executor.events().get(timeout=60), Phase):
        pass
    shared_bench.executor.yield_after_stage("j")
    events = shared_bench.until_end("j")
    assert failure_of(events) == ("hours", True)
    (one,) = [event for event in events if isinstance(event, StageDone)]
    message = asdict(order)
    message["stages"][0]["done"] = [asdict(file) for file in one.artifacts]
    shared_bench.executor.submit(Order.from_message(message))
    assert shared_bench.until_end("j")[-1] == JobDone("j"), (
        "an old wish does not bind the next attempt"
    )


@pytest.mark.usefixtures("torch_is_there")
def test_other_models_leave_where_memory_runs_out(tmp_path: Path, plugin: Path):
    logs = {name: tmp_path / name for name in ("a", "b")}
    models = {name: {"provider": "toy", "log": str(log)} for name, log in logs.items()}
    bench = Bench(tmp_path / "bench", models=models)
    try:
        for deed, model in (("copy", "a"), ("squeeze", "b"), ("copy", "a"), ("copy", "b")):
            assert bench.run(deed, model=model, steps=1, reuse="off")[-1] == JobDone("j")
        loads = {name: log.read_text().count("loaded") for name, log in logs.items()}
        assert loads == {"a": 2, "b": 1}
    finally:
        bench.executor.close(5)


def test_a_device_that_refuses_the_check_is_not_there(monkeypatch: pytest.MonkeyPatch):
    import torch

    def refuse(self: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.Tensor, "exp", refuse)
    with pytest.raises(DeviceUnavailable, match="failed its self-test"):
        device.self_test(Device("cpu", "float32"))
