"""Two daemons on two data folders and one inbox; and what one that died had taken in."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from dna_pipeline.base.layout import claim_root, claim_roots
from dna_pipeline.config.loader import load_config
from dna_pipeline.intake.claiming import claims, owner
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.lock import hold_lock, holder
from dna_pipeline.operations.repair.takeover import take_over
from tests import fork_server
from tests.commands import call_apart

pytestmark = pytest.mark.slow

PAIRS = 200

CONFIG = """\
version: 1
models: {key: {provider: border_key}}
pipelines: {cut: [{remove_background: {model: key}}]}
inboxes: [{path: %s, pipeline: cut, originals: %s, settle_seconds: 0.2, rescan_seconds: 0.3,
           sidecar_wait_seconds: 20}]
"""

GATE = """
import sys, time
from pathlib import Path
import structlog
from dna_pipeline.operations.daemon.cleanup import Cleanup
from dna_pipeline.intake import inbox_intake as limits
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.config.loader import load_config
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
config = load_config(Path(sys.argv[1]), {})
limits.GROUP = limits.FIRST_GROUP  # or one has them all before the other has had its turn
ledger = Ledger(config.ledger_path)
gate = IntakeService(config, ledger, Cleanup(config, ledger))
inbox = config.inboxes[0].path
quiet = time.monotonic() + 60
print("ready", flush=True)
sys.stdin.readline()
ended = None
while time.monotonic() < quiet:
    gate.step()
    time.sleep(min(0.05, gate.seconds_to_next()) or 0.01)
    left = [p for p in inbox.iterdir() if p.name != ".dna"]
    if (inbox.parent / "all-are-there").exists() and not left and gate.is_quiet:
        break
