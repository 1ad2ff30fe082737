"""The bench of taking in, on a small inbox."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import SCRIPTS

FILES = 60


@pytest.mark.slow
@pytest.mark.parametrize("originals", ["archive", "keep", "delete"])
def test_a_small_inbox(originals: str) -> None:
    flags = ["--files", str(FILES), "--originals", originals, "--job-seconds", "0.1", "--json"]
    done = subprocess.run(
        [sys.executable, SCRIPTS / "bench.py", "intake", *flags],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["originals"], facts["files"], facts["lost"]) == (originals, FILES, 0)
    assert 0 < facts["first_recorded_s"] <= facts["last_recorded_s"]
    assert facts["first_recorded_s"] <= facts["first_job_s"]
    assert facts["per_second"] > facts["per_second_overall"] > 0
    assert 20 < facts["peak_rss_mb"] < 200
    assert facts["daemon_cpu_s"] > 0
