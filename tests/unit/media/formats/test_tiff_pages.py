"""Files of several pages or frames: which one is the picture, and what the manifest says of it."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.media.images import ImageFacts, load_image, probe
from tests.pictures import page, tiff

PICTURE, REDUCED, PAGE, MASK = 0, 1, 2, 4
RANDOM = np.random.default_rng(2)


def flat(colour: int, size: tuple[int, int] = (64, 48), **more: Any) -> dict[int, Any]:
    """A page of one grey."""
    return page(np.full((size[1], size[0], 1), colour, np.uint8), 1, **more)


def read(path: Path) -> tuple[int, tuple[int, int], list[str]]:
    """The first grey of what is taken, its size, and the remarks."""
    remarks: list[str] = []
    image = load_image(path, remarks)
    facts = probe(path)
    assert (facts.width, facts.height) == image.size
    return np.asarray(image)[0, 0, 0], image.size, remarks


SMALL, LARGE = (20, 16), (64, 48)


@pytest.mark.parametrize(
    ("kinds", "taken", "remark"),
    [
        ([PICTURE], 0, ""),
        ([REDUCED, PICTURE], 1, "Page 2"),
        ([REDUCED | PAGE, MASK, PICTURE], 2, "Page 3"),
        ([MASK, PICTURE], 1, "Page 2"),
        ([REDUCED | MASK, PAGE], 1, "Page 2"),
        ([REDUCED, REDUCED], 0, ""),
        ([MASK], 0, ""),
        ([PICTURE, REDUCED, REDUCED], 0, ""),
        ([PICTURE, MASK], 0, ""),
        ([PICTURE, PICTURE, PICTURE], 0, "3 pages"),
        ([PAGE, REDUCED, PAGE], 0, "3 pages"),
        ([REDUCED, PICTURE, PICTURE], 1, "Page 2"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_is_taken(
    tmp_path: Path, kinds: list[int], taken: int, remark: str, order: str
) -> None:
    path = tmp_path / "a.tif"
    pages = [
        flat(10 * (at + 1), SMALL if kind & REDUCED else LARGE, _254=kind)
        for at, kind in enumerate(kinds)
    ]
    path.write_bytes(tiff(*pages, order=order))
    grey, size, remarks = read(path)
    assert grey == 10 * (taken + 1)
    assert size == (SMALL if kinds[taken] & REDUCED else LARGE)
    assert [remark in line for line in remarks] == ([True] if remark else [])


def test_the_older_tag(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(flat(10, SMALL, _255=2), flat(20, LARGE, _255=1)))
    assert read(path)[:2] == (20, LARGE)


def test_a_thumbnail_that_would_be_too_small(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(flat(10, (8, 8), _254=1), flat(20)))
    assert read(path)[:2] == (20, LARGE)


def test_a_thumbnail_of_a_kind_that_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(flat(10, _254=1) | {259: 34712}, flat(20)))
    assert read(path)[:2] == (20, LARGE)


@pytest.mark.parametrize(
    ("tags", "words"),
    [({259: 34712}, "JPEG 2000"), ({258: 32, 339: 3}, "floating-point"), ({258: 32}, "32 bits")],
)
def test_the_picture_behind_a_thumbnail_cannot_be_read(
    tmp_path: Path, tags: dict[int, Any], words: str
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(flat(10, SMALL, _254=1), flat(20) | tags))
    with pytest.raises(ImageUnreadable, match=words):
        load_image(path)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", None])
def test_pages_that_libtiff_reads(tmp_path: Path, compression: str | None) -> None:
    first, second = Image.new("RGB", (30, 20), (9, 9, 9)), Image.new("RGB", (64, 48), (200, 0, 0))
    path = tmp_path / "a.tif"
    first.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(
        path, save_all=True, append_images=[second], compression=compression, tiffinfo={254: 1}
    )
    data = bytearray(path.read_bytes())
    entry = struct.pack("<HHII", 254, 4, 1, 1)
    at = data.rindex(entry)
    if data.count(entry) == 2:  # the second page is the picture
        data[at : at + 12] = struct.pack("<HHII", 254, 4, 1, 0)
        path.write_bytes(data)
    image = load_image(path)
    assert image.size == (64, 48)
    assert np.abs(np.asarray(image, int) - (200, 0, 0)).max() < 4


def test_a_layout_beyond_pillow_behind_a_thumbnail(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 65536, (48, 64, 2)).astype(np.uint16)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(flat(10, SMALL, _254=1), page(values, 1, 2)))
    pixels = np.asarray(load_image(path))
    assert np.array_equal(pixels[..., 0], np.rint(values[..., 0] / 257))
    assert np.array_equal(pixels[..., 3], np.rint(values[..., 1] / 257))


def test_bigtiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(np.full((16, 20), 10, np.uint8), subfiletype=1, metadata=None)
        writer.write(np.full((48, 64), 20, np.uint8), metadata=None)
    assert read(path)[:2] == (20, LARGE)


# Chains that are wrong


def test_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for target in (0, 1):
        path.write_bytes(tiff(flat(10), flat(20), loop_to=target))
        grey, _, remarks = read(path)
        assert grey == 10
        assert remarks == ["The TIFF has 2 pages; only the first was taken."]
    path.write_bytes(tiff(flat(10, _254=1), flat(20, _254=1), loop_to=0))
    assert read(path)[0] == 10


@pytest.mark.parametrize("target", [3, 2**31, 2**32 - 1])
def test_a_chain_that_leads_astray(tmp_path: Path, target: int) -> None:
    path = tmp_path / "a.tif"
    data = bytearray(tiff(flat(10)))
    data[-4:] = struct.pack("<I", target)
    path.write_bytes(data)
    assert read(path) == (10, LARGE, [])


def chain(kind: int, count: int) -> bytes:
    """A TIFF whose first page is followed by very many that hold one tag more than they need."""
    data = bytearray(tiff(flat(10, _254=kind)))
    entries = struct.pack("<HHII", 254, 4, 1, kind) + struct.pack("<HHII", 256, 4, 1, 64)
    data[-4:] = struct.pack("<I", len(data))
    size = 2 + len(entries) + 4
    for _ in range(count):
        data += struct.pack("<H", 2) + entries + struct.pack("<I", len(data) + size)
    data[-4:] = bytes(4)
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PICTURE, REDUCED])
def test_a_hundred_thousand_pages_take_little_memory_and_are_not_all_followed(
    tmp_path: Path, kind: int
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(chain(kind, 100_000))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (20, 20));"
        "from pathlib import Path; from dna_pipeline.media.images import load_image;"
        "remarks = []; load_image(Path(sys.argv[1]), remarks); print(remarks)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=120
    )
    assert ("at least 10,000 pages" in run.stdout) == (kind == PICTURE)


def test_a_chain_of_large_pages_that_overlap(tmp_path: Path) -> None:
    """Each page says that it has 60,000 tags; they are not all read for each."""
    data = bytearray(tiff(flat(10)))
    start = len(data)
    data[-4:] = struct.pack("<I", start)
    data += struct.pack("<H", 60_000) + struct.pack("<HHII", 256, 4, 1, 64)
    data += bytes(60_000 * 12)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert read(path)[0] == 10


def test_no_page_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for data in (b"II*\0", b"II*\0" + bytes(4), b"MM\0*\0\0\0\x08", b"II+\0" + bytes(12)):
        path.write_bytes(data)
        with pytest.raises(ImageUnreadable):
            load_image(path)


# Frames of other formats


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "PNG"])
def test_frames(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", LARGE, (0, 0, 80 * at)) for at in range(3)]
    path = tmp_path / "a"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    grey, _, remarks = read(path)
    assert grey < 4
    assert remarks == [f"The {kind} has 3 frames; only the first was taken."]
    frames[0].save(path, kind)
    assert read(path)[2] == []


def test_a_damaged_later_frame_is_no_fault_of_the_first(tmp_path: Path) -> None:
    """The block before the frame, of one byte in place of four, keeps Pillow from counting."""
    path = tmp_path / "a.gif"
    Image.new("RGB", LARGE).save(path, "GIF")
    block = b"!\xf9\x01\0\0"
    path.write_bytes(path.read_bytes()[:-1] + block + b";")
    assert probe(path) == ImageFacts("GIF", *LARGE)
    assert read(path)[2] == []


def test_the_views_of_an_mpo_are_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    views = [Image.new("RGB", LARGE, (0, 0, 80 * at)) for at in range(2)]
    views[0].save(path, "MPO", save_all=True, append_images=views[1:])
    assert read(path)[2] == []
