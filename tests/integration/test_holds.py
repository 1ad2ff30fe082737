"""What holds the queue and what frees it, with a real ledger and an executor that obeys."""

import queue as queues
import shutil
from collections import namedtuple
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from dna_pipeline.base.errors import (
    DeviceUnavailable,
    Failure,
    ImageUnreadable,
    JobError,
    OutOfMemory,
    StageFailed,
)
from dna_pipeline.base.layout import claim_root
from dna_pipeline.config.hours import Hours
from dna_pipeline.config.schema import Pipeline, Signing, StageSpec
from dna_pipeline.execution import disk_space, scheduler
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    Order,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.execution.worker_state import WorkerState
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.ledger import holds, pauses
from dna_pipeline.ledger.model_sets import text_of
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.tables import Job
from dna_pipeline.providers.matting.rembg import Rembg
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.stages.registry import needed_files
from dna_pipeline.weights.loras import FOLDER
from tests import certificates
from tests.ledgers import make_due
from tests.played_workers import free_worker

Usage = namedtuple("Usage", "total used free")


class Obedient:
    """An executor that reports what the test tells it to."""

    capacity = 1

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.rested: list[str] = []
        self._events: queues.SimpleQueue[Event] = queues.SimpleQueue()

    def submit(self, order: Order, among: Collection[str] | None = None) -> None:
        self.orders.append(order)

    def workers(self) -> tuple[WorkerState, ...]:
        return (free_worker(),)

    def yield_after_stage(self, job: str) -> None:
        self.rested.append(job)

    def cancel(self, job: str) -> None: ...
    def enforce_timeouts(self) -> None: ...
    def close(self, grace_s: float) -> None: ...
    def events(self) -> queues.SimpleQueue[Event]:
        return self._events


class Desk:
    """A dispatcher over a site's ledger."""

    def __init__(self, site: Any) -> None:
        self.site = site
        self.start()

    def start(self) -> None:
        self.executor = Obedient()
        self.dispatcher = Dispatcher(self.site.config, self.site.ledger, self.executor)

    def next(self) -> str | None:
        """The name of the job that goes out next."""
        self.dispatcher.dispatch()
        return next((job.name for job in self.dispatcher.running.values()), None)

    def answer(self, event: type[JobDone] | JobError | Failure | str, **facts: Any) -> None:
        job = self.executor.orders[-1].job
        if isinstance(event, JobError):
            said: Event = JobFailed(job, event.failure().to_dict(), "s", **facts)
        elif isinstance(event, Failure):
            said = JobFailed(job, event.to_dict(), "s", **facts)
        elif isinstance(event, str):
            said = WorkerEnded("local-1", (job,), event, "as told")
        else:
            said = JobDone(job)
        self.executor.events().put(said)
        self.dispatcher.listen()

    def holds(self) -> dict[str, str | None]:
        return {job.name: job.hold for job in self.site.jobs()}

    def said(self) -> list[dict[str, Any]]:
        views = Queries(self.site.config.ledger_path)
        try:
            return views.holds()
        finally:
            views.close()

    def review(self, *, patient: bool = True) -> None:
        self.dispatcher.scheduler.review(keep_trying=patient)


@pytest.fixture
def desk(site) -> Desk:
    return Desk(site)


def put(desk: Desk, number: int) -> None:
    for index in range(number):
        desk.site.put(f"{index}.png", f"image {index}")
    desk.site.settle()
    assert len(desk.site.jobs()) == number


# --- failures in a row ---


@pytest.mark.slow
def test_equal_failures_in_a_row_pause_the_pipeline(desk: Desk):
    put(desk, 7)
    for index in range(5):
        assert desk.next() == f"{index}.png"
        desk.answer(StageFailed("no kernel image"))
    assert desk.next() is None
    (said,) = desk.said()
    assert (said["code"], said["jobs"]) == ("paused", 2)
    assert "5 jobs in a row failed with stage_failed (no kernel image)" in said["detail"]
    assert "dna-pipeline resume" in said["detail"]

    desk.site.restart()
    desk.start()
    desk.review()
    assert desk.next() is None, "the pause survives a restart"
    desk.site.put("late.png", b"late")
    desk.site.settle()
    assert desk.next() is None
    assert desk.holds()["late.png"] == "paused"

    desk.site.ledger.transact(pauses.resume)
    assert desk.next() == "5.png"
    desk.answer(StageFailed("no kernel image"))
    assert desk.next() == "6.png", "the count begins anew"
    assert desk.said() == []


