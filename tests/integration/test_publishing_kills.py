"""Killed before and after every step: one job, one folder, and the source is always somewhere."""

import hashlib
import json
from pathlib import Path

import pytest

from dna_pipeline.base.errors import SourceMissing
from dna_pipeline.ledger import queue
from dna_pipeline.operations.retry import Retrier

pytestmark = pytest.mark.slow


def bytes_anywhere(site) -> set[bytes]:
    roots = [site.inbox, site.outbox, site.config.data / "claims"]
    return {path.read_bytes() for root in roots for path in root.rglob("*.png")}


def no_litter(site) -> None:
    assert site.claims() == []
    assert [path for path in (site.outbox / ".dna").rglob("*") if path.is_file()] == []
    assert list(site.config.work.glob("*")) == []


@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
def test_a_result(make_site, kill_everywhere, originals: str) -> None:
    def prepare(root: Path):
        site = make_site(root, originals=originals)
        site.put("cat.png", b"cat")
        site.settle()
        site.finish(site.claim_next())
        return site

    def check(site) -> None:
        if site.job().publish != "done" or originals != "delete":
            assert b"cat" in bytes_anywhere(site)
        site.publish()
        job = site.job()
        name = f"in/cat-{job.id[:8]}"
        assert (job.status, job.publish, job.publish_name) == ("completed", "done", name)
        assert site.folders() == [name]
        account = (site.outbox / name / "manifest.json").read_bytes()
        assert hashlib.sha256(account).hexdigest() == job.manifest_sha256
        assert (site.outbox / name / "cat.matte.png").read_bytes() == b"a mesh"
        assert (site.outbox / name / "source/cat.png").exists() == (originals == "archive")
        assert site.kinds(job.id) == ["queued", "started", "completed"]
        site.restart()
        no_litter(site)
        site.settle()
        assert len(site.jobs()) == 1

    every = 3 if originals == "archive" else 6
    assert kill_everywhere(prepare, lambda site: site.publish(), check, every) > 5


def failed_site(make_site, root: Path):
    site = make_site(root)
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "priority: 2")
    site.settle()
    job = site.claim_next()
    failure = SourceMissing("just so").failure()
    site.ledger.transact(lambda s: queue.fail(s, job.id, failure, "remove_background"))
    return site


def test_a_failure(make_site, kill_everywhere) -> None:
    def check(site) -> None:
        assert b"cat" in bytes_anywhere(site)
        site.publish()
        job = site.job()
        name = f"in/failed/cat-{job.id[:8]}"
        assert (job.status, job.publish, job.publish_name) == ("failed", "done", name)
        assert site.folders() == [name]
        assert (site.outbox / name / "source/cat.png").read_bytes() == b"cat"
        assert (site.outbox / name / "source/cat.yaml").read_bytes() == b"priority: 2"
        site.restart()
        no_litter(site)

    def prepare(root: Path):
        return failed_site(make_site, root)

    assert kill_everywhere(prepare, lambda site: site.publish(), check, every=6) > 5


def test_a_retry(make_site, kill_everywhere) -> None:
    def prepare(root: Path):
        site = failed_site(make_site, root)
        site.publish()
        source = site.outbox / site.folders()[0] / "source"
        (source / "cat.yaml").write_text("priority: 8")
        return site

    def act(site) -> None:
        Retrier(site.config, site.ledger).retry(site.job().id, site.prober)

    def check(site) -> None:
        assert b"cat" in bytes_anywhere(site)
        job = site.job()
        if job.status == "failed":
            act(site)
        assert site.job().priority == 8
        site.run_next()
        assert site.folders() == [f"in/cat-{job.id[:8]}"]
        manifest = json.loads((site.outbox / site.folders()[0] / "manifest.json").read_bytes())
        assert manifest["sidecar"] == "priority: 8"

    assert kill_everywhere(prepare, act, check, every=3) > 5
