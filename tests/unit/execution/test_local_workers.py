"""Which of several workers gets an order; the workers are played."""

from __future__ import annotations

import queue
from dataclasses import replace

from dna_pipeline.execution.local_workers import Workers
from dna_pipeline.execution.protocol import Order
from dna_pipeline.execution.worker_state import WorkerState
from tests.played_workers import PlayedWorker, free_worker


def order(job: str = "j") -> Order:
    return Order(job, 1, (), (), f"/work/{job}")


def several(*states: WorkerState) -> tuple[Workers, list[PlayedWorker]]:
    played = [PlayedWorker(state) for state in states]
    return Workers({w.now.name: w for w in played}, queue.SimpleQueue()), played


def test_an_order_is_given_away_though_no_worker_is_free_any_more():
    busy = replace(free_worker("w1"), is_free=False, orders=2)
    ending = replace(free_worker("w2"), is_free=False, orders=1)
    workers, played = several(busy, ending)
    workers.submit(order())
    assert [len(worker.given) for worker in played] == [0, 1]


def test_an_order_goes_to_one_of_those_that_were_chosen():
    workers, played = several(*(free_worker(name) for name in ("w1", "w2", "w3")))
    for number in range(4):
        workers.submit(order(str(number)), ["w2", "w3"])
    assert [len(worker.given) for worker in played] == [0, 2, 2]
    played[1].now = replace(played[1].now, is_free=False)
    workers.submit(order(), ["w2"])
    assert len(played[1].given) == 3, "it ends the order or starts another process for it"
