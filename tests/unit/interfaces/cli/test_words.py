"""Values, sizes and times in words."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base import clock
from dna_pipeline.interfaces.cli import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "-"),
        (True, "true"),
        (False, "false"),
        (["glb"], "glb"),
        (["glb", "obj"], "glb, obj"),
        ([], "-"),
        ((1, 2.5, None), "1, 2.5, -"),
        ({"asset": "chair", "ok": True}, "asset: chair; ok: true"),
        ({"a": {"b": [1]}}, "a: b: 1"),
        ({}, "-"),
        (25.0, "25"),
        (0.6, "0.6"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        ("", '""'),
        ("None", "None"),
        (Path("a/b"), "a/b"),
        (b"caf\xe9", "caf\udce9"),
    ],
)
def test_values_are_plain(value: Any, said: str):
    assert words.plain(value) == said


def test_an_end_is_told_by_the_clock_with_the_day_where_it_is_another(tokyo: None):
    now = datetime(2026, 5, 4, 12, tzinfo=UTC)  # 21:00 in Tokyo
    assert words.end_in(12 * 60, now) == "21:12"
    assert words.end_in(3 * 3600 - 1, now) == "23:59"
    assert words.end_in(3 * 3600, now) == "2026-05-05 00:00"
    assert words.end_in(1e30, now) == "after the end of the calendar"


def test_times_are_local(tokyo: None):
    time_ = datetime(2026, 5, 4, 20, 30, 5, 999, tzinfo=UTC)
    assert clock.to_second(time_) == "2026-05-05 05:30:05"
    assert clock.to_minute(time_) == "2026-05-05 05:30"
    assert words.plain(time_) == "2026-05-05 05:30:05"
    assert clock.to_minute(datetime.max.replace(tzinfo=UTC)).startswith("9999-12-31 ")


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("queued", {"inbox": "in", "name": "a.png", "pipeline": "cut"}, "in/a.png, pipeline cut"),
        ("queued", {"retry": True}, "once more, by retry"),
        ("queued", {"replaced": True}, "anew, with a sidecar that came later"),
        ("started", {"attempt": 2}, "attempt 2"),
        (
            "progress",
            {"stage": "img2img", "step": 3, "steps": 20, "fraction": 0.15},
            "img2img step 3 of 20, 15%",
        ),
        ("failed", {"code": "c", "detail": "one\ntwo"}, "c: one; two"),
        ("completed", {}, ""),
        ("other", {"list": ["a", None], "flag": True}, "list: a, -; flag: true"),
    ],
)
def test_events(kind: str, data: dict[str, Any], said: str):
    assert words.event_words(kind, data) == said