def test_a_pause_without_jobs_is_told_too(desk: Desk):
    put(desk, 5)
    for _ in range(5):
        desk.next()
        desk.answer(StageFailed("x"))
    (said,) = desk.said()
    assert (said["code"], said["jobs"]) == ("paused", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "between", [JobDone, OutOfMemory("8 GiB")], ids=["a success", "another failure"]
)
def test_what_breaks_the_row(desk: Desk, between: Any):
    put(desk, 10)
    for index in range(9):
        assert desk.next() == f"{index}.png"
        desk.answer(between if index == 4 else StageFailed("x"))
    assert desk.next() == "9.png"


def test_what_is_the_inputs_fault_pauses_nothing(desk: Desk):
    put(desk, 8)
    for index in range(7):
        assert desk.next() == f"{index}.png"
        desk.answer(ImageUnreadable("breaks off"))
    assert desk.next() == "7.png"


def test_zero_means_never(site):
    runtime = site.config.runtime.model_copy(update={"pause_after_failures": 0})
    site.config = replace(site.config, runtime=runtime)
    desk = Desk(site)
    put(desk, 7)
    for index in range(7):
        assert desk.next() == f"{index}.png"
        desk.answer(StageFailed("x"))


@pytest.mark.slow
def test_deaths_of_the_worker_count_once_for_each_job(desk: Desk):
    put(desk, 6)
    for _ in range(2):
        assert desk.next() == "0.png"
        desk.answer("crash")
        desk.site.ledger.transact(
            lambda s: holds.promote_due(s, datetime.now(UTC) + timedelta(seconds=301))
        )
    assert desk.next() == "0.png"
    desk.answer("crash")
    assert desk.site.jobs()[0].status == "failed"
    for index in range(1, 5):
        assert desk.next() == f"{index}.png"
        desk.answer("crash")
    assert desk.next() is None
    assert desk.holds()["5.png"] == "paused"


# --- poison ---


def test_a_poisonous_job_does_not_block_those_behind_it(desk: Desk):
    put(desk, 3)
    assert desk.next() == "0.png"
    desk.answer("crash")
    assert desk.holds()["0.png"] == "retry_wait"
    for name in ("1.png", "2.png"):
        assert desk.next() == name
        desk.answer(JobDone)
    views = Queries(desk.site.config.ledger_path)
    assert views.has_open_jobs(), "`run` waits for the next try"
    views.close()


def test_a_device_that_failed_counts_as_a_crash_of_its_worker(desk: Desk):
    put(desk, 2)
    text = "AcceleratorError: CUDA error: unspecified launch failure"
    for crashes in (1, 2):
        assert desk.next() == "0.png"
        desk.answer(StageFailed(text), poisoned=True)
        job = desk.site.jobs()[0]
        assert (job.status, job.hold, job.crashes) == ("queued", "retry_wait", crashes)
        assert desk.next() == "1.png", "others go first"
        desk.answer("closed")
        desk.site.ledger.transact(
            lambda s: holds.promote_due(s, datetime.now(UTC) + timedelta(seconds=301))
        )
    assert desk.next() == "0.png"
    desk.answer(StageFailed(text), poisoned=True)
    job = desk.site.jobs()[0]
    assert (job.status, job.stage, job.error["code"]) == ("failed", "s", "worker_crashed")
    assert job.error["detail"] == text
    assert "`runtime.device: cpu`" in job.error["hint"]
    assert desk.next() == "1.png"


