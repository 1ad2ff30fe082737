"""An outbox whose disk is not mounted: nothing is written below its mount point."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dna_pipeline.base.errors import OutboxUnavailable
from dna_pipeline.base.reachability import look_directly
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.daemon.outbox_folder import make_outbox
from tests.integration.conftest import Site


def unmount(site: Site) -> Path:
    """Leave an empty mount point, into which the daemon writes its state; give the disk's place."""
    away = site.outbox.rename(site.root / "away")
    site.outbox.mkdir()
    (site.outbox / "status.json").write_text("{}")
    return away


def mount(site: Site, away: Path) -> None:
    shutil.rmtree(site.outbox)
    away.rename(site.outbox)


def compute(site: Site, name: str) -> None:
    site.put(name, name)
    site.settle()
    site.finish(site.claim_next())


@pytest.fixture
def used(site: Site) -> Site:
    """A site with one result in its outbox, and another that is not published yet."""
    compute(site, "cat.png")
    site.publish()
    compute(site, "dog.png")
    return site


@pytest.mark.parametrize("restart", [False, True])
def test_results_wait_for_an_outbox_that_is_not_mounted(used: Site, restart: bool) -> None:
    away = unmount(used)
    if restart:
        used.restart()
    for _ in range(2):
        with pytest.raises(OutboxUnavailable, match="as when its disk is not mounted"):
            used.publish()
    assert [path.name for path in used.outbox.iterdir()] == ["status.json"]
    assert [path.name for path in used.claims()] == ["dog.png"]
    mount(used, away)
    used.publish()
    assert len(used.folders()) == 2
    assert used.claims() == []


def test_the_folder_that_is_named_ends_the_wait(used: Site) -> None:
    unmount(used)
    with pytest.raises(OutboxUnavailable) as raised:
        used.publish()
    mark = used.outbox / ".dna" / used.ledger.id
    assert f"make the folder {mark}, and work goes on" in str(raised.value)
    mark.mkdir(parents=True)
    used.publish()
    assert len(used.folders()) == 1


@pytest.mark.parametrize("name", ["in", ".dna/0123456789ab", "lost+found"])
def test_an_outbox_with_anything_in_it_is_the_outbox(used: Site, name: str) -> None:
    unmount(used)
    (used.outbox / name).mkdir(parents=True)
    used.publish()
    assert len(used.folders()) == 1


def test_an_outbox_from_which_people_took_everything_is_the_outbox(used: Site) -> None:
    shutil.rmtree(used.outbox / "in")
    used.restart()
    used.publish()
    assert len(used.folders()) == 1


# --- at a start ---


@pytest.fixture
def at(used: Site) -> Callable[[Path], Config]:
    """Gives the configuration of a site that has published, with another outbox."""
    return lambda outbox: replace(used.config, outbox=outbox)


@pytest.mark.parametrize("below", ["results", "farm/results"])
def test_it_is_not_made_below_an_empty_mount_point(
    at: Callable[[Path], Config], tmp_path: Path, below: str
) -> None:
    disk = tmp_path / "nas"
    disk.mkdir()
    make_outbox(at(disk / below), look_directly)
    assert list(disk.iterdir()) == []


def test_one_that_was_removed_is_made_again_and_used(used: Site) -> None:
    shutil.rmtree(used.outbox)
    make_outbox(used.config, look_directly)
    used.restart()
    used.publish()
    assert len(used.folders()) == 1


def test_the_first_one_is_made_wherever_it_is(site: Site, tmp_path: Path) -> None:
    disk = tmp_path / "nas"
    disk.mkdir()
    make_outbox(replace(site.config, outbox=disk / "results"), look_directly)
    assert list((disk / "results").iterdir()) == []
