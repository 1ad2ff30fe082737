"""The seam with a real worker process, driven through stages of another package."""

import hashlib
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from dna_pipeline.execution import worker_child as executors
from dna_pipeline.execution.local_executor import LocalExecutor
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    Order,
    OrderInput,
    Progress,
    StageDone,
    StageOrder,
    Task,
    TaskDone,
    TaskFailed,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.execution.worker_child import WorkerSettings
from tests.integration.acting import Bench, ends_order, kinds, stage

pytestmark = pytest.mark.slow


def test_a_job_is_done_and_its_files_told(bench: Bench, tmp_path: Path):
    events = bench.run("copy")
    assert kinds(events)[0] == "ready"
    assert kinds(events)[-2:] == ["stage_done", "job_done"]
    done = next(event for event in events if isinstance(event, StageDone))
    (file,) = done.artifacts
    path = tmp_path / "work/j/act" / file.path
    assert path.read_bytes() == b"pixelscopy"
    assert file.sha256 == hashlib.sha256(b"pixelscopy").hexdigest()
    assert done.environment["torch"]
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert (last.step, last.steps, last.fraction) == (3, 3, 1.0)


def test_one_worker_serves_many_jobs(bench: Bench):
    first, second = bench.run("copy", job="a"), bench.run("copy", job="b")
    assert any(isinstance(event, WorkerReady) for event in first)
    assert not any(isinstance(event, WorkerReady) for event in second)


def worker_of(bench: Bench) -> psutil.Process:
    child = bench.executor._child
    assert child is not None
    return psutil.Process(child._process.pid)


def test_the_worker_s_name_is_told_with_its_device_and_its_phases(bench: Bench):
    told = [getattr(event, "worker", None) for event in bench.run("copy")]
    assert set(told) == {None, "local-1"}
    worker_of(bench).kill()
    assert isinstance(end := bench.executor.events().get(timeout=60), WorkerEnded)
    assert (end.worker, end.jobs) == ("local-1", ())
    (ready, *_) = bench.run("copy", job="again")
    assert isinstance(ready, WorkerReady)
    assert ready.worker == "local-2"


def test_a_task_is_done_between_jobs(shared_bench: Bench):
    shared_bench.run("copy")
    for task in (Task("t", "self_test"), Task("u", "load_model", "matte")):
        shared_bench.executor.submit(task)
        end = shared_bench.until_end(task.id)[-1]
        if task.kind == "self_test":
            assert isinstance(end, TaskDone)
            assert end.seconds >= 0
            assert end.facts == {"name": "cpu", "dtype": "float32"}
        else:
            assert isinstance(end, TaskFailed)
            assert end.failure["code"] == "unknown_model"
    assert kinds(shared_bench.run("copy", job="after"))[-1] == "job_done"


def test_a_task_ends_with_its_worker(bench: Bench):
    bench.run("copy")
    worker = worker_of(bench)
    worker.suspend()
    bench.executor.submit(Task("t", "self_test"))
    worker.kill()
    end = bench.until_end("t")[-1]
    assert isinstance(end, TaskFailed)
    assert end.failure["code"] == "worker_crashed"
    ended = bench.executor.events().get(timeout=60)
    assert isinstance(ended, WorkerEnded)
    assert ended.jobs == ()


def test_what_stages_print_does_not_disturb_the_talk(shared_bench: Bench):
    events = shared_bench.run("chatter")
    assert kinds(events)[-2:] == ["stage_done", "job_done"]


def test_compiled_models_are_kept_in_the_data_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    end = bench.run("name_cache")[-1]
    assert isinstance(end, JobFailed)
    assert end.failure["detail"] == f"ValueError: {bench.folder / 'data' / 'compiled'}"


def test_finished_stages_are_not_run_again(shared_bench: Bench, tmp_path: Path):
    two = (stage("copy", "one"), stage("copy", "two"))
    shared_bench.executor.submit(shared_bench.order(*two))
    events = shared_bench.until_end("j")
    done = {event.stage: event for event in events if isinstance(event, StageDone)}
    assert list(done) == ["one", "two"]
    order = shared_bench.order(*two)
    message = asdict(order)
    message["stages"][0]["done"] = [asdict(file) for file in done["one"].artifacts]
    shared_bench.executor.submit(Order.from_message(message))
    again = [event.stage for event in shared_bench.until_end("j") if isinstance(event, StageDone)]
    assert again == ["two"]
    damaged = tmp_path / "work/j/one" / done["one"].artifacts[0].path
    damaged.write_bytes(b"!")
    shared_bench.executor.submit(Order.from_message(message))
    again = [event.stage for event in shared_bench.until_end("j") if isinstance(event, StageDone)]
    assert again == ["one", "two"], "what was made from a damaged file is made anew too"


