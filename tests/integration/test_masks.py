"""Masks beside images, from the inbox to the order of the worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dna_pipeline.config.schema import Inbox
from tests.integration.companions import MASKED
from tests.integration.conftest import Site

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


def test_a_mask_that_cannot_be_read_fails_the_job(masked: Site) -> None:
    masked.put("cat.mask.png", b"broken")
    masked.put("cat.png")
    masked.tick(200)
    error = masked.job().error
    assert error is not None and error["code"] == "image_unreadable"


def test_an_inbox_without_masks_leaves_them_alone(make_site: MakeSite) -> None:
    site = make_site()
    site.put("cat.mask.png", b"a mask")
    site.put("cat.png")
    site.settle()
    assert site.drop(site.job()).companions is None
    assert site.left() == {"cat.mask.png"}
