"""Many drops at once: one flush for all of them, and decoding ahead."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base import filesystem
from dna_pipeline.base.errors import JobError
from dna_pipeline.base.files import fsync_dir
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.single import BULK_SIZE
from dna_pipeline.intake.discovery.probe import Probed, Question
from dna_pipeline.intake.inbox_intake import FIRST_GROUP
from tests.integration.conftest import Site

FILES = FIRST_GROUP + 2 * FIRST_GROUP
"""A first group of few, and one of many."""

assert FIRST_GROUP < BULK_SIZE <= 2 * FIRST_GROUP


@pytest.fixture(params=["archive", "keep"])
def full(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    site: Site = make_site(originals=request.param)
    for number in range(FILES):
        site.put(f"{number:02}.png", f"image {number}")
    return site


class Disk:
    """Notes what is made durable, and how many drops the ledger counted as taken by then."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch, *, whole: bool) -> None:
        self.flushes: list[tuple[int, int]] = []
        self.synced: list[Path] = []
        self.error: OSError | None = None
        self._site = site
        self._whole = whole
        monkeypatch.setattr(filesystem, "shared_flush", self.shared_flush)
        monkeypatch.setattr(claims, "_sync", self.sync)
        monkeypatch.setattr("os.fsync", lambda fd: self.synced.append(Path(f"{fd}")))

    @contextmanager
    def shared_flush(self, folder: Path) -> Generator[Any]:
        assert folder in (self._site.inbox, self._site.config.data)
        yield self.flush if self._whole else None

    def flush(self) -> None:
        if self.error is not None:
            raise self.error
        self.flushes.append((len(self._site.claims()), len(self._site.jobs())))

    def sync(self, folder: Path) -> None:
        self.synced.append(folder)
        fsync_dir(folder)


def test_many_are_flushed_at_once_before_the_ledger_has_them(
    full: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(full, monkeypatch, whole=True)
    full.settle()
    assert disk.flushes == [(FILES, FIRST_GROUP)]
    assert len(full.jobs()) == FILES
    assert disk.synced, "a few are made durable one by one"


def test_elsewhere_each_is_made_durable_by_itself(
    full: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(full, monkeypatch, whole=False)
    full.settle()
    assert disk.flushes == []
    assert len(full.jobs()) == FILES
    assert len(disk.synced) >= FILES


@pytest.mark.slow
def test_what_could_not_be_flushed_is_not_recorded(
    full: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(full, monkeypatch, whole=True)
    disk.error = OSError(errno.EIO, "no")
    with pytest.raises(OSError, match="no"):
        full.settle()
    assert len(full.jobs()) == FIRST_GROUP
    disk.error = None
    full.restart()
    full.settle()
    assert len(full.jobs()) == FILES
    assert sorted(job.name for job in full.jobs()) == [f"{n:02}.png" for n in range(FILES)]


def test_a_file_that_changes_after_it_was_decoded_ahead_is_looked_at_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(FILES):
        site.put(f"{number:02}.png", f"image {number}")
    last = f"{FILES - 1:02}.png"
    answered: dict[str, Probed] = {}

    def ask(paths: Iterable[Path]) -> list[Question]:
        questions = [Question(path) for path in paths]
        if not site.jobs():
            answered.update((question.path.name, Probed(64, 48)) for question in questions)
            site.put(last, "small, by now")
        return questions

    def answer(question: Question) -> Probed | JobError:
        return answered.pop(question.path.name, None) or site.prober.probe(question.path)

    monkeypatch.setattr(site.prober, "ask", ask)
    monkeypatch.setattr(site.prober, "answer", answer)
    site.settle()
    (failed,) = [job for job in site.jobs() if job.error]
    assert failed.error is not None
    assert (failed.name, failed.error["code"]) == (last, "image_too_small")
    assert len(site.jobs()) == FILES
