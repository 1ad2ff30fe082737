"""Which of several workers gets an order; the workers are played."""

from __future__ import annotations

import queue
from dataclasses import replace

from dna_pipeline.execution.local_workers import Workers
from dna_pipeline.execution.protocol import Order, Task
from dna_pipeline.execution.worker_state import WorkerState
from tests.played_workers import free_worker


class PlayedWorker:
    """Takes orders, and is in the state that a test puts it in."""

    capacity = 3
    waits_for_device = False
    lost_at = 0.0

    def __init__(self, name: str) -> None:
        self.now = free_worker(name)
        self.given: list[Order | Task] = []

    def state(self) -> WorkerState:
        return self.now

    def submit(self, order: Order | Task) -> None:
        self.given.append(order)

    def cancel(self, job: str) -> None: ...
    def yield_after_stage(self, job: str) -> None: ...
    def enforce_timeouts(self) -> None: ...
    def close(self, grace_s: float) -> None: ...


def order(job: str = "j") -> Order:
    return Order(job, 1, (), (), f"/work/{job}")


def several(*states: WorkerState) -> tuple[Workers, dict[str, PlayedWorker]]:
    played = {state.name: PlayedWorker(state.name) for state in states}
    for state in states:
        played[state.name].now = state
    return Workers(played, queue.SimpleQueue()), played


def test_an_order_is_given_away_though_no_worker_is_free_any_more():
    busy = replace(free_worker("w1"), is_free=False, orders=2)
    ending = replace(free_worker("w2"), is_free=False, orders=1)
    workers, played = several(busy, ending)
    workers.submit(order())
    assert [len(worker.given) for worker in played.values()] == [0, 1]
