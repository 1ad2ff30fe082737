"""Sentences on what keeps a daemon from its work."""

from __future__ import annotations

from dna_pipeline.operations.daemon.lock import daemon_words


def test_a_daemon_is_named_by_what_it_said(tokyo: None):
    facts = {"pid": 7, "host": "render1", "since": "2026-05-04T20:30:05.000000Z"}
    assert daemon_words(facts) == "process 7 on render1, since 2026-05-05 05:30:05"
    assert daemon_words({"pid": 7}) == "process 7"
    assert daemon_words({"pid": 7, "host": "h", "since": 5}) == "process 7 on h"
    assert daemon_words(None) == daemon_words({}) == "it did not say which"