def done_before(bench: Bench, *stages: StageOrder) -> Order:
    """An order for stages that ran just now, with what the ledger would know of them."""
    bench.executor.submit(bench.order(*stages))
    events = bench.until_end("j")
    done = {event.stage: event for event in events if isinstance(event, StageDone)}
    records = [
        replace(s, done=tuple(done[s.id].artifacts), done_key=done[s.id].stage_key) for s in stages
    ]
    return bench.order(*records)


def stages_run(bench: Bench, order: Order) -> list[str]:
    bench.executor.submit(order)
    events = bench.until_end("j")
    assert events[-1] == JobDone("j")
    return [event.stage for event in events if isinstance(event, StageDone)]


def test_a_finished_stage_runs_again_once_its_key_has_changed(shared_bench: Bench):
    order = done_before(shared_bench, *(stage("copy", name) for name in ("one", "two", "three")))
    assert stages_run(shared_bench, order) == []

    one, two, three = order.stages
    changed = replace(two, params=two.params | {"steps": 4})
    assert stages_run(shared_bench, replace(order, stages=(one, changed, three))) == [
        "two",
        "three",
    ]
    older = replace(one, done_key="0" * 64)
    assert stages_run(shared_bench, replace(order, stages=(older, two, three))) == [
        "one",
        "two",
        "three",
    ]


def test_a_stage_without_a_key_is_taken_as_it_is(shared_bench: Bench):
    order = done_before(shared_bench, stage("copy", "one"))
    (one,) = order.stages
    assert stages_run(shared_bench, replace(order, stages=(replace(one, done_key=None),))) == []


def test_another_input_is_another_key(shared_bench: Bench):
    order = done_before(shared_bench, stage("copy", "one"))
    shared_bench.source.write_bytes(b"other pixels")
    again = replace(shared_bench.order(*order.stages), stages=order.stages)
    assert stages_run(shared_bench, again) == ["one"]


@pytest.mark.parametrize(
    ("deed", "code", "hold", "poisoned"),
    [
        ("grab", "out_of_memory", False, False),
        ("reserve", "out_of_memory", False, False),
        ("fill", "disk_full", True, False),
        ("err", "stage_failed", False, False),
        ("burn", "stage_failed", False, True),
    ],
)
def test_what_is_raised_gets_its_code(
    shared_bench: Bench, deed: str, code: str, hold: bool, poisoned: bool
):
    failed = shared_bench.run(deed)[-1]
    assert isinstance(failed, JobFailed)
    assert failed.failure["code"] == code
    assert (failed.hold, failed.poisoned) == (hold, poisoned)
    assert shared_bench.run("copy", job="next")[-1] == JobDone("next")


@pytest.mark.parametrize(("deed", "how"), [("segfault", "SIGSEGV"), ("leave", "exit status 7")])
def test_a_dead_worker_is_told_and_replaced(shared_bench: Bench, deed: str, how: str):
    ended = shared_bench.run(deed)[-1]
    assert isinstance(ended, WorkerEnded)
    assert ended.reason == "crash"
    assert how in ended.detail
    assert "in stage act" in ended.detail
    assert shared_bench.run("copy", job="next")[-1] == JobDone("next")


def test_a_hang_is_ended(tmp_path: Path, plugin: Path):
    bench = Bench(tmp_path, stage_timeout_s=1)
    try:
        ended = bench.run("freeze")[-1]
        assert isinstance(ended, WorkerEnded)
        assert ended.reason == "timeout"
    finally:
        bench.executor.close(5)


def test_cancel_at_the_next_step_and_the_same_job_again(shared_bench: Bench):
    shared_bench.executor.submit(shared_bench.order(stage("copy", steps=200, seconds=0.05)))
    while not isinstance(shared_bench.executor.events().get(timeout=60), Progress):
        pass
    shared_bench.executor.cancel("j")
    failed = shared_bench.until_end("j")[-1]
    assert isinstance(failed, JobFailed)
    assert failed.failure["code"] == "cancelled"
    assert shared_bench.run("copy")[-1] == JobDone("j")


