"""Masks beside images, from the inbox to the order of the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.claiming import claims
from dna_pipeline.ledger.tables import BatchRow
from tests.integration.companions import MASKED, weights
from tests.integration.conftest import Site

__all__ = ["weights"]

pytestmark = pytest.mark.usefixtures("weights")

MakeSite = Callable[..., Site]


@pytest.fixture
def masked(make_site: MakeSite) -> Site:
    return make_site(**MASKED)


def inbox_of(site: Site) -> Inbox:
    return site.config.inboxes[0]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (MASKED, True),
        ({**MASKED, "defaults": {"img2img": {"mask": "alpha"}}}, False),
        ({**MASKED, "defaults": {}}, False),
        ({"pipeline": "cut", "defaults": {"img2img": {"mask": "file"}}}, False),
    ],
)
def test_the_pipeline_of_the_inbox_decides(make_site: MakeSite, keys: dict, expected: bool) -> None:
    assert inbox_of(make_site(**keys)).pairs_masks is expected


def test_the_mask_comes_with_the_image(masked: Site) -> None:
    masked.put("cat.mask.png", b"a mask")
    masked.put("cat.png")
    masked.put("dog.png", b"a dog")
    masked.settle()
    cat, dog = sorted(masked.jobs(), key=lambda job: job.stem)
    (mask,) = masked.drop(cat).companions or ()
    assert (mask["role"], mask["name"]) == ("mask", "cat.mask.png")
    assert masked.drop(dog).companions is None
    assert masked.left() == set()


def test_an_image_waits_for_its_mask(masked: Site) -> None:
    masked.put("cat.png")
    masked.tick(3)
    assert masked.waiting() == {"cat.png": "waits 5 s for a sidecar and a mask"}
    masked.put("cat.mask.png", b"a mask")
    masked.settle()
    assert len(masked.drop(masked.job()).companions or ()) == 1


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"broken", "mask cat.mask.png: breaks off"),
        (b"small", "mask cat.mask.png is too small: 8 x 8 px"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named_and_not_its_image(
    masked: Site, data: bytes, detail: str
) -> None:
    masked.put("cat.mask.png", data)
    masked.put("cat.png")
    masked.tick(200)
    error = masked.job().error
    assert error is not None
    assert (error["code"], error["detail"]) == ("mask_unreadable", detail)
    assert error["message"].startswith("The mask cannot be used as an image")


def test_a_mask_that_cannot_be_hashed_is_named_and_not_its_image(
    masked: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = claims.hash_in_place

    def refuse(path: Path) -> claims.Hashed:
        if path.name == "cat.mask.png":
            raise claims.Busy("in use")
        return real(path)

    monkeypatch.setattr(claims, "hash_in_place", refuse)
    masked.put("cat.mask.png", b"a mask")
    masked.put("cat.png")
    masked.settle()
    error = masked.job().error
    assert error is not None
    assert error["code"] == "mask_unreadable"
    assert error["detail"] == "mask cat.mask.png: cannot be read where it was claimed: in use"


def test_a_row_with_a_broken_mask_names_mask_and_column(make_site: MakeSite) -> None:
    site = make_site(pipeline="two_stages")
    site.put("shapes/broken.png", b"broken")
    site.put("cat.png")
    site.put("all.csv", "image,img2img.mask\ncat.png,shapes/broken.png\ncat.png,shapes/lost.png\n")
    site.tick(400)
    rows = [(row.code, row.field, row.detail) for row in site.rows(BatchRow)]
    assert rows == [
        ("mask_unreadable", "img2img.mask", "row 2: mask shapes/broken.png: breaks off"),
        ("mask_missing", "img2img.mask", "row 3: mask: there is no 'shapes/lost.png'"),
    ]


def test_an_inbox_without_masks_leaves_them_alone(make_site: MakeSite) -> None:
    site = make_site()
    site.put("cat.mask.png", b"a mask")
    site.put("cat.png")
    site.settle()
    assert site.drop(site.job()).companions is None
    assert site.left() == {"cat.mask.png"}
