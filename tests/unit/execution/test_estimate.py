"""The line through what stages took, and how their sum is said."""

from __future__ import annotations

import random

import pytest

from dna_pipeline.base.quantities import about
from dna_pipeline.execution.estimate import Line, QueueEstimate, fit, pace, total
from dna_pipeline.execution.protocol import Phase
from dna_pipeline.execution.running_job import RunningJob


def near(seconds: float) -> object:
    return pytest.approx(seconds, rel=0.1)


def test_one_size_is_scaled_by_the_measure():
    line = fit([(100, 2.0), (100, 2.2), (100, 1.8)])
    assert line == Line(0.0, 0.02)
    assert line.seconds(400) == 8.0


def test_a_fixed_part_is_told_from_what_grows():
    dice = random.Random(1)
    points = [(work, (3 + 0.5 * work) * dice.uniform(0.95, 1.05)) for work in (8, 27, 64, 125) * 10]
    line = fit(points)
    for work in (8, 100, 125, 500):
        assert line.seconds(work) == near(3 + 0.5 * work)


def test_a_fifth_may_be_far_off():
    """First jobs that loaded a model, jobs that stood still with the machine."""
    points = [(work, 2 + 0.1 * work + (60 if n % 5 == 0 else 0))
              for n, work in enumerate((10, 40, 20, 90) * 10)]  # fmt: skip
    line = fit(points)
    assert line.seconds(50) == near(7)


@pytest.mark.parametrize(
    "points",
    [
        [(1, 5.0), (2, 4.0), (3, 4.5), (4, 3.0)],
        [(1, 0.1), (2, 1.0), (3, 9.0)],
        [(0, 1.0), (0, 2.0)],
        [(0, 0.0), (5, 0.0)],
    ],
)
def test_no_work_takes_less_than_no_time(points: list[tuple[float, float]]):
    line = fit(points)
    assert line.fixed_s >= 0
    assert line.slope >= 0


def test_less_time_for_more_work_is_chance():
    assert fit([(1, 5.0), (2, 4.0), (3, 4.5), (4, 3.0)]) == Line(4.25, 0.0)


def test_the_pace_is_that_of_most_of_the_time():
    assert pace([]) == 1.0
    assert pace([(0.0, 0.0)]) == 1.0
    assert pace([(4, 2), (6, 3), (90, 3)]) == 2.0
    assert pace([(9, 1), (9, 1), (20, 10)]) == 2.0, "short stages weigh little"


@pytest.mark.parametrize(
    ("told", "jobs", "seconds"),
    [
        ([], 0, None),
        ([[1.0, 2.0], [5.0]], 2, 8.0),
        ([[1.0], [3.0]], 1000, 2000.0),
        ([[1.0], [3.0], []], 3, 6.0),
        ([[1.0], [], []], 3, None),
        ([[]], 1, None),
    ],
)
def test_the_sum_of_a_sample(told: list[list[float]], jobs: int, seconds: float | None):
    assert total(told, jobs) == seconds


@pytest.mark.parametrize(
    ("left", "running", "eta"),
    [
        (QueueEstimate(0, None), (), None),
        (QueueEstimate(3, 6.0), (), 6.0),
        (QueueEstimate(3, None), (), None),
        (QueueEstimate(0, None), (True, 4.0), 4.0),
        (QueueEstimate(3, 6.0), (True, 4.0), 10.0),
        (QueueEstimate(3, 6.0), (True, None), None),
    ],
)
def test_what_runs_and_what_waits(left: QueueEstimate, running: tuple, eta: float | None):
    assert left.to_dict(*running) == {"runnable": left.jobs, "queue_eta_s": eta}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "about 1 s"),
        (89.4, "about 89 s"),
        (95, "about 2 min"),
        (720, "about 12 min"),
        (3590, "about 1 h"),
        (12_000, "about 3 h 20 min"),
        (100_000, "about 27 h"),
        (36_000_000, "about 10,000 h"),
    ],
)
def test_how_it_is_said(seconds: float, said: str):
    assert about(seconds) == said


# --- the job that runs ---

EXPECTED = {"img2img": 10.0, "remove_background": 2.0, "triposr": 5.0}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("dna_pipeline.execution.running_job.time.monotonic", lambda: now[0])
    return now


def test_the_time_left_of_a_running_job(clock: list[float]):
    job = RunningJob("a", "in", "cat.png", 1, started=clock[0])
    assert job.remaining_s(EXPECTED) == 17.0
    job.enter(Phase("j", "img2img", "loading", 60.0))
    clock[0] += 4
    assert job.remaining_s(EXPECTED) == 13.0
    job.step, job.steps = 8, 10
    assert job.remaining_s(EXPECTED) == 9.0
    job.enter(Phase("j", "img2img", "running", 60.0))
    assert job.remaining_s(EXPECTED) == 9.0
    job.enter(Phase("j", "triposr", "running", 60.0))
    assert job.remaining_s(EXPECTED) == 5.0
    clock[0] += 60
    assert job.remaining_s(EXPECTED) == 0.0
    assert job.to_dict(EXPECTED)["eta_s"] == 0.0


def test_without_history_its_own_pace_tells(clock: list[float]):
    job = RunningJob("a", "in", "cat.png", 1, started=clock[0])
    assert job.remaining_s({}) is None
    job.enter(Phase("j", "img2img", "running", 60.0))
    clock[0] += 4
    job.fraction = 0.25
    assert job.remaining_s({}) == 12.0
    assert job.to_dict({})["eta_s"] == 12.0
