"""Drops from claim to disposal."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from dna_pipeline.ledger import drops
from dna_pipeline.ledger.engine import LedgerError
from dna_pipeline.ledger.tables import Drop
from tests.unit.ledger.conftest import Book


def only_drop(session: Any) -> Drop:
    return session.scalars(select(Drop)).one()


def test_a_claim_gets_what_it_found_out(book: Book):
    book.add()
    id_ = book.do(only_drop).id
    book.do(drops.finish_claims, [{"id": id_, "sha256": "0" * 64, "companions": None}], [])
    drop = book.do(only_drop)
    assert (drop.state, drop.sha256, drop.companions) == ("claimed", "0" * 64, None)


def test_a_drop_that_is_gone_stops_the_commit_of_its_group(book: Book):
    book.add()
    ids = (book.do(only_drop).id, "gone")
    with pytest.raises(LedgerError, match="not in the ledger"):
        book.do(drops.finish_claims, [{"id": id_, "sha256": "0" * 64} for id_ in ids], [])
    assert book.do(only_drop).sha256 is None
