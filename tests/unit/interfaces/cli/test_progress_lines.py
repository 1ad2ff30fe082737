"""Lines of progress, as Deadline and scripts read them."""

from __future__ import annotations

import pytest

from dna_pipeline.interfaces.cli.farms import ProgressLines


def test_each_number_once_and_at_most_one_line_a_second(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [10.0]
    lines = ProgressLines(lambda: now[0])
    for seconds, percent in [(0, 0), (0.5, 3), (1.1, 5), (1.2, 7), (3, 5), (5, 5), (5.1, 100)]:
        now[0] = 10.0 + seconds
        lines.show(percent)
    lines.show(100)
    assert capsys.readouterr().out == "Progress: 0%\nProgress: 5%\nProgress: 100%\n"
