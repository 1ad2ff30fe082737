"""An image does not run without the YAML that was meant for it: it waits and fails with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.base.errors import ImageMissing, PathEscapesInbox, SidecarAmbiguous
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import Pairing, Reference, References
from dna_pipeline.intake.discovery.naming_files import IMAGE_WAIT_S
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.discovery.stability import StabilityTracker

WAIT = 5


def look(at: float, files: list[str], told: dict[str, Reference] | None = None) -> Pairing:
    """The inbox with these files, all there since 0, as it is looked at in that second."""
    inbox = Inbox(name="in", path=Path("in"), pipeline="p", settle_s=2, sidecar_wait_s=WAIT)
    tracker = StabilityTracker(inbox.settle_s)
    stats = {path: FileStat(1, 0, 0, 1, 1) for path in files}
    for now in (0, 2, at):
        tracker.observe(stats, now)
    return pair(inbox, files, tracker, lambda path: (told or {}).get(path))


def drops(pairing: Pairing) -> list[tuple[str | None, str | None, type | None]]:
    return [(c.image, c.sidecar, type(c.error) if c.error else None) for c in pairing.ready]


def reasons(pairing: Pairing) -> dict[str, str]:
    return {waiting.path: waiting.reason for waiting in pairing.waiting}


@pytest.mark.parametrize("sidecar", ["a.png.yaml", "a.yaml", "a.PNG.yml"])
@pytest.mark.parametrize("image", [r"C:\pics\a.png", "../a.png", "https://x.org/a.png", "~/a.png"])
def test_a_path_that_is_refused_fails_together_with_the_image(sidecar: str, image: str):
    pairing = look(2, ["a.png", sidecar], {sidecar: image})
    assert drops(pairing) == [("a.png", sidecar, PathEscapesInbox)]
    assert pairing.waiting == []


def test_a_refused_yaml_of_no_image_still_fails_at_once():
    pairing = look(2, ["a.png", "job.yaml"], {"job.yaml": "../a.png"})
    assert drops(pairing) == [(None, "job.yaml", PathEscapesInbox)]


def test_a_refused_yaml_that_comes_before_its_image_waits_for_it():
    told: dict[str, Reference] = {"a.png.yaml": "C:/a.png"}
    assert drops(look(WAIT, ["a.png.yaml"], told)) == []
    assert reasons(look(WAIT, ["a.png.yaml"], told)) == {
        "a.png.yaml": "waits for an image called a.png"
    }
    pairing = look(2 + IMAGE_WAIT_S, ["a.png.yaml"], told)
    assert drops(pairing) == [(None, "a.png.yaml", PathEscapesInbox)]


@pytest.mark.parametrize("sidecar", ["a.png.yaml", "a.yaml"])
def test_an_image_key_that_names_nothing_holds_the_image_of_the_yamls_name(sidecar: str):
    told: dict[str, Reference] = {sidecar: "b.png"}
    pairing = look(2 + 60, ["a.png", sidecar], told)
    assert drops(pairing) == []
    assert reasons(pairing) == {
        sidecar: "waits for b.png, which its image: key names",
        "a.png": f"waits with {sidecar}, which waits for b.png, which its image: key names",
    }
    pairing = look(2 + IMAGE_WAIT_S, ["a.png", sidecar], told)
    assert drops(pairing) == [("a.png", sidecar, ImageMissing)]
    # Once what it names comes, the other image is free.
    pairing = look(2 + 60, ["a.png", "b.png", sidecar], told)
    assert sorted(map(str, drops(pairing))) == sorted(
        map(str, [("b.png", sidecar, None), ("a.png", None, None)])
    )


def test_an_image_key_that_two_images_could_be_meant_by():
    pairing = look(2 + IMAGE_WAIT_S, ["a.jpg", "a.png", "a.yaml"], {"a.yaml": "b.png"})
    assert drops(pairing) == [
        ("a.jpg", "a.yaml", SidecarAmbiguous),
        ("a.png", "a.yaml", SidecarAmbiguous),
    ]
    assert all("waited an hour for b.png" in str(c.error) for c in pairing.ready)


def test_what_another_file_names_is_not_held():
    told: dict[str, Reference] = {
        "a.yaml": "b.png",
        "all.csv": References(("a.png",), waits_long=False),
    }
    pairing = look(2 + 60, ["a.png", "a.yaml", "all.csv"], told)
    assert [c.images for c in pairing.ready] == [("a.png",)]
    assert set(reasons(pairing)) == {"a.yaml"}


@pytest.mark.parametrize(
    ("image", "sidecar", "right"),
    [
        ("n3.png", "N3.yaml", "n3.yaml"),
        ("N3.PNG", "n3.png.yml", "N3.PNG.yml"),
        ("n10.jpeg", "n10.jpg.yaml", "n10.jpeg.yaml"),
        ("x/a.tif", "x/A.tiff.yaml", "a.tif.yaml"),
        ("cat.png", "cat .yaml", "cat.yaml"),
        (" cat.png", "cat.png.yaml", " cat.png.yaml"),
    ],
)
def test_a_name_that_nearly_fits_holds_the_image_and_says_the_right_one(
    image: str, sidecar: str, right: str
):
    pairing = look(2 + 60, [image, sidecar])
    assert drops(pairing) == []
    said = reasons(pairing)
    own, other = sidecar.rpartition("/")[2], image.rpartition("/")[2]
    advice = f"for {other} beside it, rename {own} to {right}"
    assert said[sidecar].endswith(advice)
    assert said[image].startswith(f"waits with {own}, which waits for an image called ")
    assert said[image].endswith(advice)
    pairing = look(2 + IMAGE_WAIT_S, [image, sidecar])
    assert drops(pairing) == [(image, sidecar, ImageMissing)]
    # Following the advice pairs them.
    folder = sidecar.removesuffix(own)
    assert drops(look(2, [image, folder + right])) == [(image, folder + right, None)]


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("a/n3.png", "A/N3.yaml"),
        ("n3.png", "n4.yaml"),
        ("cat.png", "cat.jpg.yaml"),
        ("cat.png", "CAT.csv.yaml"),
    ],
)
def test_other_names_hold_nothing(image: str, sidecar: str):
    assert (image, None, None) in drops(look(2 + 60, [image, sidecar]))


def test_a_sidecar_that_fits_comes_before_one_that_nearly_does():
    pairing = look(2 + 60, ["N3.yaml", "n3.png", "n3.yaml"])
    assert drops(pairing) == [("n3.png", "n3.yaml", None)]
    assert reasons(pairing) == {"N3.yaml": "waits for an image called N3"}
