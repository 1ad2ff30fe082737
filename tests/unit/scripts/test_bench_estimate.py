"""What the bench of estimates says of a run whose end is known."""

from __future__ import annotations

import argparse

import pytest

from tests.conftest import load_script

bench = load_script("benches.estimate")


def test_errors_are_shares_of_what_was_left() -> None:
    assert bench._error(bench.Sample(10, 5, 90.0), 100) == pytest.approx(0)
    assert bench._error(bench.Sample(60, 5, 50.0), 100) == pytest.approx(25)
    assert bench._error(bench.Sample(60, 5, 30.0), 100) == pytest.approx(-25)
    assert bench._error(bench.Sample(60, 5, None), 100) is None


def test_the_worst_is_sought_from_a_third_to_nine_tenths() -> None:
    errors = [(bench.Sample(at, ended, None), error) for at, ended, error in [
        (1, 0, 500.0), (2, 3, 90.0), (3, 4, 7.0), (4, 8, None), (5, 9, -20.0), (6, 10, 300.0),
    ]]  # fmt: skip
    assert bench._worst(errors, 10) == -20.0
    assert bench._at(errors, 3.5) == 7.0
    assert bench._at(errors, 11) is None


def test_too_few_jobs_are_refused() -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    with pytest.raises(ValueError, match="at least 12"):
        bench.run(parser.parse_args(["--jobs", "3"]))
