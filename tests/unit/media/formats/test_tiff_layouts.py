"""TIFFs in all layouts that print, scans and compositing bring, against values computed here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from dna_pipeline.base.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable
from dna_pipeline.media.images import ImageFacts, load_image, probe
from tests.pictures import grey_profile, icc, page, power_curve, srgb, tiff, xyz

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, CMYK: 4}
RANDOM = np.random.default_rng(8)
NOISE = RANDOM.integers(0, 65536, (36, 50, 8)).astype(np.uint16)
NUMBERS = {
    None: 1,
    "tiff_lzw": 5,
    "tiff_adobe_deflate": 8,
    "packbits": 32773,
    "zstd": 50000,
    "lzma": 34925,
}


def samples(photometric: int, bits: int, extras: tuple[int, ...]) -> Any:
    """Noise; where it is premultiplied, no channel is above its alpha."""
    count = COLOURS[photometric]
    values = NOISE[..., : count + len(extras)].copy()
    if 1 in extras:
        at = count + extras.index(1)
        values[..., at] = np.maximum(values[..., at], 30_000)
        values[..., :count] = np.minimum(values[..., :count], values[..., at : at + 1])
    return values if bits == 16 else (values >> 8).astype(np.uint8)


def wanted(values: Any, photometric: int, extras: tuple[int, ...]) -> Any:
    """What these samples look like in RGB, or RGBA if one of the extra channels is alpha."""
    full, count = np.iinfo(values.dtype).max, COLOURS[photometric]
    colours, alpha = values[..., :count] / full, None
    if kinds := [kind for kind in extras if kind]:
        alpha = values[..., count + extras.index(kinds[0])][..., None] / full
        if kinds[0] == 1:
            colours = colours / alpha
    if photometric == WHITE_IS_ZERO:
        colours = 1 - colours
    if photometric == CMYK:
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    pixels = np.broadcast_to(colours, (*colours.shape[:2], 3))
    return 255 * (pixels if alpha is None else np.concatenate([pixels, alpha], -1))


def largest_error(path: Path, want: Any) -> float:
    pixels = np.asarray(load_image(path), float)
    assert pixels.shape == want.shape
    assert probe(path) == ImageFacts("TIFF", want.shape[1], want.shape[0])
    return float(np.abs(pixels - want).max())


EXTRAS = [(), (0,), (1,), (2,), (2, 0), (0, 2), (0, 0), (1, 0, 0)]


@pytest.mark.slow
@pytest.mark.parametrize("extras", EXTRAS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", COLOURS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_each_layout(
    tmp_path: Path, photometric: int, bits: int, extras: tuple[int, ...], planar: Any, order: Any
) -> None:
    values, path = samples(photometric, bits, extras), tmp_path / "a.tif"
    stored: Any = values[..., 0] if values.shape[-1] == 1 else values
    options: dict[str, Any] = {"photometric": photometric, "byteorder": order, "metadata": None}
    if stored.ndim == 3:
        stored = np.moveaxis(stored, -1, 0) if planar == "separate" else stored
        options |= {"planarconfig": planar, "extrasamples": extras or None}
    for more in ({}, {"compression": "zlib", "predictor": True, "tile": (16, 32)}):
        tifffile.imwrite(path, stored, **options, **more)
        # CMYK is rounded to 8 bits before it becomes RGB.
        limit = 2 if photometric == CMYK else 1
        assert largest_error(path, wanted(values, photometric, extras)) <= limit


def compressed(rows: Any, method: str | None) -> bytes:
    """Rows of samples as one strip, compressed by libtiff."""
    data = rows.tobytes()
    if method is None:
        return data
    buffer = io.BytesIO()
    grey = Image.frombytes("L", (len(data) // len(rows), len(rows)), data)
    grey.save(buffer, "TIFF", compression=method, strip_size=len(data))
    with Image.open(buffer) as image:
        (offset,), (size,) = image.tag_v2[273], image.tag_v2[279]  # type: ignore[attr-defined]
    return buffer.getvalue()[offset : offset + size]


@pytest.mark.parametrize("method", NUMBERS)
@pytest.mark.parametrize(
    ("photometric", "bits", "extras"),
    [(CMYK, 8, (2,)), (CMYK, 8, (1,)), (BLACK_IS_ZERO, 16, (2,)), (WHITE_IS_ZERO, 16, ())],
)
@pytest.mark.parametrize("rows", [36, 7])
def test_each_compression(
    tmp_path: Path,
    photometric: int,
    bits: int,
    extras: tuple[int, ...],
    method: str | None,
    rows: int,
) -> None:
    values, path = samples(photometric, bits, extras), tmp_path / "a.tif"
    strips = [compressed(values[top : top + rows], method) for top in range(0, 36, rows)]
    tags = page(values, photometric, *extras, strips=strips, _259=NUMBERS[method], _278=rows)
    path.write_bytes(tiff(tags))
    assert largest_error(path, wanted(values, photometric, extras)) <= 2


def test_an_alpha_that_the_file_does_not_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = samples(BLACK_IS_ZERO, 16, (2,))
    path.write_bytes(tiff(page(values, BLACK_IS_ZERO)))
    assert largest_error(path, wanted(values, BLACK_IS_ZERO, (2,))) <= 1
    values = samples(CMYK, 8, (0,))
    path.write_bytes(tiff(page(values, CMYK)))
    assert largest_error(path, wanted(values, CMYK, (0,))) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int) -> None:
    upright = wanted(samples(CMYK, 8, (2,)), CMYK, (2,))
    stored = {
        1: lambda v: v,
        2: lambda v: v[:, ::-1],
        3: lambda v: v[::-1, ::-1],
        4: lambda v: v[::-1],
        5: lambda v: v.swapaxes(0, 1),
        6: lambda v: v.swapaxes(0, 1)[::-1],
        7: lambda v: v[::-1, ::-1].swapaxes(0, 1),
        8: lambda v: v.swapaxes(0, 1)[:, ::-1],
    }[orientation](samples(CMYK, 8, (2,)))
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(page(stored, CMYK, 2, _274=orientation)))
    assert largest_error(path, upright) <= 1


def cmyk_profile() -> bytes:
    """Ink of any kind is a light red, by a table (ICC.1, lut8Type)."""
    ramp, corner = bytes(range(256)), bytes((136, 208, 195))
    identity = [65536, 0, 0, 0, 65536, 0, 0, 0, 65536]
    matrix = b"".join(number.to_bytes(4, "big") for number in identity)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + corner * 16 + ramp * 3
    profile = bytearray(icc(b"CMYK", {b"wtpt": xyz(0.9642, 1, 0.8249), b"A2B0": table}))
    profile[12:24] = b"prtrCMYKLab "
    return bytes(profile)


def test_a_profile_for_cmyk_is_applied_and_alpha_kept(tmp_path: Path) -> None:
    assert ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile())).profile.xcolor_space == "CMYK"
    values, path = samples(CMYK, 8, (2,)), tmp_path / "a.tif"
    path.write_bytes(tiff(page(values, CMYK, 2, _34675=cmyk_profile())))
    pixels = np.asarray(load_image(path))
    assert pixels[..., 0].min() > 200
    assert pixels[..., 1:3].max() < 80
    assert np.array_equal(pixels[..., 3], values[..., 4])


def test_a_profile_for_grey_is_applied_to_white_is_zero(tmp_path: Path) -> None:
    values, path = samples(WHITE_IS_ZERO, 16, ()), tmp_path / "a.tif"
    linear = grey_profile(power_curve(1.0))
    path.write_bytes(tiff(page(values, WHITE_IS_ZERO, _34675=linear)))
    want = np.repeat(srgb(1 - values / 65535), 3, -1)
    assert largest_error(path, want) <= 1


# White is zero, in few bits


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
@pytest.mark.parametrize("method", ["raw", "tiff_lzw", "packbits"])
def test_few_bits(tmp_path: Path, bits: int, photometric: int, method: str) -> None:
    values, path = NOISE[..., :1] >> (16 - bits), tmp_path / "a.tif"
    values = values[:, :48]
    planes = [(values[..., 0] >> bit & 1) for bit in reversed(range(bits))]
    packed = np.packbits(np.stack(planes, -1).astype(np.uint8).reshape(36, -1), axis=1)
    name = None if method == "raw" else method
    tags = page(values, photometric, strips=[compressed(packed, name)])
    path.write_bytes(tiff(tags | {258: bits, 259: NUMBERS[name]}))
    shares = values / (2**bits - 1)
    want = 255 * np.repeat(1 - shares if photometric == WHITE_IS_ZERO else shares, 3, -1)
    assert largest_error(path, want) <= 0.5


@pytest.mark.parametrize("method", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_fax(tmp_path: Path, method: str, photometric: int) -> None:
    """The same strip under either photometric is the other's negative."""
    is_white, path = (NOISE[..., 0] > 40_000)[:, :48], tmp_path / "a.tif"
    Image.fromarray(is_white).save(path, compression=method, tiffinfo={262: WHITE_IS_ZERO})
    with Image.open(path) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]
        number, (offset,), (size,) = tags[259], tags[273], tags[279]
    strip = path.read_bytes()[offset : offset + size]
    empty = np.empty((36, 48, 1), np.uint8)
    path.write_bytes(
        tiff(page(empty, photometric, strips=[strip]) | {258: 1, 259: number, 278: 36})
    )
    shown = is_white if photometric == WHITE_IS_ZERO else ~is_white
    assert largest_error(path, 255.0 * np.repeat(shown[..., None], 3, -1)) == 0


