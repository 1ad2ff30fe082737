"""Connections that requests share."""

from __future__ import annotations

from contextlib import ExitStack, closing

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.serving.readers import Readers
from tests.serving import add_events, replace_ledger


def is_open(queries: Queries) -> bool:
    try:
        queries.last_event()
    except Exception:
        return False
    return True


def test_a_connection_is_lent_again(config: Config, ledger: Ledger):
    with closing(Readers(config)) as readers:
        with readers.lend() as first, readers.lend() as second:
            assert first is not second
        with readers.lend() as third:
            assert third in (first, second)


def test_only_a_few_are_kept(config: Config, ledger: Ledger):
    with closing(Readers(config, most_kept=2)) as readers, ExitStack() as stack:
        lent = [stack.enter_context(readers.lend()) for _ in range(5)]
        stack.close()
        assert sum(map(is_open, lent)) == 2
    assert not any(map(is_open, lent))


def test_none_is_lent_after_another_file_took_the_place(config: Config, ledger: Ledger):
    add_events(ledger, "a", "b", "c")
    with closing(Readers(config)) as readers:
        with readers.lend() as before:
            assert before.last_event() == 3
        ledger.close()
        replace_ledger(config, "a")
        with readers.lend() as after:
            assert after.last_event() == 1
        assert not is_open(before)


def test_one_that_fails_is_not_lent_again(config: Config, ledger: Ledger):
    with closing(Readers(config)) as readers:
        with pytest.raises(RuntimeError), readers.lend() as first:
            raise RuntimeError
        assert not is_open(first)


def test_without_a_ledger_there_is_a_sentence_and_later_a_ledger(config: Config):
    with closing(Readers(config)) as readers:
        with pytest.raises(ConfigError, match="no ledger yet"), readers.lend():
            pass
        replace_ledger(config, "a")
        with readers.lend() as queries:
            assert queries.last_event() == 1


def test_after_the_end_none_is_kept(config: Config, ledger: Ledger):
    readers = Readers(config)
    with readers.lend() as lent:
        readers.close()
        assert is_open(lent)
    assert not is_open(lent)
