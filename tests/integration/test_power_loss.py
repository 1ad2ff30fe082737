"""The power goes between any two steps: what was promised is on the disk, and the rest goes on."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import EmptyMesh
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.tables import Drop
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.operations.submit import Submission, Submitter, document_from_options
from tests.integration.power import followed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="follows inodes through /proc"),
]

SOURCE = b"the bytes of a cat"


def survives(
    site: Any,
    act: Callable[[Any], None],
    check: Callable[[Any], None],
    volatile: Callable[[Path], bool] = lambda _: False,
    *,
    deletes: bool = False,
) -> None:
    """Let the power go after each step of `act`; look at once, then after a restart."""
    began = site.now
    with followed(site.root, volatile) as disk:
        act(site)
    assert len(disk.states) > 7
    for when, state in disk.states.items():
        site.close()
        disk.build(state)
        site.now = began
        site._start()
        try:
            what_is_recorded_is_there(site)
            done = deletes and site.job().publish == "done"
            assert done or volatile(Path("cat.png")) or SOURCE in pictures(site), "it is gone"
            site.restart()
            check(site)
        except Exception as error:
            lost = "\n".join(f"  {name}: {node.data!r:.80}" for name, node in state.items())
            raise AssertionError(f"power lost at step {when}, with\n{lost}") from error


def pictures(site: Any) -> set[bytes]:
    roots = [site.inbox, site.outbox, site.config.data]
    return {path.read_bytes() for root in roots for path in root.rglob("*.png")}


def what_is_recorded_is_there(site: Any) -> None:
    """An open job has its source, an ended one its whole folder."""
    for job in site.jobs():
        drop = site.drop(job)
        if job.publish != "done":
            data = Path(drop.claim, drop.image).read_bytes()
            assert hashlib.sha256(data).hexdigest() == drop.sha256, "a job without its source"
        elif job.status == "completed":
            is_whole(site, site.outbox / job.publish_name, job)
        else:
            assert (site.outbox / job.publish_name / "source/cat.png").read_bytes() == SOURCE


def is_whole(site: Any, folder: Path, job: Any) -> None:
    account = (folder / "manifest.json").read_bytes()
    assert hashlib.sha256(account).hexdigest() == job.manifest_sha256
    for part in json.loads(account)["artifacts"]:
        data = (folder / part["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == part["sha256"]


def goes_on(site: Any) -> None:
    """One job of the one picture comes to its end."""
    site.settle()
    if site.job().status == "running":
        site.publish()
    if site.job().status == "queued":
        site.run_next()
    assert (site.job().status, site.job().publish) == ("completed", "done")
    what_is_recorded_is_there(site)
    site.restart()
    site.settle()
    assert len(site.folders()) == 1
    # The copy of a command that was cut off goes after an hour: it might still be made.
    commands = {row.id for row in site.rows(Drop, Drop.state == "claiming", Drop.inbox == "submit")}
    assert [path for path in site.claims() if path.parent.name not in commands] == []


@pytest.fixture
def site_with(make_site: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A site with one queued job."""

    def make(**keys: Any) -> Any:
        site = make_site(tmp_path / "site", **keys)
        site.put("cat.png", SOURCE)
        site.settle()
        return site

    return make


@pytest.mark.parametrize("originals", ["archive", "keep"])
@pytest.mark.parametrize("written", ["durable", "just now"])
def test_taking_in(
    make_site: Callable[..., Any], tmp_path: Path, originals: str, written: str
) -> None:
    """Whoever dropped a picture need not have synced it; once its job is recorded, it is."""
    site = make_site(tmp_path / "site", originals=originals, recursive=True)
    site.put("sub/cat.png", SOURCE)
    site.put("sub/cat.yaml", "priority: 4")

    def check(site: Any) -> None:
        if written == "durable":
            goes_on(site)
            assert site.job().priority == 4

    def is_volatile(path: Path) -> bool:
        return written == "just now" and path.name == "cat.png"

    survives(site, lambda site: site.tick(8), check, is_volatile)


@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
def test_publishing(site_with: Callable[..., Any], originals: str) -> None:
    site = site_with(originals=originals)
    site.finish(site.claim_next())
    survives(site, lambda site: site.publish(), goes_on, deletes=originals == "delete")


def test_a_failure_and_its_retry(site_with: Callable[..., Any]) -> None:
    site = site_with()
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, EmptyMesh("x").failure(), "s"))

    def act(site: Any) -> None:
        site.publish()
        Retrier(site.config, site.ledger).retry(site.job().id, site.prober)

    def check(site: Any) -> None:
        site.publish()
        if site.job().status == "failed":
            Retrier(site.config, site.ledger).retry(site.job().id, site.prober)
        goes_on(site)

    survives(site, act, check)


def test_submitting(make_site: Callable[..., Any], tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    site.put("cat.png", SOURCE)
    site.outbox.mkdir(exist_ok=True)

    def act(site: Any) -> None:
        submitter = Submitter(site.config, site.ledger, document_from_options(None, []))
        submitter.submit(Submission("cat.png", site.inbox / "cat.png"), site.prober)

    survives(site, act, lambda site: None)
