"""The plug is pulled at every named point: each drop still becomes exactly its jobs."""

from __future__ import annotations

import io
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from PIL import Image

from dna_pipeline.base import failpoints
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.failpoints import POINTS
from dna_pipeline.config.loader import load_config
from dna_pipeline.intake import service
from dna_pipeline.ledger import batches
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon import loop
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.stages import registry
from tests import fork_server
from tests.conftest import SCRIPTS, load_script
from tests.hashes import sha256
from tests.integration.decoding import Decoder

pytestmark = pytest.mark.slow

audit = load_script("audit")
stand_in = load_script("stand_in")

CONFIG = """\
version: 1
pipelines:
  two: [{stand_in: {id: first, mask: file}}, {stand_in: {id: last}}]
inboxes:
  - {path: inbox/archive, pipeline: two, settle_seconds: 0, sidecar_wait_seconds: 0}
  - {path: inbox/delete, pipeline: two, originals: delete, settle_seconds: 0,
      sidecar_wait_seconds: 0}
  - {path: inbox/keep, pipeline: two, originals: keep, settle_seconds: 0, sidecar_wait_seconds: 0}
"""
FAILS = "last: {fails: true}"
TABLE = """\
image,not_before
row.png,2099-01-01T00:00:00Z
row.png,2099-01-01T00:00:00Z
"""

KINDS = {
    "claiming-committed": 4, "sidecar-taken": 3, "image-taken": 5, "claim-synced": 4, "hashed": 4,
    "claimed-committed": 3, "companion-taken": 2,
}  # fmt: skip
"""How often each step of the way in is passed after the retry."""

WAITS = {
    "PUBLISH_RETRY_S": loop,
    "LEDGER_RETRY_S": loop,
    "REVIEW_S": loop,
    "FAILED_RETRY_S": service,
    "RETRY_S": service,
}
"""How long a daemon waits before it tries what failed again: here, nobody has to mend a disk."""

FILE_SYSTEM_POINTS = [
    "stages-kept", "sidecar-taken", "companion-taken", "image-taken", "claim-synced", "hashed",
    "stages-restored",
    "stage-written", "result-copied", "result-kept", "result-taken", "original-copied",
    "row-written", "staging-filled", "manifest-written", "published", "claim-unlinked",
]  # fmt: skip
"""Where a full or failing disk would be met."""


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (shade, 90, 160)).save(file, "PNG")
    return file.getvalue()


OF_WORKER = ("stage-written", "result-copied", "result-kept", "result-taken")


