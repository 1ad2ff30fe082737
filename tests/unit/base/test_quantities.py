"""Sizes and durations in words."""

from __future__ import annotations

import pytest

from dna_pipeline.base import quantities


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (80, "1 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (36_000_000, "10,000 h"),
    ],
)
def test_durations(seconds: float, said: str):
    assert quantities.duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024 * 1024 - 1, "1 MiB"),
        (672 << 20, "672 MiB"),
        (5 << 30, "5 GiB"),
        (3 << 40, "3 TiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_sizes(number: int, said: str):
    assert quantities.size(number) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "about 1 s"),
        (72, "about 72 s"),
        (95, "about 2 min"),
        (12_000, "about 3 h 20 min"),
        (86_340, "about 23 h 59 min"),
        (90_000 + 3000, "about 25 h"),
        (36_000_000, "about 10,000 h"),
    ],
)
def test_estimates(seconds: float, said: str):
    assert quantities.about(seconds) == said
