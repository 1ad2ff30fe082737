"""What a daemon that was killed left half made goes at the next start; what is needed stays."""

from __future__ import annotations

import shutil
from pathlib import Path

from dna_pipeline.intake.claiming import claims

TEMPORARY = ".123-0123456789abcdef.tmp"


def test_temporary_files_go(site) -> None:
    latest = site.publisher.outbox.staging("latest.tmp")
    latest.parent.mkdir(parents=True)
    left = [site.outbox / TEMPORARY, site.config.data / TEMPORARY, latest]
    theirs = [site.outbox / ".mine.tmp", site.outbox / "notes.tmp"]
    for path in [*left, *theirs]:
        path.write_bytes(b"half")
    site.restart()
    assert [path for path in left if path.exists()] == []
    assert all(path.exists() for path in theirs)


def test_a_copy_of_a_kept_file_that_nothing_knows_is_laid_aside(make_site) -> None:
    site = make_site(originals="keep")
    site.put("cat.png", b"cat")
    site.settle()
    (owned,) = site.claims()
    orphan = site.config.claims / ("f" * 32) / "cat.png"
    orphan.parent.mkdir()
    shutil.copy(owned, orphan)
    site.restart()
    assert site.claims() == [owned]
    assert (site.config.recovered / ("f" * 32) / "cat.png").read_bytes() == b"cat"


def test_a_copy_that_was_cut_off_does_not_come_back_as_a_file(site, monkeypatch) -> None:
    site.put("two.png", b"two png")
    site.put("two.jpg", b"two jpg")
    site.put("two.yaml", b"priority: 1")

    def cut_off(source: Path, target: Path, **_: bool) -> None:
        target.write_bytes(b"prio")
        raise KeyboardInterrupt

    monkeypatch.setattr(claims, "snapshot", cut_off)
    try:
        site.settle()
    except KeyboardInterrupt:
        monkeypatch.undo()
    site.restart()
    assert site.left() == {"two.png", "two.jpg", "two.yaml"}
    assert site.claims() == []
    site.settle()
    assert sorted(job.name for job in site.jobs()) == ["two.jpg", "two.png"]
    assert site.left() == set()
