"""Commands as a farm gives them: rows of a table, a kill in the midst, and waiting for jobs."""

import json
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import ACTING, Studio
from PIL import Image

from tests import fork_server
from tests.fork_server import Process

pytestmark = pytest.mark.slow


@pytest.fixture
def table(stage: Studio, tmp_path: Path) -> Path:
    """A table of the rows 2 to 7 on a share, whose jobs take a moment."""
    (stage.root / "pipeline.yaml").write_text(ACTING.format(act="{steps: 4, seconds: 0.05}"))
    share = tmp_path / "share"
    share.mkdir()
    for number in range(2, 8):
        Image.new("RGB", (64, 64), (40 * number, 0, 0)).save(share / f"{number}.png")
    path = share / "shots.csv"
    path.write_text("image,meta.n\n" + "".join(f"{n}.png,{n}\n" for n in range(2, 8)))
    return path


def start(stage: Studio, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
    log = stage.root / f"{arguments[0]}.log"
    return fork_server.logged(
        stage.server(), log, "dna_pipeline", *arguments, cwd=stage.root, env=env
    )


def rows_done(stage: Studio) -> list[str]:
    """The rows that have a result, each as often as it has one."""
    manifests = stage.outbox.glob("submit/shots-*/*-*/manifest.json")
    return sorted(json.loads(path.read_bytes())["job"]["meta"]["n"] for path in manifests)


def test_a_task_is_killed_and_given_again(stage: Studio, table: Path):
    before = {path.name: path.read_bytes() for path in table.parent.iterdir()}
    task = ("run", "--table", str(table), "--rows", "3-6")
    first = start(stage, *task)
    stage.wait(lambda: rows_done(stage))
    first.kill()
    first.wait(30)
    assert 1 <= len(rows_done(stage)) < 4

    again = stage.cli(*task)

    assert again.returncode == 0, again.stderr
    assert rows_done(stage) == ["3", "4", "5", "6"]
    percent = [line for line in again.stdout.splitlines() if line.startswith("Progress: ")]
    assert percent[-1] == "Progress: 100%"
    assert "rows 3-6 of" in again.stdout
    assert "4 completed" in again.stdout.splitlines()[-1]
    third = stage.facts(*task)
    assert third["table"]["outcomes"] == {"completed": 4}
    assert third["completed"] == 0, "nothing is done twice"
    assert rows_done(stage) == ["3", "4", "5", "6"]
    assert {path.name: path.read_bytes() for path in table.parent.iterdir()} == before
    assert stage.leftovers() == []
    assert list(stage.inbox("act").iterdir()) == []


def test_what_a_wrong_row_and_a_wrong_range_answer(stage: Studio, table: Path):
    (table.parent / "4.png").write_bytes(b"no picture")
    done = stage.cli("run", "--table", str(table), "--rows", "3-4")
    assert done.returncode == 1
    assert "rows 3-4 of" in done.stdout
    assert "1 completed, 1 wrong" in done.stdout.splitlines()[-1]
    (report,) = stage.outbox.glob("submit/shots-*/batch.csv")
    assert "image_unreadable" in report.read_text()
    for arguments, why in {
        ("--table", str(table), "--rows", "9-12"): "has no row 9-12; its rows are 2 to 7",
        ("--table", str(table), "--rows", "x"): "--rows: 'x' is no row",
        ("--table", str(table.parent / "no.csv")): "there is no such file",
        ("--rows", "2"): "name it with --table",
    }.items():
        wrong = stage.cli("run", *arguments)
        assert (wrong.returncode, why in wrong.stderr) == (2, True), wrong.stderr
    assert rows_done(stage) == ["3"]


FARM_WORDS = {
    "<STARTFRAME>-<ENDFRAME>": "3-4", "#FRAMESPEC#": "3-4", "$FIRST-$LAST": "3-4", "102-201": "3-4"
}  # fmt: skip


def test_the_commands_of_the_farms_page(stage: Studio, table: Path):
    text = (Path(__file__).parents[2] / "docs/farms.md").read_text(encoding="utf-8")
    calls = re.findall(r"run --table (\S+\.csv) --rows ([^\s\"]+)", text)
    assert {rows for _, rows in calls} == FARM_WORDS.keys()
    assert len(calls) == 4
    for _, rows in calls:
        done = stage.cli("run", "--table", str(table), "--rows", FARM_WORDS[rows])
        assert done.returncode == 0, done.stderr
    assert rows_done(stage) == ["3", "4"]
    assert "dna-pipeline submit chair.png table.png --wait" in text, "as in the next test"


def test_submit_waits_for_its_jobs(stage: Studio, table: Path):
    picture = str(table.parent / "2.png")
    alone = stage.cli("submit", picture, "--wait")
    assert alone.returncode == 2
    assert "no daemon runs on" in alone.stderr
    assert stage.jobs() == []
    with stage.watch():
        stage.wait((stage.root / "data/daemon.json").exists)
        stage.wait((stage.root / "data/ledger.db").exists)
        done = stage.cli("submit", picture, str(table.parent / "3.png"), "--wait")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[:2] == [job["id"] for job in reversed(stage.jobs())]
        assert lines[-1] == "Progress: 100%"
        assert "2 completed, 0 failed, 0 cancelled" in done.stderr

        failed = stage.cli("submit", picture, "--set", "act.deed=err", "--wait")
        assert failed.returncode == 1, failed.stderr
        assert "0 completed, 1 failed" in failed.stderr

        waiting = start(stage, "submit", picture, "--set", "act.seconds=5", "--wait")
        stage.wait(lambda: stage.jobs()[0]["status"] == "running")
        log = stage.root / "submit.log"
        stage.wait(lambda: "Progress: 0%" in log.read_text())
        os.kill(waiting.pid, signal.SIGINT)
        assert waiting.wait(30) == 130
        job = stage.jobs()[0]["id"]
        assert f"`dna-pipeline cancel {job[:8]}` ends them" in log.read_text()
        assert stage.jobs()[0]["status"] == "running"
        assert stage.cli("cancel", job).returncode == 0
