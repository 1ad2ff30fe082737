"""A share and a synced folder as they are: people's pictures among what systems keep there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dna_pipeline.operations import check_plan
from tests.integration.conftest import Site

MakeSite = Callable[..., Site]

LITTER = [
    "photos/@eaDir/a.png/SYNOPHOTO_THUMB_XL.jpg",
    "#recycle/deleted.png",
    "#snapshot/GMT-2026.01.01/photos/a.png",
    "@Recycle/deleted.png",
    "@Recently-Snapshot/1/a.png",
    "$RECYCLE.BIN/S-1-5-21/$RABC.png",
    "System Volume Information/x.png",
    "lost+found/y.png",
    "__MACOSX/photos/a.png",
    "b.png.download/b.png",
    "Photos.photoslibrary/originals/0/a.png",
    ".stversions/a~20260101-120000.png",
]
CONFLICTS = [
    "c.sync-conflict-20240101-120000-ABCDEFG.png",
    "photos/a (Anna's conflicted copy 2026-01-01).png",
    "a.png (conflicted copy 2026-01-01 101010).yaml",
    "shots (Anna's conflicted copy 2026-01-01).csv",
]


@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
def test_only_people_s_pictures_are_taken(make_site: MakeSite, originals: str) -> None:
    site = make_site(recursive=True, originals=originals)
    for name in (*LITTER, *CONFLICTS):
        site.put(name, name)
    site.put("photos/a.png")
    (found,) = check_plan.candidates(site.config.inboxes[0])
    assert found.image == "photos/a.png"
    site.tick(120)
    assert site.job().name == "a.png"
    while site.jobs()[-1].status == "queued":
        site.run_next()
    kept = {"photos/a.png"} if originals == "keep" else set()
    assert site.left() == {*LITTER, *CONFLICTS} | kept
    assert site.gate.finder.ignored.keys() == set(CONFLICTS)


@pytest.mark.parametrize("teller", ["shots.csv", "all.yaml", "glob.yaml", "one.yaml"])
def test_what_is_named_one_by_one_is_taken_all_the_same(make_site: MakeSite, teller: str) -> None:
    site = make_site(recursive=True)
    names = ["#recycle/deleted.png", CONFLICTS[0]]
    texts = {
        "shots.csv": "image\n" + "\n".join(names),
        "all.yaml": f"images: {names!r}",
        "glob.yaml": "images: ['*.png', '**/*.png']",
        "one.yaml": f"image: '{names[0]}'",
    }
    for name in names:
        site.put(name, name)
    site.put("a.png")
    site.put(teller, texts[teller])
    site.settle()
    found = {job.name for job in site.jobs()}
    lone = set() if teller == "glob.yaml" else {"a.png"}
    taken = {"glob.yaml": {"a.png"}, "one.yaml": {"deleted.png"}}
    assert found == taken.get(teller, {"deleted.png", CONFLICTS[0]}) | lone
