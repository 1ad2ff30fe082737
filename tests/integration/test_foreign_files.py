"""Files and inboxes that belong to others: a daemon without their rights tells, and fails nothing.

The daemon's part runs in a process of its own, which has laid down root's rights if need be.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import fork_server
from tests.fork_server import ForkServer

SOMEBODY = 65534

LOOK = """
import json, sys
from pathlib import Path
from dna_pipeline.operations.daemon.cleanup import Cleanup
from dna_pipeline.intake.inbox_intake import InboxIntake
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import Job
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.config.loader import load_config
from sqlalchemy import select

config = load_config(Path(sys.argv[1]), {})
ledger = Ledger(config.ledger_path)
prober = Prober()
gate = InboxIntake(config, config.inboxes[0], ledger, prober, Cleanup(config, ledger))
now = 1000.0
for _ in range(25):
    gate.finder.request_scan(now)
    while gate.step(now):
        pass
    now += 1
told = {w.path: w.reason for w in gate.finder.waiting} | gate.finder.ignored
jobs = ledger.transact(lambda s: {j.name: j.status for j in s.scalars(select(Job))})
prober.close()
print(json.dumps([jobs, told, gate.finder.problem]))
"""

CONFIG = """\
version: 1
models: {key: {provider: border_key}}
pipelines: {cut: [{remove_background: {model: key}}]}
inboxes: [{path: in, pipeline: cut, sidecar_wait_seconds: 1, recursive: true, originals: %s}]
"""


@pytest.fixture(scope="module")
def server(lacking: Callable[[str], None]) -> Iterator[ForkServer]:
    """What forks processes that, where the tests run as root, may not do what root may."""
    if os.getuid() == 0 and not shutil.which("setpriv"):
        lacking("root cannot lay down its rights here")
    powerless = ["setpriv", "--bounding-set=-all"] if os.getuid() == 0 else []
    if not fork_server.CAN_SERVE:
        yield fork_server.NoForkServer()
        return
    server = ForkServer(prefix=powerless)
    yield server
    server.close()


class Ours:
    """A folder of the daemon's person with an inbox that is somebody else's."""

    def __init__(self, root: Path, originals: str, server: ForkServer) -> None:
        self.root = root
        self._server = server
        self.inbox = root / "in"
        for name in ("in", "data", "outbox"):
            (root / name).mkdir(parents=True)
        (root / "pipeline.yaml").write_text(CONFIG % originals)
        self._give_away(self.inbox)

    def put(self, name: str, mode: int = 0o644) -> Path:
        from PIL import Image

        path = self.inbox / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), "red").save(path)
        path.chmod(mode)
        for mine in {path.parent, path} - {self.inbox}:
            self._give_away(mine)
        return path

    def _give_away(self, path: Path) -> None:
        if os.getuid() == 0:
            os.chown(path, SOMEBODY, SOMEBODY)

    def look(self) -> tuple[dict[str, str], dict[str, str], str | None]:
        """Jobs by name; files that wait, and why; what is wrong with the inbox."""
        done = fork_server.run(self._server, "-c", LOOK, str(self.root / "pipeline.yaml"))
        assert done.returncode == 0, done.stderr
        jobs, told, problem = json.loads(done.stdout.splitlines()[-1])
        return jobs, told, problem


@pytest.fixture
def make(tmp_path: Path, server: ForkServer) -> Iterator[Callable[[str], Ours]]:
    made: list[Ours] = []

    def ours(originals: str = "archive") -> Ours:
        made.append(Ours(tmp_path / "site", originals, server))
        return made[-1]

    yield ours
    for site in made:
        for path in [site.inbox, *site.inbox.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)


@pytest.mark.slow
def test_an_inbox_that_may_only_be_read_is_told_of_and_nothing_fails(make) -> None:
    site = make()
    site.put("cat.png")
    site.inbox.chmod(0o555)
    jobs, told, problem = site.look()
    assert (jobs, problem) == ({}, None)
    assert "could not be taken in" in told["cat.png"]
    assert "Permission denied" in told["cat.png"]
    site.inbox.chmod(0o777)
    assert site.look()[0] == {"cat.png": "queued"}


@pytest.mark.slow
def test_an_inbox_that_may_only_be_read_can_be_kept(make) -> None:
    site = make("keep")
    path = site.put("cat.png", 0o444)
    site.inbox.chmod(0o555)
    assert site.look() == ({"cat.png": "queued"}, {}, None)
    assert path.exists()
    assert [entry.name for entry in site.inbox.iterdir()] == ["cat.png"]


@pytest.mark.slow
def test_files_that_may_only_be_read_are_taken(make) -> None:
    site = make()
    site.put("cat.png", 0o444)
    site.inbox.chmod(0o777)
    assert site.look() == ({"cat.png": "queued"}, {}, None)
    assert not (site.inbox / "cat.png").exists()


@pytest.mark.slow
def test_what_may_not_be_read_or_entered_waits(make) -> None:
    site = make()
    site.put("cat.png", 0o000)
    site.put("sub/dog.png").parent.chmod(0o000)
    site.put("good.png")
    site.inbox.chmod(0o777)
    jobs, told, problem = site.look()
    assert (jobs, problem) == ({"good.png": "queued"}, None)
    assert "Permission denied" in told["cat.png"]
    assert "Permission denied" in told["sub"]


@pytest.mark.slow
def test_files_that_only_their_owner_may_move_wait(make, lacking) -> None:
    if os.getuid() != 0:
        lacking("only root can make files that are another person's")
    site = make()
    site.put("cat.png")
    site.inbox.chmod(0o1777)
    jobs, told, problem = site.look()
    assert (jobs, problem) == ({}, None)
    assert "could not be taken in" in told["cat.png"]
    assert (site.inbox / "cat.png").exists()


@pytest.mark.slow
def test_an_inbox_that_may_not_be_looked_at_says_so(make) -> None:
    site = make()
    site.put("cat.png")
    site.inbox.chmod(0o000)
    assert site.look() == ({}, {}, "cannot be looked at: Permission denied")
