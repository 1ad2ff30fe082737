"""Masks are given to their images by their names, and waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.naming import NAME_BYTES
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import Pairing, References
from dna_pipeline.intake.discovery.mask_names import is_mask_name, name_of_copy
from dna_pipeline.intake.discovery.naming_files import IMAGE_WAIT_S
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.discovery.stability import StabilityTracker

SETTLE, WAIT = 2, 5


class Folder:
    """An inbox without files, and a clock."""

    def __init__(self, *paths: str, names: Any = None, **options: Any) -> None:
        settings: dict[str, Any] = {"settle_s": SETTLE, "sidecar_wait_s": WAIT, "pairs_masks": True}
        self.inbox = Inbox(name="in", path=Path("in"), pipeline="p", **{**settings, **options})
        self.tracker = StabilityTracker(SETTLE)
        self.names = names or {}
        self.files: dict[str, FileStat] = {}
        self.now = 0.0
        self.put(*paths)

    def put(self, *paths: str) -> None:
        self.files |= {path: FileStat(1, int(self.now), 0, 1, 1) for path in paths}
        self.tracker.observe(self.files, self.now)

    def pair(self, after: float = 0) -> Pairing:
        self.now += after
        self.tracker.observe(self.files, self.now)
        return pair(self.inbox, self.files, self.tracker, self.names.get)


def drops(pairing: Pairing) -> list[tuple[str | None, str | None, dict[str, str]]]:
    return [(c.image, c.sidecar, dict(c.companions)) for c in pairing.ready]


def reasons(pairing: Pairing) -> dict[str, str]:
    return {waiting.path: waiting.reason for waiting in pairing.waiting}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("cat.mask.png", True),
        ("x/cat.MASK.TIF", True),
        ("cat.png.mask.png", True),
        ("cat_mask.png", False),
        ("mask.png", False),
        (".mask.png", False),
        ("x/.mask.png", False),
        ("cat.mask.yaml", False),
        ("cat.mask", False),
    ],
)
def test_names_of_masks(path: str, expected: bool) -> None:
    assert is_mask_name(path) is expected


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("cat.png", "cat.mask.png"),
        ("cat.jpg", "cat.mask.png"),
        ("cat.PNG", "cat.png.mask.png"),
        ("x/cat.v2.png", "x/cat.v2.mask.webp"),
        ("é.png", "e\u0301.mask.png"),
    ],
)
def test_a_mask_by_its_name(image: str, mask: str) -> None:
    folder = Folder(image, mask)
    first = folder.pair(SETTLE)
    assert (first.ready, reasons(first)) == (
        [],
        {image: "waits 5 s for a sidecar and a mask"},
    )
    assert drops(folder.pair(WAIT)) == [(image, None, {"mask": mask})]


def test_a_whole_name_tells_two_images_apart() -> None:
    folder = Folder("cat.png", "cat.jpg", "cat.png.mask.png", "cat.jpg.mask.png")
    assert drops(folder.pair(SETTLE + WAIT)) == [
        ("cat.jpg", None, {"mask": "cat.jpg.mask.png"}),
        ("cat.png", None, {"mask": "cat.png.mask.png"}),
    ]


def test_a_mask_that_fits_two_images_is_given_to_none() -> None:
    pairing = Folder("cat.png", "cat.jpg", "cat.mask.png").pair(SETTLE + WAIT)
    assert [companions for _, _, companions in drops(pairing)] == [{}, {}]
    assert reasons(pairing) == {
        "cat.mask.png": "could be the mask of cat.jpg, cat.png; name it after the whole file name, "
        "like cat.jpg.mask.png"
    }


def test_a_mask_waits_for_its_image() -> None:
    folder = Folder("cat.mask.png", "dog.png", "dog.mask.png", "dog.mask.tif")
    pairing = folder.pair(3000)
    assert drops(pairing) == [("dog.png", None, {"mask": "dog.mask.png"})]
    assert reasons(pairing) == {
        "cat.mask.png": "a mask; waits for an image called cat",
        "dog.mask.tif": "a second mask of dog.png, which has dog.mask.png",
    }
    assert {waiting.kind for waiting in pairing.waiting} == {"mask"}


def test_an_image_with_a_sidecar_waits_for_its_mask() -> None:
    folder = Folder("cat.png", "cat.yaml")
    pairing = folder.pair(SETTLE)
    assert (pairing.ready, pairing.next_at) == ([], SETTLE + WAIT)
    assert set(reasons(pairing).values()) == {"waits 5 s for a mask"}
    assert drops(folder.pair(WAIT)) == [("cat.png", "cat.yaml", {})]
    folder = Folder("cat.png", "cat.yaml", "cat.mask.png")
    assert drops(folder.pair(SETTLE)) == [("cat.png", "cat.yaml", {"mask": "cat.mask.png"})]


def test_a_required_sidecar_does_not_make_the_wait_for_the_mask_an_hour() -> None:
    folder = Folder("cat.png", "cat.yaml", sidecar_required=True, sidecar_wait_s=3600)
    assert folder.pair(SETTLE).ready == []
    assert drops(folder.pair(5)) == [("cat.png", "cat.yaml", {})]


def test_a_mask_that_is_still_written_is_waited_for() -> None:
    folder = Folder("cat.png", "cat.yaml")
    folder.pair(SETTLE)
    folder.now += 4
    folder.put("cat.mask.png")
    pairing = folder.pair(1)
    assert pairing.ready == []
    assert reasons(pairing)["cat.png"] == "waits for cat.mask.png, which is still being written"
    assert drops(folder.pair(SETTLE)) == [("cat.png", "cat.yaml", {"mask": "cat.mask.png"})]


def test_the_image_of_a_job_file_has_its_mask() -> None:
    folder = Folder("job.yaml", "cat.png", "cat.mask.png", names={"job.yaml": "cat.png"})
    assert drops(folder.pair(SETTLE)) == [("cat.png", "job.yaml", {"mask": "cat.mask.png"})]


def test_a_glob_takes_no_masks() -> None:
    names = {"all.yaml": References(patterns=("*.png",))}
    folder = Folder("all.yaml", "cat.png", "cat.mask.png", names=names)
    (batch,) = folder.pair(SETTLE + WAIT).ready
    assert (batch.images, batch.companions) == (("cat.png",), (("mask", "cat.mask.png"),))


def test_a_batch_waits_for_the_masks_of_its_images() -> None:
    names = {"all.yaml": References(paths=("cat.png", "dog.png"))}
    folder = Folder("all.yaml", "cat.png", "dog.png", "cat.mask.png", names=names)
    pairing = folder.pair(SETTLE)
    assert pairing.ready == []
    assert reasons(pairing)["dog.png"] == "all.yaml waits until nothing came for 5 s"
    folder.put("dog.mask.png")
    (batch,) = folder.pair(SETTLE).ready
    assert dict(batch.companions) == {"mask": "dog.mask.png"}
    assert [mask for _, mask in batch.companions] == ["cat.mask.png", "dog.mask.png"]


def test_after_an_hour_a_mask_without_an_image_is_no_longer_expected_to_get_one() -> None:
    folder = Folder("cat.mask.png")
    waits = "a mask; waits for an image called cat"
    assert reasons(folder.pair(SETTLE)) == {"cat.mask.png": waits}
    assert folder.pair(0).next_at == SETTLE + IMAGE_WAIT_S
    pairing = folder.pair(IMAGE_WAIT_S)
    assert pairing.ready == []
    assert reasons(pairing) == {
        "cat.mask.png": f"{waits}; none came in an hour, so rename, move or remove it"
    }


def test_without_masks_in_the_pipeline_it_is_a_render_pass_as_before() -> None:
    folder = Folder("cat.png", "cat.mask.png", pairs_masks=False)
    pairing = folder.pair(SETTLE + WAIT)
    assert drops(pairing) == [("cat.png", None, {})]
    assert [waiting.kind for waiting in pairing.waiting] == ["pass"]
    assert reasons(Folder("cat.png", pairs_masks=False).pair(SETTLE)) == {
        "cat.png": "waits 5 s for a sidecar"
    }


@pytest.mark.parametrize("name", [f"{'猫' * 83}.png", f"{'a' * 251}.png"])
def test_the_copy_of_a_mask_with_a_long_name_has_a_name_that_fits(name: str) -> None:
    first = name_of_copy(name, ())
    second = name_of_copy(name, {first.lower()})
    for copy in (first, second):
        assert len(copy.encode()) <= NAME_BYTES
        assert is_mask_name(copy)
    assert second.endswith("-2.mask.png")
