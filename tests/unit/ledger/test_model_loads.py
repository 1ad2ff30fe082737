"""Requests to load models."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

from sqlalchemy import update

from dna_pipeline.base.errors import WeightsMismatch
from dna_pipeline.base.times import utcnow
from dna_pipeline.ledger import model_loads
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.tables import ModelLoad


def state(book: Any, number: int) -> dict[str, Any] | None:
    with closing(Queries(book.path)) as queries:
        return queries.model_load(number)


def test_a_request_is_taken_once(book: Any):
    first, second = book.do(model_loads.request, "sd15"), book.do(model_loads.request, "matte")
    with closing(Queries(book.path)) as queries:
        assert queries.has_requested_loads()
        assert book.do(model_loads.take) == [(first, "sd15"), (second, "matte")]
        assert book.do(model_loads.take) == []
        assert not queries.has_requested_loads()


def test_how_it_ends(book: Any):
    first, second = book.do(model_loads.request, "sd15"), book.do(model_loads.request, "sd15")
    book.do(model_loads.take)
    book.do(model_loads.finish, first, "cuda:0", 1.5)
    done = state(book, first)
    assert done is not None
    assert (done["state"], done["device"], done["seconds"]) == ("done", "cuda:0", 1.5)
    assert done["ended_at"] >= done["requested_at"]
    book.do(model_loads.fail, second, WeightsMismatch("other").failure())
    failed = state(book, second)
    assert failed is not None
    assert (failed["state"], failed["error"]["code"]) == ("failed", "weights_mismatch")


def test_what_a_daemon_did_not_answer_is_not_done_again(book: Any):
    number = book.do(model_loads.request, "sd15")
    book.do(model_loads.take)
    book.do(model_loads.recover)
    assert book.do(model_loads.take) == []
    row = state(book, number)
    assert row is not None
    assert (row["state"], row["error"]["code"]) == ("failed", "worker_crashed")


def test_a_request_for_which_nobody_waits_any_more(book: Any):
    number = book.do(model_loads.request, "sd15")
    old = utcnow() - timedelta(seconds=model_loads.EXPIRY_S + 1)
    book.ledger.transact(lambda s: s.execute(update(ModelLoad).values(requested_at=old)))
    assert book.do(model_loads.take) == []
    row = state(book, number)
    assert row is not None
    assert row["state"] == "failed"


def test_a_request_is_withdrawn_until_it_is_taken(book: Any):
    first, second = book.do(model_loads.request, "a"), book.do(model_loads.request, "b")
    book.do(model_loads.withdraw, first)
    assert book.do(model_loads.take) == [(second, "b")]
    book.do(model_loads.withdraw, second)
    assert state(book, first) is None
    assert state(book, second) is not None


def test_old_requests_are_removed(book: Any):
    numbers = [book.do(model_loads.request, "a") for _ in range(model_loads.KEPT + 3)]
    kept = [number for number in numbers if state(book, number) is not None]
    assert kept == numbers[3:]
