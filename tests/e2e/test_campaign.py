"""A short campaign; `scripts/campaign.py` runs long ones."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import SCRIPTS

KILLS = 12


@pytest.mark.slow
def test_kills_at_random_lose_nothing() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "campaign.py", "--kills", str(KILLS), "--seed", "7", "--json"],
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    (report,) = json.loads(done.stdout)
    assert report["findings"] == []
    assert done.returncode == 0, done.stderr
    assert report["kills"] == KILLS
    assert all(report["killed"][kind] > 0 for kind in ("daemon", "worker", "command"))
    assert report["results"] > KILLS / 2
    assert min(report["failures"], report["cancelled"], report["shared"]) > 0
    assert {"cancel", "retry"} <= report["commands_done"].keys()
