"""The plug is pulled at every named point: each drop still becomes exactly its jobs."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from PIL import Image

from dna_pipeline import faults, registry
from dna_pipeline.faults import POINTS
from dna_pipeline.intake import gate
from tests.conftest import SCRIPTS, load_script
from tests.integration.decoding import Decoder

pytestmark = pytest.mark.slow

audit = load_script("audit")
stand_in = load_script("stand_in")

CONFIG = """\
version: 1
pipelines:
  two: [{stand_in: {id: first}}, {stand_in: {id: last}}]
inboxes:
  - {path: inbox/archive, pipeline: two, settle_seconds: 0, sidecar_wait_seconds: 0}
  - {path: inbox/delete, pipeline: two, originals: delete, settle_seconds: 0,
      sidecar_wait_seconds: 0}
  - {path: inbox/keep, pipeline: two, originals: keep, settle_seconds: 0, sidecar_wait_seconds: 0}
"""

FILE_SYSTEM_POINTS = [
    "sidecar-taken", "image-taken", "claim-synced", "hashed", "stage-written", "staging-filled",
    "manifest-written", "published", "claim-unlinked",
]  # fmt: skip
"""Where a full or failing disk would be met."""


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (shade, 90, 160)).save(file, "PNG")
    return file.getvalue()


class Plugged:
    """A site with drops of every kind, and a daemon that can be made to fail."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = root / "mark"
        (root / "pipeline.yaml").write_text(CONFIG)
        self.dropped = [
            self.drop("archive", "told.png", 10, "meta: {told: 1}"),
            self.drop("archive", "wrong.png", 20, "stand_in: {seconds: soon}"),
            self.drop("delete", "gone.png", 30, "priority: 3"),
            self.drop("keep", "kept.png", 40),
            self.drop("delete", "listed.png", 50),
        ]
        (root / "inbox/delete/batch.yaml").write_text("images: [listed.png]\n")

    def drop(self, inbox: str, name: str, shade: int, sidecar: str | None = None):
        folder = self.root / "inbox" / inbox
        folder.mkdir(parents=True, exist_ok=True)
        if sidecar is not None:
            (folder / f"{name}.yaml").write_text(sidecar)
        data = picture(shade)
        (folder / name).write_bytes(data)
        return audit.Dropped(inbox, name, hashlib.sha256(data).hexdigest(), sidecar)

    def run(self, fault: str = "") -> int:
        """Exit status of a daemon that did what it could; forked, so that it need not import."""
        child = os.fork()
        if child == 0:
            try:
                self._be_daemon(fault)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _be_daemon(self, fault: str) -> None:
        log = os.open(self.root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stderr = sys.stdout = os.fdopen(2, "w", buffering=1)
        os.environ |= {"DNA_FAULT": fault, "DNA_FAULT_ONCE": str(self.mark)}
        os.environ |= stand_in.environment(SCRIPTS)
        faults._armed = faults._armed_by(fault, str(self.mark))
        registry.STAGES["stand_in"] = "stand_in:StandIn"
        registry._known.cache_clear()
        gate.Prober = Decoder
        stand_in.daemon(self.root / "pipeline.yaml", until_idle=True)

    def check(self) -> None:
        found = audit.audit(self.root, self.dropped)
        assert found.sentences() == [], (self.root / "log").read_text()
        assert (found.jobs, found.results, found.failures) == (5, 4, 1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Plugged]:
    """In memory where the system offers that: what is killed here is processes, not the power."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as root:
        yield Plugged(Path(root))


# The first to be published is the failure.
SECOND = [f"{name}:2" for name in POINTS[POINTS.index("staging-filled") :]]


@pytest.mark.parametrize("point", [*POINTS, *SECOND])
def test_the_plug_is_pulled(site: Plugged, point: str) -> None:
    name = point.partition(":")[0]
    status = site.run(point)
    assert site.mark.exists(), f"nothing ever passes {name}"
    # Where it is the worker that dies, the daemon starts another and goes on.
    assert status == (0 if name == "stage-written" else faults.EXIT_STATUS)
    assert site.run() == 0
    site.check()


@pytest.mark.parametrize("name", FILE_SYSTEM_POINTS)
@pytest.mark.parametrize("error", ["enospc", "eio"])
def test_the_disk_fails(site: Plugged, name: str, error: str) -> None:
    site.run(f"{name}={error}")
    assert site.mark.exists()
    assert site.run() == 0
    found = audit.audit(site.root, site.dropped)
    assert found.sentences() == [], (site.root / "log").read_text()
    assert found.jobs == 5


@pytest.mark.parametrize("wrong", ["claimed", "hashed:0", "hashed=full", "hashed,published"])
def test_a_point_that_there_is_not_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="no such point"):
        faults._armed_by(wrong, None)


def test_the_count_and_the_mark(tmp_path: Path) -> None:
    fault = faults._armed_by("hashed:2=eio", str(tmp_path / "mark"))
    assert fault is not None
    fault.pass_by("hashed")
    fault.pass_by("published")
    with pytest.raises(OSError, match="hashed"):
        fault.pass_by("hashed")
    again = faults._armed_by("hashed=eio", str(tmp_path / "mark"))
    assert again is not None
    again.pass_by("hashed")