gate.close()
"""


def make(root: Path, inbox: Path, originals: str = "archive") -> Path:
    root.mkdir()
    inbox.mkdir(exist_ok=True)
    (root / "pipeline.yaml").write_text(CONFIG % (inbox, originals))
    return root / "pipeline.yaml"


def jobs_of(file: Path) -> list[dict]:
    config = load_config(file, {})
    views = Queries(config.ledger_path)
    jobs = [views.job(job["id"]) for job in views.jobs(limit=1000)]
    views.close()
    return jobs


def put_pair(inbox: Path, number: int) -> None:
    """Image first, sidecar second, or the other way round."""
    image = inbox / f"{number:03}.png"
    sidecar = inbox / f"{number:03}.yaml"
    for path in (image, sidecar) if number % 2 else (sidecar, image):
        if path == sidecar:
            sidecar.write_text(f"meta: {{number: {number}}}")
        else:
            picture = Image.new("RGB", (40, 40), (number % 256, 0, 90))
            picture.paste("white", (10, 10, 30, 30))
            picture.save(image)


@pytest.mark.parametrize("originals", ["archive", "delete"])
def test_each_drop_is_claimed_once_and_no_pair_is_split(tmp_path: Path, originals: str) -> None:
    inbox = tmp_path / "in"
    files = [make(tmp_path / name, inbox, originals) for name in ("a", "b")]
    daemons = [
        subprocess.Popen(
            [sys.executable, "-c", GATE, str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for file in files
    ]  # fmt: skip
    for daemon in daemons:
        assert daemon.stdout.readline() == "ready\n"
    for number in range(PAIRS // 2):
        put_pair(inbox, number)
    for daemon in daemons:
        daemon.stdin.write("go\n")
        daemon.stdin.flush()
    for number in range(PAIRS // 2, PAIRS):
        put_pair(inbox, number)
    (tmp_path / "all-are-there").touch()
    for daemon in daemons:
        daemon.communicate(timeout=90)
        assert daemon.returncode == 0
    shares = [jobs_of(file) for file in files]
    jobs = [job for share in shares for job in share]
    assert sorted(job["meta"].get("number", job["name"]) for job in jobs) == list(range(PAIRS))
    assert {job["status"] for job in jobs} == {"queued"}
    for job in jobs:
        names = {path.name for path in Path(job["drop"]["claim"]).iterdir()}
        stem = f"{job['meta']['number']:03}"
        assert names == {f"{stem}.png", f"{stem}.yaml"}
    assert all(shares), "both took some"


def test_a_copy_of_a_data_folder_does_not_run_beside_its_daemon(dead, tmp_path: Path) -> None:
    """Both would have the same folder of claims in the inbox."""
    inbox, ledger_id, _ = dead
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with hold_lock(tmp_path / "a/data"):
        record = owner.record_of(tmp_path / "a/data/ledger.db", holder(tmp_path / "a/data") or {})
        owner.write(inbox, ledger_id, record)
        refused = call_apart(tmp_path / "copy", "run")
    assert refused.returncode == 3
    assert (
        f"{tmp_path / 'copy/data/ledger.db'} is a copy: another daemon (process" in refused.stderr
    )
    assert len(claims.list_claims(inbox, ledger_id)) == 2
    done = call_apart(tmp_path / "copy", "run")
    assert done.returncode == 0, done.stderr
    assert [job["status"] for job in jobs_of(tmp_path / "copy/pipeline.yaml")] == ["completed"] * 2


# --- what a dead one left ---


@pytest.fixture
def dead(tmp_path: Path):
    """Two pairs claimed by a daemon that is gone, and the configuration of another."""
    inbox = tmp_path / "in"
    theirs, ours = make(tmp_path / "a", inbox), make(tmp_path / "b", inbox)
    for number in (1, 2):
        put_pair(inbox, number)
    (tmp_path / "all-are-there").touch()
    run_gate(theirs)
    config = load_config(theirs, {})
    facts = {"host": "elsewhere", "pid": 1, "data": str(config.data)}
    ledger = Ledger(config.ledger_path)
    owner.beat(inbox, ledger.id, facts)
    ledger.close()
    return inbox, ledger.id, ours


def run_gate(file: Path) -> None:
    done = fork_server.run(fork_server.light(), "-c", GATE, str(file), stdin=b"go\n")
    assert done.returncode == 0, done.stderr


def age(inbox: Path, ledger_id: str, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(claim_root(inbox, ledger_id) / owner.NAME, (at, at))


def repair(ours: Path):
    done = call_apart(ours.parent, "repair", "--claims", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["claims"]


def test_claims_of_the_dead_become_jobs_here(dead) -> None:
    inbox, theirs, ours = dead
    age(inbox, theirs, 61)
    (found,) = repair(ours)
    assert (found["ledger"], found["alive"], found["taken"]) == (theirs, False, 2)
    assert found["owner"]["host"] == "elsewhere"
    assert not claim_root(inbox, theirs).exists()
    run_gate(ours)
    assert sorted(job["meta"]["number"] for job in jobs_of(ours)) == [1, 2]
    assert repair(ours) == []


def test_claims_of_the_living_are_left_alone(dead) -> None:
    inbox, theirs, ours = dead
    age(inbox, theirs, 30)
    (found,) = repair(ours)
    assert (found["alive"], found["taken"]) == (True, 0)
    assert len(claims.list_claims(inbox, theirs)) == 2


def test_one_that_holds_its_data_folder_lives_however_silent(dead, tmp_path: Path) -> None:
    inbox, theirs, ours = dead
    path = claim_root(inbox, theirs) / owner.NAME
    facts = json.loads(path.read_bytes()) | {"host": os.uname().nodename}
    path.write_text(json.dumps(facts))
    age(inbox, theirs, 1000)
    with hold_lock(tmp_path / "a/data"):
        assert repair(ours)[0]["taken"] == 0
    assert repair(ours)[0]["taken"] == 2


def test_what_was_taken_over_and_never_begun_can_be_taken_over_again(dead, tmp_path: Path) -> None:
    inbox, theirs, ours = dead
    age(inbox, theirs, 61)
    other = make(tmp_path / "c", inbox)
    totals = []
    for file in (ours, other):
        totals.append(sum(found.taken for found in take_over(load_config(file, {}))))
    assert totals == [2, 2]
    assert sum(len(claims.list_claims(inbox, r.name)) for r in claim_roots(inbox)) == 2
