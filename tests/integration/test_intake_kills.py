"""Killed before and after every step: each drop becomes exactly its jobs, and no byte is lost."""

import hashlib
from pathlib import Path

import pytest

from dna_pipeline.ledger.tables import Drop

pytestmark = pytest.mark.slow

FILES = {
    "cat.png": b"cat",
    "cat.png.yaml": b"priority: 4",
    "lone.png": b"lone",
    "two.png": b"two png",
    "two.jpg": b"two jpg",
    "two.yaml": b"priority: 1",
    "sub/photo.png": b"photo",
    "order.yaml": b"image: sub/photo.png",
}
IMAGES = {Path(name).name: data for name, data in FILES.items() if not name.endswith("yaml")}


def look_at(site) -> None:
    """Everything settled: one job for each image, each with its bytes; nothing else anywhere."""
    assert sorted(job.name for job in site.jobs()) == sorted(IMAGES)
    statuses = {job.name: job.status for job in site.jobs()}
    # Killed between the two, the second image is found alone with the YAML, which is then its.
    assert "failed" in {statuses.pop("two.png"), statuses.pop("two.jpg")}
    assert set(statuses.values()) == {"queued"}
    assert {job.name: job.priority for job in site.jobs() if job.priority > 1} == {"cat.png": 4}
    for job in site.jobs():
        drop = site.drop(job)
        assert drop.state == "claimed"
        assert drop.sha256 == hashlib.sha256(IMAGES[job.name]).hexdigest()
        assert Path(drop.claim, drop.image).read_bytes() == IMAGES[job.name]
    assert len(site.rows(Drop)) == len(IMAGES)
    sidecars = {path.name: path.read_bytes() for path in site.claims() if path.suffix == ".yaml"}
    assert sidecars == {n: d for n, d in FILES.items() if n.endswith("yaml")}


@pytest.mark.parametrize("originals", ["archive", "keep"])
def test_taking_in(make_site, kill_everywhere, originals: str) -> None:
    def prepare(root: Path):
        site = make_site(root, recursive=True, originals=originals)
        for name, data in FILES.items():
            site.put(name, data)
        return site

    def check(site) -> None:
        bytes_left = {p.read_bytes() for p in [*site.claims(), *site.inbox.rglob("*.png")]}
        assert {b"cat", b"lone", b"photo"} <= bytes_left
        site.settle()
        look_at(site)
        assert site.left() == (set(FILES) if originals == "keep" else set())

    def act(site) -> None:
        site.tick(8)

    killed = kill_everywhere(prepare, act, check, every=5)
    assert killed > 10


def test_a_newer_version_taking_the_place_of_an_older(make_site, kill_everywhere) -> None:
    def prepare(root: Path):
        site = make_site(root, originals="keep")
        site.put("cat.png", b"old")
        site.settle()
        site.put("cat.png", b"newer")
        return site

    def check(site) -> None:
        site.settle()
        job = site.job()
        assert Path(site.drop(job).claim, "cat.png").read_bytes() == b"newer"
        assert [path.read_bytes() for path in site.claims()] == [b"newer"]

    assert kill_everywhere(prepare, lambda site: site.settle(), check) > 8


def test_a_late_sidecar(make_site, kill_everywhere) -> None:
    def prepare(root: Path):
        site = make_site(root)
        site.put("cat.png", b"cat")
        site.settle()
        site.put("cat.yaml", "priority: 4")
        return site

    def check(site) -> None:
        site.settle()
        assert site.job().priority == 4
        assert site.left() == set()
        assert {path.name for path in site.claims()} == {"cat.png", "cat.yaml"}

    assert kill_everywhere(prepare, lambda site: site.settle(), check) > 8


def test_a_newer_late_sidecar(make_site, kill_everywhere) -> None:
    def prepare(root: Path):
        site = make_site(root)
        site.put("cat.png", b"cat")
        site.put("cat.yaml", "priority: 4")
        site.settle()
        site.put("cat.yaml", "priority: 55")
        return site

    def check(site) -> None:
        """The job runs at once: its YAML is the one it ran with, and the other is not lost."""
        job = site.run_next()
        source = site.outbox / f"in/cat-{job.id[:8]}/source"
        assert (source / "cat.yaml").read_text() == f"priority: {job.priority}"
        site.settle()
        assert site.left() == ({"cat.yaml"} if job.priority == 4 else set())
        assert site.claims() == []

    assert kill_everywhere(prepare, lambda site: site.settle(), check) > 8
