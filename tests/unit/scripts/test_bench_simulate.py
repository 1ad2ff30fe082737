"""The bench of many simulated workers: it does all jobs, and its figures are of these."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import load_script

bench = load_script("bench")
load_script("benches.simulate")


@pytest.fixture
def own_log() -> Iterator[None]:
    """Close the log that the bench opens, and give this process the one back that it had."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers = handlers
    root.setLevel(level)


@pytest.mark.slow
@pytest.mark.usefixtures("own_log")
def test_workers_are_simulated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--workers", "20", "--queued", "200", "--jobs", "300", "--steps", "2")
    chances = ("--failures", "0.05", "--deaths", "0.05", "--models", "3", "--clock", "processor")
    arguments = ["bench.py", "simulate", *options, *chances, "--folder", str(tmp_path), "--json"]
    monkeypatch.setattr("sys.argv", arguments)
    bench.main()
    facts = json.loads(capsys.readouterr().out)
    assert (facts["workers"], facts["ended"]) == (20, 200)
    assert facts["virtual_s"] > 200 * 20 / 20, "jobs of 30 s, a few of them much longer"
    assert 0.3 < facts["utilisation"]["whole_run"] <= facts["utilisation"]["until_dry"] <= 1
    loads = facts["model_loads"]
    assert loads["least"] == 20
    assert 20 <= loads["all"] < loads["by_chance"] + 20
    assert facts["transactions_per_job"] > 5
    assert 0 < facts["ms_per_job"]["median"] <= facts["ms_per_job"]["p95"]
    assert facts["saturation"]["jobs_per_s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_share_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.py", "simulate", "--failures", "2"])
    with pytest.raises(SystemExit) as caught:
        bench.main()
    assert caught.value.code == 2
    assert "shares lie between 0 and 1" in capsys.readouterr().err