class Plugged:
    """A site with drops of every kind, and a daemon that can be made to fail.

    Two rows were cancelled and a job has failed in its last stage before it starts. That job's
    YAML is mended, and each start of the daemon is preceded by its retry while it has failed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = root / "mark"
        self.is_mended = False
        self.batches = [
            audit.DroppedBatch("archive", "rows.csv", (("rows.csv", sha256(TABLE.encode())),), 2),
            audit.DroppedBatch("delete", "batch.yaml", (), 1),
        ]
        self.dropped = []

    def prepare(self) -> None:
        self.root.mkdir()
        (self.root / "pipeline.yaml").write_text(CONFIG)
        self.drop("archive", "again.png", 60, FAILS, mask=65)
        self.drop("archive", "row.png", 70, jobs=2)
        (self.root / "inbox/archive/rows.csv").write_text(TABLE)
        assert self.run() == 0
        self._cancel_rows_and_mend()
        self.drop("archive", "told.png", 10, "meta: {told: 1}")
        self.drop("archive", "wrong.png", 20, "stand_in: {seconds: soon}")
        self.drop("delete", "gone.png", 30, "priority: 3")
        self.drop("keep", "kept.png", 40, mask=45)
        self.drop("keep", "again.png", 60, mask=65)  # whose first stage was done before
        self.drop("delete", "listed.png", 50, mask=55)
        (self.root / "inbox/delete/batch.yaml").write_text("images: [listed.png]\n")

    def drop(
        self,
        inbox: str,
        name: str,
        shade: int,
        sidecar: str | None = None,
        jobs: int = 1,
        mask: int | None = None,
    ) -> None:
        folder = self.root / "inbox" / inbox
        folder.mkdir(parents=True, exist_ok=True)
        if sidecar is not None:
            (folder / f"{name}.yaml").write_text(sidecar)
        of_mask = None if mask is None else picture(mask)
        if of_mask is not None:
            (folder / f"{name}.mask.png").write_bytes(of_mask)
        data = picture(shade)
        (folder / name).write_bytes(data)
        drop = audit.Dropped(
            inbox, name, sha256(data), sidecar, jobs=jobs, mask=of_mask and sha256(of_mask)
        )
        self.dropped.append(drop)

    def _cancel_rows_and_mend(self) -> None:
        ledger = Ledger(self.root / "data/ledger.db")
        views = Queries(ledger.path)
        first, second = views.jobs(status="queued")
        (failed,) = views.jobs(status="failed")
        views.close()
        assert first["batch"] == second["batch"]
        ledger.transact(lambda s: batches.cancel(s, first["batch"]))
        ledger.close()
        failure = self.root / "outbox" / failed["publish_name"]
        (failure / "source/again.png.yaml").write_text(FAILS.replace("true", "false"))
        self.is_mended = True

    def run(self, fault: str = "") -> int:
        """Exit status of a daemon that did what it could; forked, so that it need not import."""
        fork_server.light()  # shared by the children
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
        failpoints._armed = failpoints._armed_by(fault, str(self.mark))
        registry.STAGES["stand_in"] = "stand_in:StandIn"
        registry._import_strings.cache_clear()
        service.Prober = Decoder
        for name, module in WAITS.items():
            setattr(module, name, 0.2)
        if self.is_mended:
            self._retry()
        fork_server.light().serve_this_process()
        stand_in.daemon(self.root / "pipeline.yaml", until_idle=True)

    def _retry(self) -> None:
        """What the command does; another try of it is refused where the first one succeeded."""
        config = load_config(self.root / "pipeline.yaml", {})
        views = Queries(config.ledger_path)
        jobs = views.jobs(inbox="archive", limit=100)
        (job,) = [job for job in jobs if job["name"] == "again.png"]
        views.close()
        ledger = Ledger(config.ledger_path)
        with suppress(ConfigError, OSError):
            Retrier(config, ledger).retry(job["id"], Decoder())
        ledger.close()

    def check(self) -> None:
        found = audit.audit(self.root, self.dropped, self.batches, killed_commands=1)
        assert found.sentences() == [], (self.root / "log").read_text()
        assert (found.jobs, found.cancelled, found.shared) == (9, 2, 2)
        assert (found.results, found.failures) == (6, 1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plugged, Path]]:
    """A site, and a copy of it from which it can be put back as it was.

    In memory where the system offers that: what is killed here is processes, not the power.
    """
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() else tmp_path_factory.mktemp("plugged")
    with TemporaryDirectory(dir=place) as folder:
        site = Plugged(Path(folder, "site"))
        site.prepare()
        shutil.copytree(site.root, copy := Path(folder, "copy"))
        yield site, copy


@pytest.fixture
def site(prepared: tuple[Plugged, Path]) -> Plugged:
    site, copy = prepared
    shutil.rmtree(site.root)
    shutil.copytree(copy, site.root)
    return site


WAY_IN = POINTS[: POINTS.index("claimed-committed") + 1]
OF_ALL_KINDS = [f"{name}:{n}" for name in WAY_IN for n in range(2, 2 + KINDS.get(name, 0))]
"""The steps of the way in, once more for each kind of drop: the retry passes them first, then the
groups of single drops, and last the batch. One drop of each kind has a companion."""

# Published first are the two rows, which have no folder of their own, and the failure.
LATER = [
    *(f"{name}:2" for name in POINTS[POINTS.index("original-copied") :]),
    *(f"{name}:{n}" for name in POINTS[POINTS.index("plan-committed") :] for n in (3, 4)),
]


@pytest.mark.parametrize("point", [*POINTS, *OF_ALL_KINDS, *LATER])
def test_the_plug_is_pulled(site: Plugged, point: str) -> None:
    name = point.partition(":")[0]
    status = site.run(point)
    assert site.mark.exists(), f"nothing ever passes {name}"
    # Where it is the worker that dies, the daemon starts another and goes on.
    assert status == (0 if name in OF_WORKER else failpoints.EXIT_STATUS)
    assert site.run() == 0
    site.check()


@pytest.mark.parametrize("name", FILE_SYSTEM_POINTS)
@pytest.mark.parametrize("error", ["enospc", "eio"])
def test_the_disk_fails(site: Plugged, name: str, error: str) -> None:
    site.run(f"{name}={error}")
    assert site.mark.exists()
    assert site.run() == 0
    found = audit.audit(site.root, site.dropped, site.batches)
    assert found.sentences() == [], (site.root / "log").read_text()
    assert (found.jobs, found.cancelled, found.unfinished_claims) == (9, 2, 0)


@pytest.mark.parametrize("wrong", ["claimed", "hashed:0", "hashed=full", "hashed,published"])
def test_a_point_that_there_is_not_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="no such point"):
        failpoints._armed_by(wrong, None)


def test_the_count_and_the_mark(tmp_path: Path) -> None:
    fault = failpoints._armed_by("hashed:2=eio", str(tmp_path / "mark"))
    assert fault is not None
    fault.pass_by("hashed")
    fault.pass_by("published")
    with pytest.raises(OSError, match="hashed"):
        fault.pass_by("hashed")
    again = failpoints._armed_by("hashed=eio", str(tmp_path / "mark"))
    assert again is not None
    again.pass_by("hashed")