def test_where_there_is_no_device_one_try_is_enough(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    put(desk, 3)
    desk.review()
    desk.next()
    sentence = "cuda:0 gave a wrong answer"
    desk.answer(Failure(DeviceUnavailable.code, "", sentence), hold=True, poisoned=True)
    assert desk.next() is None
    assert set(desk.holds().values()) == {"device_unavailable"}
    assert [job.attempt for job in desk.site.jobs()] == [0, 0, 0]
    assert desk.said()[0]["detail"] == sentence
    desk.review()
    assert desk.next() is None, "not before its time"
    make_due(desk.dispatcher.scheduler)
    desk.review()
    assert desk.next() == "0.png"


def test_a_worker_that_never_gets_ready_is_no_job_s_fault(desk: Desk):
    put(desk, 2)
    desk.review()
    for _ in range(4):
        assert desk.next() == "0.png"
        desk.answer("unready")
        assert desk.next() is None
        desk.site.ledger.transact(lambda s: holds.release(s, DeviceUnavailable.code))
    assert [(job.status, job.crashes, job.attempt) for job in desk.site.jobs()] == [
        ("queued", 0, 0), ("queued", 0, 0),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_lost_device_is_tried_less_and_less_often(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: now[0])
    put(desk, 1)

    def goes_out_after(seconds: float) -> bool:
        """True if the job goes out again then, and neither halfway nor a second before."""
        desk.answer("unready")
        went: list[bool] = []
        for step in (seconds / 2, seconds / 2 - 1, 1):
            now[0] += step
            desk.review()
            went.append(desk.next() is not None)
        return went == [False, False, True]

    desk.review()
    desk.next()
    for seconds in (2, 4, 8, 16, 32, 64, 128, 256, 480, 480):
        assert goes_out_after(seconds), seconds
    desk.executor.events().put(WorkerReady("cpu", "float32", {}))
    desk.dispatcher.listen()
    assert goes_out_after(2)


# --- inboxes ---


def test_an_inbox_that_is_away_holds_its_jobs_and_lets_go(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    put(desk, 3)
    inbox, elsewhere = desk.site.inbox, desk.site.root / "elsewhere"
    claims = claim_root(inbox, desk.site.ledger.id)
    inbox.rename(elsewhere)
    (claims / "somebody wrote into the mount point").mkdir(parents=True)
    assert desk.next() is None
    assert set(desk.holds().values()) == {"inbox_unavailable"}
    (said,) = desk.said()
    assert said["jobs"] == 3
    assert f"below {claims} and is not there now; mount the inbox again" in said["detail"]
    assert [job.attempt for job in desk.site.jobs()] == [0, 0, 0]

    desk.site.restart()
    desk.start()
    desk.review()
    assert desk.next() is None
    shutil.rmtree(inbox)
    elsewhere.rename(inbox)
    make_due(desk.dispatcher.scheduler)
    desk.review()
    assert desk.next() == "0.png"
    assert desk.said() == []


def test_others_go_on_while_an_inbox_is_away(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    put(desk, 3)
    lost = Path(desk.site.drop(desk.site.jobs()[0]).claim)
    lost.rename(desk.site.root / "elsewhere")
    assert desk.next() == "1.png"
    assert desk.holds() == {"0.png": "inbox_unavailable", "1.png": None, "2.png": None}
    desk.answer(JobDone)
    desk.review()
    assert desk.next() == "2.png"


def test_what_the_worker_could_not_read_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    put(desk, 1)
    desk.next()
    desk.answer(Failure("inbox_unavailable", "", "Input/output error"), hold=True)
    assert desk.next() is None
    make_due(desk.dispatcher.scheduler)
    desk.review()
    assert desk.next() == "0.png"


# --- weights ---

ODD_NAMES = ["a,b", "a, b", ",", "", " ", "[a]", '["a"]', "x\ny", "ü"]


def named(desk: Desk, *names: str) -> Path:
    """Models of these names in one pipeline each; the file that all of them lack."""
    weights = desk.site.root / "u2net.onnx"
    provider = Rembg(name="u2net", path=weights)
    pipelines = {
        f"cut{number}": Pipeline(
            f"cut{number}",
            (StageSpec("remove_background", "remove_background", {"model": name}),),
        )
        for number, name in enumerate(names)
    }
    (inbox,) = desk.site.config.inboxes
    desk.site.config = replace(
        desk.site.config,
        models=dict.fromkeys(names, provider),
        pipelines=pipelines,
        inboxes=(replace(inbox, pipeline="cut0"),),
    )
    desk.site.restart()
    desk.start()
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_of_a_model_holds_its_jobs_and_lets_go(desk: Desk, name: str):
    weights = named(desk, name)
    put(desk, 2)
    assert desk.next() is None
    (said,) = desk.said()
    assert (said["code"], said["jobs"]) == ("weights_missing", 2)
    assert said["detail"].startswith(f"model {name!r}: {weights} is not there")
    assert said["detail"].endswith("or run `dna-pipeline models pull`")
    desk.review()
    assert desk.next() is None
    weights.touch()
    desk.review()
    assert desk.next() == "0.png"


def test_jobs_that_an_older_version_held_for_ever_go_on(desk: Desk):
    weights = named(desk, "a,b")
    put(desk, 1)
    held = {"models": "a,b", "hold": "weights_missing", "hold_detail": "model 'a' is not declared"}
    desk.site.ledger.transact(lambda s: s.execute(update(Job).values(held)))
    desk.review()
    assert desk.next() is None
    weights.touch()
    desk.review()
    assert desk.next() == "0.png"


def test_a_missing_lora_holds_its_jobs_alone(desk: Desk):
    """Each job goes on when its own LoRA is there."""
    model = desk.site.root / "u2net.onnx"
    model.touch()
    stage = StageSpec("img2img", "img2img", {"model": "sd"})
    (inbox,) = desk.site.config.inboxes
    desk.site.config = replace(
        desk.site.config,
        models={"sd": Diffusers(path=model)},
        pipelines={"restyle": Pipeline("restyle", (stage,))},
        inboxes=(replace(inbox, pipeline="restyle"),),
    )
    desk.site.restart()
    desk.start()
    put(desk, 3)
    stages = [
        [{"id": "img2img", "type": "img2img", "params": Img2Img(model="sd", **params).params()}]
        for params in ({"loras": {"clay": 0.8}}, {"prompt": "<lora:wax:1>"}, {})
    ]
    for job, own in zip(desk.site.jobs(), stages, strict=True):
        models = text_of(["sd"], needed_files(own))
        change = update(Job).where(Job.id == job.id).values(stages=own, models=models)
        desk.site.ledger.transact(lambda s, change=change: s.execute(change))
    assert desk.next() == "2.png"
    held = {"0.png": "weights_missing", "1.png": "weights_missing", "2.png": None}
    assert desk.holds() == held
    assert sorted(said["detail"] for said in desk.said()) == [
        f"LoRA {name!r} is not in {desk.site.config.data / FOLDER}; put {name}.safetensors there"
        for name in ("clay", "wax")
    ]
    desk.answer(JobDone)
    lora = desk.site.config.data / FOLDER / "styles/wax.safetensors"
    lora.parent.mkdir(parents=True)
    lora.touch()
    desk.review()
    assert desk.next() == "1.png"
    assert desk.holds()["0.png"] == "weights_missing"


# --- disks ---


def free(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, number))


def test_a_full_disk_holds_all_and_lets_go(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    put(desk, 3)
    free(monkeypatch, disk_space.FLOOR_BYTES - 1)
    assert desk.next() is None
    assert set(desk.holds().values()) == {"disk_full"}
    assert "63 MiB free" in desk.said()[0]["detail"]
    desk.review()
    assert set(desk.holds().values()) == {"disk_full"}
    free(monkeypatch, 1 << 40)
    make_due(desk.dispatcher.scheduler)
    desk.review()
    assert desk.next() == "0.png"
    assert desk.site.jobs()[0].attempt == 1


def test_a_job_too_large_for_the_disk_lets_smaller_ones_pass(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    desk.site.put("large.png", b"x" * (1 << 20))
    desk.site.settle()
    desk.site.put("small.png", b"x")
    desk.site.settle()
    free(monkeypatch, disk_space.FLOOR_BYTES + (4 << 20))
    assert desk.next() == "small.png"
    assert desk.holds()["large.png"] == "disk_full"


def test_what_a_job_needs_grows_with_what_it_makes():
    stage = {"type": "triposr", "params": {"model": "m", "resolution": 256}}
    fine = {"type": "triposr", "params": {"model": "m", "resolution": 1024}}
    small, large = (disk_space.required_bytes(1000, 64, 64, [s]) for s in (stage, fine))
    assert disk_space.FLOOR_BYTES < small < large
    assert large - small == 360 * (1024**2 - 256**2)


# --- signatures ---


def test_a_missing_key_holds_all_and_lets_go(site: Any, tmp_path: Path):
    files = certificates.make(tmp_path)
    files.key.rename(tmp_path / "elsewhere")
    site.config = replace(site.config, signing=Signing(files.certificate, files.key))
    desk = Desk(site)
    put(desk, 2)
    assert desk.next() is None
    assert set(desk.holds().values()) == {"signing_unavailable"}
    assert f"c2pa.key: {files.key} cannot be read" in desk.said()[0]["detail"]
    desk.review()
    assert set(desk.holds().values()) == {"signing_unavailable"}
    (tmp_path / "elsewhere").rename(files.key)
    make_due(desk.dispatcher.scheduler)
    desk.review()
    assert desk.next() == "0.png"
    assert desk.site.jobs()[0].attempt == 1


def test_a_wrong_certificate_is_tried_once_by_run_and_again_by_watch(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The daemon sees only that the files are there; the worker says that they are wrong."""
    monkeypatch.setattr(scheduler, "SIGNING_RETRY_S", 0.0)
    files = certificates.make(tmp_path)
    site.config = replace(site.config, signing=Signing(files.certificate, files.key))
    desk = Desk(site)
    put(desk, 1)
    desk.review(patient=False)
    assert desk.next() == "0.png"
    desk.answer(Failure("signing_unavailable", "", "the certificate has expired"), hold=True)
    assert desk.holds() == {"0.png": "signing_unavailable"}
    for _ in range(3):
        desk.review(patient=False)
        assert desk.next() is None
    make_due(desk.dispatcher.scheduler)
    desk.review()
    assert desk.next() == "0.png"


# --- hours ---


def with_hours(site: Any, hours: str) -> None:
    (inbox,) = site.config.inboxes
    site.config = replace(site.config, inboxes=(replace(inbox, hours=Hours.parse(hours)),))
    site.restart()


def test_jobs_wait_for_the_hours_of_their_inbox(site, monkeypatch: pytest.MonkeyPatch):
    with_hours(site, "22:00-06:00")
    desk = Desk(site)
    now = [datetime(2026, 5, 4, 12).astimezone()]
    monkeypatch.setattr(job_rows, "utcnow", lambda: now[0])
    put(desk, 2)
    assert set(desk.holds().values()) == {"hours"}, "before anything asked for the next job"
    monkeypatch.setattr(scheduler, "utcnow", lambda: now[0])
    assert desk.next() is None
    assert set(desk.holds().values()) == {"hours"}
    assert desk.said()[0]["detail"] == (
        "inbox 'in' rests until 2026-05-04 22:00; its hours are 22:00-06:00"
    )
    desk.review()
    assert set(desk.holds().values()) == {"hours"}

    now[0] += timedelta(hours=11)
    desk.review()
    assert desk.next() == "0.png"
    desk.dispatcher.enforce_hours()
    assert desk.executor.rested == []

    now[0] += timedelta(hours=8)
    for _ in range(2):
        desk.dispatcher.enforce_hours()
    (job,) = desk.executor.rested
    desk.answer(Failure("hours", "", "its inbox rests"), hold=True)
    assert desk.next() is None
    first = desk.site.jobs()[0]
    assert (first.id, first.status, first.hold, first.attempt) == (job, "queued", "hours", 0)


@pytest.mark.slow
def test_jobs_are_held_when_the_hours_end_not_at_their_turn(
    site: Any, monkeypatch: pytest.MonkeyPatch
):
    with_hours(site, "22:00-06:00")
    desk = Desk(site)
    now = [datetime(2026, 5, 4, 5, 59).astimezone()]
    monkeypatch.setattr(scheduler, "utcnow", lambda: now[0])
    monkeypatch.setattr(job_rows, "utcnow", lambda: now[0])
    put(desk, 3)
    assert desk.next() == "0.png"
    desk.review()
    assert set(desk.holds().values()) == {None}

    now[0] += timedelta(minutes=1)
    desk.review()
    assert desk.holds() == {"0.png": None, "1.png": "hours", "2.png": "hours"}
    (said,) = desk.said()
    assert said["detail"] == "inbox 'in' rests until 2026-05-04 22:00; its hours are 22:00-06:00"


def test_jobs_that_are_freed_outside_their_hours_are_held_at_once(
    site: Any, monkeypatch: pytest.MonkeyPatch
):
    """While a job of another inbox runs, which may take long."""
    with_hours(site, "22:00-06:00")
    desk = Desk(site)
    now = [datetime(2026, 5, 4, 12).astimezone()]
    monkeypatch.setattr(scheduler, "utcnow", lambda: now[0])
    desk.review()
    monkeypatch.setattr(job_rows, "utcnow", lambda: now[0] - timedelta(hours=8))
    put(desk, 2)
    held = {"hold": "not_before", "hold_detail": "", "not_before": now[0]}
    site.ledger.transact(lambda s: s.execute(update(Job).values(**held)))
    desk.review()
    assert set(desk.holds().values()) == {"hours"}


def test_all_that_rests_is_held(site: Any, monkeypatch: pytest.MonkeyPatch):
    with_hours(site, "22:00-06:00")
    desk = Desk(site)
    now = datetime(2026, 5, 4, 12).astimezone()
    monkeypatch.setattr(scheduler, "utcnow", lambda: now)
    monkeypatch.setattr(job_rows, "utcnow", lambda: now - timedelta(hours=8))
    put(desk, 2)
    assert set(desk.holds().values()) == {None}
    site.ledger.transact(lambda s: scheduler.hold_outside_hours(s, site.config))
    assert set(desk.holds().values()) == {"hours"}