def test_cancel_by_force(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dna_pipeline.execution.worker_child.CANCEL_GRACE_S", 0.5)
    bench.executor.submit(bench.order(stage("freeze")))
    while bench.executor.events().get(timeout=60).kind != "phase":
        pass
    bench.executor.cancel("j")
    ended = bench.until_end("j")[-1]
    assert isinstance(ended, WorkerEnded)
    assert ended.reason == "cancel"


def test_a_changed_source_is_noticed(shared_bench: Bench):
    order = shared_bench.order(stage("copy"))
    shared_bench.source.write_bytes(b"other pixels")
    shared_bench.executor.submit(order)
    failed = shared_bench.until_end("j")[-1]
    assert isinstance(failed, JobFailed)
    assert failed.failure["code"] == "source_missing"


def test_a_source_that_is_gone_fails_and_one_that_is_away_holds(
    shared_bench: Bench, tmp_path: Path
):
    shared_bench.source = tmp_path / "inbox/claim/source.png"
    shared_bench.source.parent.mkdir(parents=True)
    shared_bench.source.write_bytes(b"pixels")
    order = shared_bench.order(stage("copy"))
    shared_bench.source.unlink()
    shared_bench.executor.submit(order)
    failed = shared_bench.until_end("j")[-1]
    assert isinstance(failed, JobFailed)
    assert (failed.failure["code"], failed.hold) == ("source_missing", False)
    shared_bench.source.write_bytes(b"pixels")
    (tmp_path / "inbox").rename(tmp_path / "elsewhere")
    shared_bench.executor.submit(order)
    failed = shared_bench.until_end("j")[-1]
    assert isinstance(failed, JobFailed)
    assert (failed.failure["code"], failed.hold) == ("inbox_unavailable", True)


def test_an_inbox_that_goes_while_the_job_runs_holds_it(shared_bench: Bench, tmp_path: Path):
    shared_bench.source = tmp_path / "inbox/source.png"
    shared_bench.source.parent.mkdir()
    shared_bench.source.write_bytes(b"pixels")
    shared_bench.executor.submit(shared_bench.order(stage("copy", steps=20, seconds=0.05)))
    while not isinstance(shared_bench.executor.events().get(timeout=60), Progress):
        pass
    (tmp_path / "inbox").rename(tmp_path / "elsewhere")
    failed = shared_bench.until_end("j")[-1]
    assert isinstance(failed, JobFailed)
    assert (failed.failure["code"], failed.hold) == ("inbox_unavailable", True)
    (tmp_path / "elsewhere").rename(tmp_path / "inbox")
    shared_bench.executor.submit(shared_bench.order(stage("copy")))
    assert shared_bench.until_end("j")[-1] == JobDone("j")


def test_a_device_that_is_not_there_holds(tmp_path: Path, plugin: Path):
    bench = Bench(tmp_path, device="cuda:9")
    try:
        failed = bench.run("copy")[-1]
        assert isinstance(failed, JobFailed)
        assert failed.hold
        assert failed.failure["code"] == "device_unavailable"
    finally:
        bench.executor.close(5)


def test_close_ends_the_child(bench: Bench):
    before = psutil.Process(os.getpid()).children()
    bench.run("copy")
    children = [c for c in psutil.Process(os.getpid()).children() if c not in before]
    (worker,) = [c for c in children if "dna_pipeline.execution.worker.process" in c.cmdline()]
    bench.executor.close(5)
    assert not worker.is_running()


def test_an_order_right_after_a_death_goes_to_a_new_worker(bench: Bench):
    """The worker dies between two jobs; whoever hears of it must be able to give the next."""
    for number in range(3):
        assert bench.run("copy", job=f"before-{number}")[-1] == JobDone(f"before-{number}")
        for child in psutil.Process(os.getpid()).children():
            with suppress(psutil.ZombieProcess):
                if "dna_pipeline.execution.worker.process" in child.cmdline():
                    child.kill()
        while bench.executor.events().get(timeout=60).kind != "worker_ended":
            pass
        assert bench.run("copy", job=f"after-{number}")[-1] == JobDone(f"after-{number}")


def test_a_child_that_has_ended_takes_no_order(bench: Bench):
    bench.run("leave")
    assert bench.executor._child is not None
    assert not bench.executor._child.run(bench.order(stage("copy")))


# --- one end for each order, whatever happens to the worker ---

Start = Callable[[str], LocalExecutor]

DEATHS = {
    "at once": "import os; os._exit(3)",
    "as it reads its settings": "import sys; sys.stdin.buffer.readline(); raise SystemExit(3)",
    "with the order unread": "import os; os.close(0); import time; time.sleep(0.5); os._exit(3)",
    "as it reads its order": "import sys; [sys.stdin.buffer.readline() for _ in range(2)]",
    "by a signal": "import os; os.kill(os.getpid(), 9)",
}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Makes executors whose worker is the given code."""
    made: list[LocalExecutor] = []

    def make(code: str) -> LocalExecutor:
        (tmp_path / "played_worker.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
        settings = WorkerSettings("cpu", "auto", str(tmp_path), {}, 60, 0)
        made.append(LocalExecutor(settings, module="played_worker"))
        return made[-1]

    yield make
    monkeypatch.undo()
    for executor in made:
        executor.close(0)


NOTHING = OrderInput("image", "", "")


def order(job: str, text: str = "") -> Order:
    return Order(job, 1, (StageOrder("act", "act", {"text": text}, "pic"),), (NOTHING,), "")


def ends(executor: LocalExecutor, job: str) -> list[Event]:
    """The events that end the job: the first, and whatever comes soon after it."""
    found: list[Event] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        executor.enforce_timeouts()
        try:
            event = executor.events().get(timeout=0.5)
        except queue.Empty:
            if found:
                return found
            continue
        if ends_order(event, job):
            found.append(event)
    raise AssertionError(f"{job} has no end")


@pytest.mark.parametrize("is_reader_first", [True, False])
@pytest.mark.parametrize("code", DEATHS.values(), ids=DEATHS.keys())
def test_a_worker_that_dies_young_ends_its_job_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, code: str, is_reader_first: bool
):
    """Also where its end is seen before the one who started it goes on."""
    begin = threading.Thread.start

    def begin_and_wait(thread: threading.Thread) -> None:
        begin(thread)
        if thread.name == "worker-events":
            thread.join()

    if is_reader_first:
        monkeypatch.setattr(threading.Thread, "start", begin_and_wait)
    executor = start(code)
    for job in ("first", "second"):
        executor.submit(order(job))
        (ended,) = ends(executor, job)
        assert isinstance(ended, WorkerEnded)
        assert ended.reason == "unready"


def test_a_worker_that_reads_nothing_stops_nobody(start: Start, monkeypatch: pytest.MonkeyPatch):
    """An order may be larger than a pipe holds."""
    monkeypatch.setattr("dna_pipeline.execution.worker_child.START_LIMIT_S", 1.0)
    executor = start("import time; time.sleep(3600)")
    large = order("j", "x" * (1 << 22))
    submitting = threading.Thread(target=executor.submit, args=(large,), daemon=True)
    submitting.start()
    submitting.join(30)
    assert not submitting.is_alive()
    (ended,) = ends(executor, "j")
    assert isinstance(ended, WorkerEnded)
    assert ended.reason == "unready"


@pytest.mark.parametrize("refused", ["worker-events", "pipe-writer", "stderr"])
def test_a_worker_that_cannot_be_served_is_ended(
    start: Start, monkeypatch: pytest.MonkeyPatch, refused: str
):
    """A machine that has no more threads to give refuses them at any time."""
    executor = start("import sys; sys.stdin.read()")
    begin, started = threading.Thread.start, list[subprocess.Popen[bytes]]()
    spawn = executors.ipc.spawn

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(refused):
            raise RuntimeError("can't start new thread")
        begin(thread)

    def note(*arguments: object) -> subprocess.Popen[bytes]:
        started.append(spawn(*arguments))
        return started[-1]

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(executors.ipc, "spawn", note)
    executor.submit(order("j"))
    (ended,) = ends(executor, "j")
    assert ended == WorkerEnded(
        "local-1", ("j",), "unready", "no worker can be started: can't start new thread"
    )
    assert [process.poll() for process in started] == [-9]


def test_an_order_after_the_end_of_all_is_given_back(bench: Bench):
    bench.run("copy")
    bench.executor.close(5)
    assert bench.run("copy", job="late")[-1] == WorkerEnded(
        "local-1", ("late",), "closed", "the executor was closed"
    )


def test_closing_ends_the_running_job_once(bench: Bench):
    bench.executor.submit(bench.order(stage("freeze")))
    while bench.executor.events().get(timeout=60).kind != "phase":
        pass
    bench.executor.close(1)
    (ended,) = ends(bench.executor, "j")
    assert isinstance(ended, WorkerEnded)
    assert ended.reason == "closed"


OBSTINATE = """
import json, os, sys, time
for line in sys.stdin.buffer:
    message = json.loads(line)
    if "device" in message:
        print('{"event":"ready","device":"cpu","dtype":"float32","environment":{}}', flush=True)
    elif "order" in message:
        job = message["order"]["job"]
        while job == "first" and not os.path.exists("FLAG"):
            time.sleep(0.01)
        time.sleep(2 * (job == "second"))
        print(json.dumps({"event": "job_done", "job": job}), flush=True)
"""


FAULTY = """
import json, sys, time
ends = []
for line in sys.stdin.buffer:
    message = json.loads(line)
    if "device" in message:
        print('{"event":"ready","device":"cpu","dtype":"float32","environment":{}}', flush=True)
        continue
    end = {"poisoned": True, "failure": {
        "code": "stage_failed", "message": "", "detail": "CUDA error", "hint": "",
        "retryable": False,
    }}
    if "task" in message:
        end |= {"event": "task_failed", "task": message["task"]["id"]}
    else:
        end |= {"event": "job_failed", "job": message["order"]["job"]}
    ends.append(json.dumps(end))
    if len(ends) == 3:
        print("\\n".join(ends), flush=True)
        time.sleep(60)
"""


def test_a_fault_of_the_device_is_one_of_the_first_job_alone(start: Start):
    """Those after it fail too, before the process is killed."""
    executor = start(FAULTY)
    for given in (order("first"), order("second"), Task("task", "self_test")):
        executor.submit(given)
    seen: list[Event] = []
    while not seen or seen[-1].kind != "worker_ended":
        seen.append(executor.events().get(timeout=60))
    ready, failed, task, ended = seen
    assert ready.kind == "ready"
    assert isinstance(failed, JobFailed) and failed.job == "first"
    assert isinstance(task, TaskFailed) and task.failure["code"] == "worker_crashed"
    assert isinstance(ended, WorkerEnded)
    assert (ended.jobs, ended.reason, ended.cause) == (("second",), "poisoned", "first")


def test_a_cancel_that_comes_as_its_job_ends_is_not_the_next_one_s(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flag = tmp_path / "flag"
    executor = start(OBSTINATE.replace("FLAG", str(flag)))
    executor.submit(order("first"))
    assert executor.events().get(timeout=60).kind == "ready"
    monkeypatch.setattr("dna_pipeline.execution.worker_child.CANCEL_GRACE_S", 0.3)
    now = time.monotonic

    def end_meanwhile() -> float:
        """The job ends between two steps of the cancel, if anything can come between them."""
        flag.touch()
        deadline = now() + 1
        while executor.events().empty() and now() < deadline:
            time.sleep(0.01)
        return now()

    monkeypatch.setattr(executors.time, "monotonic", end_meanwhile)
    executor.cancel("first")
    monkeypatch.setattr(executors.time, "monotonic", now)
    assert ends(executor, "first") == [JobDone("first")]
    executor.submit(order("second"))
    assert ends(executor, "second") == [JobDone("second")]


def test_a_worker_that_cannot_be_killed_keeps_no_job(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A driver that hangs holds even a killed process."""
    monkeypatch.setattr("dna_pipeline.execution.worker_child.CANCEL_GRACE_S", 0.2)
    monkeypatch.setattr("dna_pipeline.execution.worker_child.UNKILLABLE_S", 0.2)
    bench.executor.submit(bench.order(stage("freeze")))
    while bench.executor.events().get(timeout=60).kind != "phase":
        pass
    monkeypatch.setattr(subprocess.Popen, "kill", lambda self: None)
    bench.executor.cancel("j")
    (ended,) = ends(bench.executor, "j")
    assert isinstance(ended, WorkerEnded)
    assert ended.reason == "cancel"
    assert "does not end" in ended.detail
    monkeypatch.undo()


TALKATIVE = """
import json, sys
for line in sys.stdin.buffer:
    message = json.loads(line)
    if "device" in message:
        print('{"event":"ready","device":"cpu","dtype":"float32","environment":{}}', flush=True)
    elif "order" in message:
        for _ in range(2):
            print(json.dumps({"event": "job_done", "job": message["order"]["job"]}), flush=True)
"""


def test_an_idle_worker_that_cannot_be_killed_is_reported_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    executor = start(TALKATIVE)
    monkeypatch.setattr("dna_pipeline.execution.worker_child.UNKILLABLE_S", 0.2)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda self: None)
    executor.submit(order("first"))
    assert ends(executor, "first") == [JobDone("first")]
    reports: list[WorkerEnded] = []
    deadline = time.monotonic() + 20
    while not reports and time.monotonic() < deadline:
        executor.enforce_timeouts()
        with suppress(queue.Empty):
            event = executor.events().get(timeout=0.05)
            reports += [event] if isinstance(event, WorkerEnded) else []
    executor.enforce_timeouts()
    assert executor.events().empty()
    ((worker, jobs, reason, detail),) = [
        (event.worker, event.jobs, event.reason, event.detail) for event in reports
    ]
    assert (worker, jobs, reason) == ("local-1", (), "crash")
    assert "does not end" in detail
    monkeypatch.undo()