@pytest.mark.parametrize("method", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_white_is_zero_in_8_bits(tmp_path: Path, method: str | None) -> None:
    values, path = samples(WHITE_IS_ZERO, 8, ()), tmp_path / "a.tif"
    strips = [compressed(values, method)]
    path.write_bytes(tiff(page(values, WHITE_IS_ZERO, strips=strips, _259=NUMBERS[method])))
    assert largest_error(path, 255.0 - np.repeat(values, 3, -1)) == 0


# Files that are wrong


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ImageUnreadable) as caught:
        load_image(path)
    return caught.value.detail


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("lost", [1, 300])
def test_a_file_that_breaks_off(tmp_path: Path, compression: Any, lost: int) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        samples(CMYK, 8, (2,)),
        photometric=CMYK,
        extrasamples=(2,),
        compression=compression,
    )
    detail = refused(path, path.read_bytes()[:-lost])
    assert "truncated" in detail
    assert "copy" in detail


@pytest.mark.parametrize(
    "tags",
    [
        {278: 7},
        {273: [b"short"], 259: 5},
        {273: [b"short"], 259: 1},
        {273: [b"\xff" * 9000], 259: 8},
        {317: 3},
    ],
)
def test_strips_that_do_not_fit(tmp_path: Path, tags: dict[int, Any]) -> None:
    assert refused(tmp_path / "a.tif", tiff(page(samples(CMYK, 8, (2,)), CMYK, 2) | tags))


@pytest.mark.parametrize("size", [(40_000, 40_000), (11_000, 11_000), (2**31, 20)])
def test_the_size_is_checked_before_anything_is_decoded(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(page(samples(CMYK, 8, (2,)), CMYK, 2) | {256: size[0], 257: size[1]}))
    with pytest.raises(ImageTooLarge):
        probe(path)
    path.write_bytes(tiff(page(samples(CMYK, 8, (2,)), CMYK, 2) | {256: 4, 257: 4}))
    with pytest.raises(ImageTooSmall):
        probe(path)


@pytest.mark.slow
def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    path = tmp_path / "a.tif"
    clean = tiff(
        page(samples(CMYK, 8, (2,)), CMYK, 2), page(samples(BLACK_IS_ZERO, 16, (2,)), 1, 2)
    )
    structure = [*range(8), *range(9008, 9300), *range(len(clean) - 300, len(clean))]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        data = bytearray(clean)
        for place in random.choice(structure, 3):
            data[place] = random.integers(0, 256)
        path.write_bytes(data)
        try:
            load_image(path)
            outcomes["read"] += 1
        except (ImageUnreadable, ImageTooLarge, ImageTooSmall):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20
