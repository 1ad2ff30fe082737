"""What a real ledger's finished stages teach about the jobs that wait in it."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from dna_pipeline.execution.estimate import Estimator, QueueEstimate
from dna_pipeline.ledger import drops, queue, store
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.operations.daemon.status_file import StatusFile

START = datetime(2026, 1, 1, tzinfo=UTC)


def stage(kind: str, **params) -> dict:
    return {"id": kind, "type": kind, "params": params}


def restyle(steps: int = 10, **more) -> list[dict]:
    return [stage("img2img", model="sd", steps=steps, strength=1.0, max_size=64, **more)]


class Shop:
    """A ledger to which jobs are added as if they had been taken in, and done in no time."""

    def __init__(self, site) -> None:
        self.site = site
        self.views = Queries(site.config.ledger_path)
        self.estimator = Estimator(self.views, site.config)
        self.now = START

    def add(self, stages: list[dict], count: int = 1, size=(64, 64), **values) -> None:
        from dna_pipeline.config.sidecar import JobSpec
        from dna_pipeline.intake.planning import job_rows

        inbox = self.site.config.inboxes[0]
        rows = [job_rows.drop_row(inbox, "", "cat.png", None) for _ in range(count)]
        spec = JobSpec("cut", ())
        jobs = [
            job_rows.job_row(inbox, "", "cat.png", drop["id"], spec) | {"stages": stages} | values
            for drop in rows
        ]
        facts = [{"id": drop["id"], "width": size[0], "height": size[1]} for drop in rows]

        def commit(session) -> None:
            drops.begin_claims(session, rows)
            drops.finish_claims(session, facts, jobs)

        self.site.ledger.transact(commit)

    def do(self, seconds: list[float], loading_s: float = 0, device: str = "cpu") -> None:
        """The next job, whose stages took so long each."""
        job = self.site.claim_next()
        begun = self.now
        for spec, took in zip(job.stages, seconds, strict=True):
            self.now += timedelta(seconds=took + loading_s)
            run = {
                "stage_id": spec["id"], "type": spec["type"], "provider": "p", "model": None,
                "params": spec["params"], "device": device, "dtype": "float32", "batch_size": 1,
                "attempt": 1, "seconds": took, "warnings": [], "environment": {},
                "finished_at": self.now,
            }  # fmt: skip
            self.site.ledger.transact(lambda s, r=run: queue.finish_stage(s, job.id, r, []))

        def commit(session) -> None:
            queue.finish_computing(session, job.id)
            session.get_one(type(job), job.seq).started_at = begun

        self.site.ledger.transact(commit)

    def left(self) -> QueueEstimate:
        self.estimator.refresh()
        return self.estimator.queue()

    def seconds(self, stages: list[dict], size=(64, 64)) -> list[float]:
        self.estimator.refresh()
        return self.estimator.stages(stages, *size)


@pytest.fixture
def shop(site):
    shop = Shop(site)
    yield shop
    shop.views.close()


def test_an_empty_ledger(shop) -> None:
    assert shop.views.stage_runs(0, 100) == []
    assert shop.views.runnable() == 0
    assert shop.views.runnable_sample(1) == []
    assert shop.views.work_of("a") is None
    assert shop.left() == QueueEstimate(0, None)
    assert shop.estimator.job("a") == {}


def test_jobs_of_which_nothing_is_known(shop) -> None:
    shop.add(restyle(), 3)
    assert shop.left() == QueueEstimate(3, None)


def test_steps_and_pixels_count(shop) -> None:
    for steps in (10, 20, 30):
        shop.add(restyle(steps))
        shop.do([1 + steps / 10])
    assert shop.seconds(restyle(40)) == [pytest.approx(5)]
    assert shop.seconds(restyle(40, seed=7, prompt="a cat")) == [pytest.approx(5)]
    four_times = restyle(20)
    four_times[0]["params"]["max_size"] = 128
    assert shop.seconds(four_times, (999, 999)) == [pytest.approx(9)]
    assert shop.seconds(restyle(20), (999, 999)) == [pytest.approx(3)]


def test_a_stage_is_measured_by_what_the_one_before_it_made(shop) -> None:
    both = [*restyle(), stage("remove_background", model="key")]
    shop.add(both, size=(640, 640))
    shop.do([1, 4])
    assert shop.seconds(both, (640, 640)) == [pytest.approx(1), pytest.approx(4)]
    alone = [stage("remove_background", model="key")]
    assert shop.seconds(alone, (64, 64)) == [pytest.approx(4)]
    assert shop.seconds(alone, (128, 64)) == [pytest.approx(8)]


def test_resolution_counts_by_its_square_whatever_the_picture(shop) -> None:
    for resolution in (10, 20):
        shop.add([stage("triposr", model="tsr", resolution=resolution + 6)], size=(99, 50))
        shop.do([1 + (resolution + 6) ** 2 / 100])
    told = shop.seconds([stage("triposr", model="tsr", resolution=100)], (7, 7000))
    assert told == [pytest.approx(101)]


def test_each_model_by_itself(shop) -> None:
    shop.add(restyle())
    shop.do([2])
    assert shop.seconds([stage("img2img", model="other")]) == []
    assert shop.seconds([*restyle(), stage("img2img", model="other")]) == []
    assert shop.seconds([stage("gone", model="sd")]) == []
    assert shop.seconds([stage("img2img", model="sd", wrong=1)]) == []


def test_a_new_device_is_learned_anew(shop) -> None:
    for _ in range(9):
        shop.add(restyle())
        shop.do([20])
    shop.add(restyle())
    shop.do([1], device="cuda")
    assert shop.seconds(restyle()) == [pytest.approx(1)]
    shop.add(restyle())
    shop.do([20])
    assert shop.seconds(restyle()) == [pytest.approx(20)], "what was known of the old one is kept"


@pytest.mark.slow
def test_a_machine_that_has_become_slower_is_noticed_soon(shop) -> None:
    for seconds in [2] * 30 + [6] * 10:
        shop.add(restyle())
        shop.do([seconds])
    assert shop.seconds(restyle()) == [pytest.approx(6)]


@pytest.mark.slow
def test_what_loading_and_writing_take_counts_too_and_a_long_rest_does_not(shop) -> None:
    for _ in range(3):
        shop.add(restyle())
        shop.do([2], loading_s=1)
    assert shop.seconds(restyle()) == [pytest.approx(3)]
    shop.add([*restyle(), stage("remove_background", model="key")])
    shop.do([2, 1], loading_s=7200)
    assert shop.seconds([stage("remove_background", model="key")]) == [pytest.approx(1)]


@pytest.mark.parametrize(("gap_s", "seconds"), [(0.5, 2.5), (30, 2)])
def test_the_moment_between_two_jobs_counts_too_and_idle_time_does_not(
    shop, gap_s: float, seconds: float
) -> None:
    for _ in range(4):
        shop.add(restyle())
        shop.do([2])
        shop.now += timedelta(seconds=gap_s)
    assert shop.seconds(restyle()) == [pytest.approx(seconds)]


def test_only_what_can_run_now_counts(shop) -> None:
    shop.add(restyle())
    shop.do([2])
    shop.add(restyle(), 4)
    shop.add(restyle(), 5, hold="hours")
    shop.add(restyle(), 5, status="completed")
    assert shop.left() == QueueEstimate(4, pytest.approx(8))
    shop.site.ledger.transact(lambda s: store.set_setting(s, "paused", "today"))
    assert shop.left() == QueueEstimate(0, None)


def test_each_inbox_and_batch_has_an_end_of_its_own(shop) -> None:
    shop.add(restyle())
    shop.do([2])
    shop.add(restyle(), 2, inbox="one", batch="b")
    shop.add(restyle(), 3, inbox="two")
    shop.add(restyle(), 1, inbox="first", priority=5)
    left = shop.left()
    assert left.inbox_s == pytest.approx({"first": 2, "one": 6, "two": 12})
    assert left.batch_s == pytest.approx({"b": 6})
    behind = left.behind("run", 10.0)
    assert behind.inbox_s == pytest.approx({"run": 10, "first": 12, "one": 16, "two": 22})
    assert behind.batch_s == pytest.approx({"b": 16})
    assert left.behind("run", None).inbox_s == {}


def test_without_history_no_inbox_has_an_end(shop) -> None:
    shop.add(restyle(), 2, inbox="one")
    assert shop.left().behind("one", 5.0).inbox_s == {}


@pytest.mark.slow
def test_a_long_queue_is_judged_by_a_sample(shop, monkeypatch) -> None:
    """Jobs that alternate must not fool it, as every other of a matrix does."""
    shop.add(restyle(10))
    shop.do([1])
    for _ in range(55):
        shop.add(restyle(10))
        shop.add(restyle(30))
    monkeypatch.setattr("dna_pipeline.execution.estimate.MAX_SAMPLE", 20)
    assert len(shop.views.runnable_sample(110 // 20 + 1)) in range(12, 28)
    assert shop.left() == QueueEstimate(110, pytest.approx(220, rel=0.2))


def idle_dispatcher() -> SimpleNamespace:
    return SimpleNamespace(
        running={}, workers={}, describe_workers=lambda _: [], delayed=lambda: None
    )


def test_what_the_status_file_tells(shop, site) -> None:
    shop.add(restyle())
    shop.do([2])
    shop.add(restyle(), 3)
    dispatcher = idle_dispatcher()
    gate = SimpleNamespace(waiting=list)
    status = StatusFile(site.config, shop.views, dispatcher, gate)  # pyright: ignore
    status.step(0)
    told = json.loads((site.outbox / "status.json").read_text())
    assert (told["runnable"], told["queue_eta_s"]) == (3, 6.0)
    entry = {"inbox": "in", "done": 0, "total": 4, "eta_s": 6.0}
    assert told["progress"] == [entry]
    assert told["jobs_per_hour"] == 0


def test_whoever_watches_gets_what_the_status_file_tells(shop, site) -> None:
    shop.add(restyle())
    seen: list[dict] = []
    dispatcher = idle_dispatcher()
    gate = SimpleNamespace(waiting=list)
    status = StatusFile(site.config, shop.views, dispatcher, gate, observe=seen.append)  # pyright: ignore
    status.step(0)
    status.close()
    for content in seen:
        assert content["queue"] == {"queued": {"in": 1}}
    assert [content["daemon"] is None for content in seen] == [False, True]
    told = json.loads((site.outbox / "status.json").read_text())
    del told["written_at"]
    assert told == json.loads(json.dumps(seen[-1], default=str))


def test_a_long_queue_is_not_judged_anew_each_second(shop, site, monkeypatch) -> None:
    clock = [0.0]
    asked = []

    def queue_of_many() -> QueueEstimate:
        asked.append(clock[0])
        clock[0] += 0.05
        return QueueEstimate(100_000, 4e5)

    dispatcher = idle_dispatcher()
    status = StatusFile(site.config, shop.views, dispatcher, SimpleNamespace(waiting=list))  # pyright: ignore
    monkeypatch.setattr(status._estimator, "queue", queue_of_many)
    monkeypatch.setattr(
        "dna_pipeline.operations.daemon.status_file.time.monotonic", lambda: clock[0]
    )
    for second in range(30):
        clock[0] = float(second)
        status.ledger_changed()
        status.step(clock[0])
    assert asked == [0, 10, 20]
