"""OpenEXR files as renderers and compositors write them, made by OpenEXR itself."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import Imath
import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dna_pipeline.base.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable
from dna_pipeline.media.formats import exr
from dna_pipeline.media.images import ImageFacts, load_image, probe

SIDE = 20
MAGIC = b"\x76\x2f\x31\x01"
SCANLINE = {"type": OpenEXR.scanlineimage}
TILED = {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}

SHOWN = {0.0: 0, 0.0031308: 10, 0.18: 118, 0.5: 188, 1.0: 255}
"""Scene-linear light and the byte it is shown as, by IEC 61966-2-1."""

Planes = dict[str, Any]
Write = Callable[..., Path]


def plane(value: float | np.ndarray, kind: str = "f2", shape: tuple[int, int] = (SIDE, SIDE)):
    return np.ascontiguousarray(np.broadcast_to(np.asarray(value, kind), shape))


def box(left: int, top: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    last = [left + width - 1, top + height - 1]
    return np.array([left, top], np.int32), np.array(last, np.int32)


def save(path: Path, header: dict[str, Any], planes: Planes) -> Path:
    """Copies, since OpenEXR writes into both."""
    OpenEXR.File(dict(header), dict(planes)).write(str(path))
    return path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(planes: Planes, header: dict[str, Any] = SCANLINE, kind: str = "f2") -> Path:
        pixels = {
            name: plane(value, kind) if np.ndim(value) == 0 else value
            for name, value in planes.items()
        }
        return save(tmp_path / "render.exr", header, pixels)

    return put


@pytest.fixture
def write_parts(tmp_path: Path) -> Write:
    def put(**parts: Planes) -> Path:
        path = tmp_path / "parts.exr"
        made = [
            OpenEXR.Part({"name": name, **SCANLINE}, {key: plane(v) for key, v in planes.items()})
            for name, planes in parts.items()
        ]
        OpenEXR.File(made).write(str(path))
        return path

    return put


def rgb(red: float, green: float = 0.0, blue: float = 0.0, layer: str = "") -> Planes:
    return {f"{layer}R": red, f"{layer}G": green, f"{layer}B": blue}


def colour_of(path: Path) -> Any:
    return load_image(path).getpixel((7, 7))


# Light


@pytest.mark.parametrize("kind", ["f2", "f4"])
@pytest.mark.parametrize("header", [SCANLINE, TILED], ids=["scanline", "tiled"])
def test_known_light_is_shown_as_known_bytes(write: Write, kind: str, header: Any) -> None:
    for light, byte in SHOWN.items():
        path = write(rgb(light, 0.5, 2.0), header, kind)
        assert colour_of(path) == (byte, 188, 255)
    assert probe(path) == ImageFacts("EXR", SIDE, SIDE)
    image = load_image(path)
    assert (image.mode, image.info) == ("RGB", {})


def test_each_pixel_has_its_place(write: Write) -> None:
    ramp = np.linspace(0, 1, 600 * 20, dtype="f4").reshape(600, 20)  # more than one strip
    image = load_image(write({"R": ramp, "G": ramp * 0, "B": ramp.copy()}))
    want = np.where(ramp <= 0.0031308, 12.92 * ramp, 1.055 * ramp ** (1 / 2.4) - 0.055) * 255
    assert image.size == (20, 600)
    assert np.abs(np.asarray(image)[..., 0] - want).max() <= 0.51
    assert not np.asarray(image)[..., 1].any()


LOSSLESS = ["NO", "RLE", "ZIPS", "ZIP", "PIZ"]


@pytest.mark.parametrize("name", [*LOSSLESS, "PXR24", "B44", "B44A", "DWAA", "DWAB"])
@pytest.mark.parametrize("header", [SCANLINE, TILED], ids=["scanline", "tiled"])
def test_the_usual_compressions(write: Write, name: str, header: Any) -> None:
    slope = np.linspace(0.2, 0.8, SIDE, dtype="f4") * np.ones((SIDE, 1), "f4")
    planes = {"R": slope.astype("f2"), "G": slope.T.astype("f2"), "B": plane(0.5)}
    plain = np.asarray(load_image(write(planes))).astype(int)
    path = write(planes, {**header, "compression": getattr(OpenEXR, f"{name}_COMPRESSION")})
    got = np.asarray(load_image(path)).astype(int)
    assert np.abs(got - plain).max() <= (0 if name in LOSSLESS else 4)


@pytest.mark.parametrize(
    ("light", "byte"),
    [(np.nan, 0), (np.inf, 255), (-np.inf, 0), (-0.5, 0), (65504, 255), (6e-8, 0)],
)
@pytest.mark.parametrize("alpha", [None, 1.0])
def test_what_is_no_light_is_made_safe(write: Write, light: float, byte: int, alpha: Any) -> None:
    path = write(rgb(light, 0.5) | ({} if alpha is None else {"A": alpha}))
    assert colour_of(path) == (byte, 188, 0)
    with path.open("rb") as file:  # without the quiet of load_image: NumPy warns of such a cast
        exr.decode(file, exr.find_layer(file))


def test_files_of_the_first_version(tmp_path: Path) -> None:
    """Their header has no `type`."""
    header = OpenEXR.Header(SIDE, SIDE)
    header["channels"] = {
        name: Imath.Channel(Imath.PixelType(Imath.PixelType.HALF)) for name in "RGB"
    }
    file = OpenEXR.OutputFile(str(tmp_path / "old.exr"), header)
    file.writePixels({name: plane(0.5).tobytes() for name in "RGB"})
    file.close()
    assert b"type\0string" not in (tmp_path / "old.exr").read_bytes()
    assert colour_of(tmp_path / "old.exr") == (188, 188, 188)


# Alpha


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
def test_alpha_is_divided_out_before_the_curve(write: Write, alpha: float) -> None:
    path = write({**rgb(0.5 * alpha, alpha, 0.18 * alpha), "A": alpha}, kind="f4")
    assert colour_of(path) == (188, 255, 118, round(alpha * 255))


def test_an_edge_has_no_dark_fringe(write: Write) -> None:
    alpha = np.linspace(0, 1, SIDE, dtype="f4") * np.ones((SIDE, 1), "f4")
    path = write({"R": alpha * 0.5, "G": alpha * 0.0, "B": alpha * 1.0, "A": alpha})
    pixels = np.asarray(load_image(path))
    assert (pixels[:, 1:, :3] == (188, 0, 255)).all()
    assert np.array_equal(pixels[0, :, 3], np.floor(alpha[0] * 255 + 0.5))


@pytest.mark.parametrize(
    ("alpha", "pixel"),
    [
        (0.0, (0, 0, 0, 0)),  # a glow that covers nothing
        (np.nan, (0, 0, 0, 0)),
        (-1.0, (0, 0, 0, 0)),
        (1e-6, (255, 0, 0, 0)),
    ],
)
def test_alpha_that_is_nothing_in_some_pixels(write: Write, alpha: float, pixel: Any) -> None:
    plane_of_alpha = plane(alpha, "f4").copy()
    plane_of_alpha[-1, -1] = 1
    image = load_image(write({**rgb(0.5), "A": plane_of_alpha}, kind="f4"))
    assert image.getpixel((7, 7)) == pixel
    assert image.getpixel((SIDE - 1, SIDE - 1)) == (188, 0, 0, 255)


NOTHING = [0.0, -1.0, np.nan, -np.inf, 1e-6, -0.0]
"""Alpha that, everywhere in a picture, says nothing."""


@pytest.mark.parametrize("header", [SCANLINE, TILED], ids=["scanline", "tiled"])
@pytest.mark.parametrize("alpha", NOTHING)
def test_alpha_that_is_nothing_everywhere_is_left_out(
    write: Write, alpha: float, header: dict[str, Any]
) -> None:
    remarks: list[str] = []
    image = load_image(write({**rgb(0.5, 0.18), "A": alpha}, header, "f4"), remarks)
    assert (image.mode, image.getpixel((7, 7))) == ("RGB", (188, 118, 0))
    assert ["opaque" in remark for remark in remarks] == [False, True]


def test_one_lit_pixel_shows_that_empty_alpha_says_nothing(write: Write) -> None:
    light = np.zeros((1400, 1000), "f2")  # more than one strip
    light[-1, 3] = 0.5
    planes = {name: light.copy() for name in "RGB"} | {"A": np.zeros_like(light)}
    image = load_image(write(planes))
    want = np.zeros((1400, 1000, 3), np.uint8)
    want[-1, 3] = 188
    assert np.array_equal(np.asarray(image), want)


def test_one_covered_pixel_shows_that_alpha_says_something(write: Write) -> None:
    alpha = np.zeros((1400, 1000), "f2")
    alpha[-1, 3] = 0.5
    planes = {name: np.full_like(alpha, 0.25) for name in "RGB"} | {"A": alpha}
    remarks: list[str] = []
    image = load_image(write(planes), remarks)
    want = np.zeros((1400, 1000, 4), np.uint8)
    want[-1, 3] = (188, 188, 188, 128)
    assert np.array_equal(np.asarray(image), want)
    assert len(remarks) == 1


@pytest.mark.parametrize("light", [0.0, -0.5, np.nan, 1e-6])
@pytest.mark.parametrize("alpha", NOTHING)
def test_neither_light_nor_alpha_is_transparent(write: Write, light: float, alpha: float) -> None:
    remarks: list[str] = []
    path = write({**rgb(light), "A": alpha}, kind="f4")
    with path.open("rb") as file:
        image, _ = exr.decode(file, exr.find_layer(file))
    assert (image.mode, image.getcolors()) == ("RGBA", [(SIDE * SIDE, (0, 0, 0, 0))])
    load_image(path, remarks)
    assert len(remarks) == 1


def test_empty_alpha_of_a_crop(write: Write) -> None:
    header = {**SCANLINE, "dataWindow": box(10, 5, SIDE, SIDE), "displayWindow": box(0, 0, 40, 30)}
    image = load_image(write({**rgb(0.5), "A": 0.0}, header))
    want = np.zeros((30, 40, 3), np.uint8)
    want[5:25, 10:30, 0] = 188
    assert np.array_equal(np.asarray(image), want)


def test_nearly_opaque_alpha_stays(write: Write) -> None:
    alpha = plane(1.0).copy()
    alpha[3, 5] = 0.5
    image = load_image(write({**rgb(0.5), "A": alpha}))
    assert image.mode == "RGBA"
    assert image.getpixel((5, 3)) == (255, 0, 0, 128)
    assert image.getpixel((7, 7)) == (188, 0, 0, 255)


@pytest.mark.parametrize("alpha", [1.0, 1.5, np.inf])
def test_alpha_that_is_all(write: Write, alpha: float) -> None:
    image = load_image(write({**rgb(0.5), "A": alpha}))
    assert (image.mode, image.getpixel((7, 7))) == ("RGB", (188, 0, 0))


# Which layer


OTHER = {**rgb(0.0, 1.0, layer="Other."), "Depth.Z": 3.0}

WRITTEN_AS = {
    "any renderer": {**rgb(0.5), "A": 1.0, "Z": 5.0, **rgb(0, 1, layer="diffuse."), **OTHER},
    "Blender": {
        **rgb(0.5, layer="ViewLayer.Combined."),
        "ViewLayer.Combined.A": 1.0,
        **rgb(0.0, 1.0, layer="ViewLayer.DiffCol."),
        **rgb(0.0, 1.0, layer="ViewLayer.CryptoObject00."),
        "ViewLayer.Depth.Z": 5.0,
        "ViewLayer.Normal.X": 0.0,
        "ViewLayer.Normal.Y": 1.0,
        "ViewLayer.Normal.Z": 0.0,
    },
    "Blender's compositor": {
        **rgb(0.0, 1.0, layer="A view layer.Combined."),
        **rgb(0.5, layer="Composite.Combined."),
    },
    "Blender in stereo": {
        **rgb(0.5, layer="ViewLayer.Combined.left."),
        **rgb(0.0, 1.0, layer="ViewLayer.Combined.right."),
    },
    "Maya": {**rgb(0.5, layer="beauty."), **rgb(0.0, 1.0, layer="albedo.")},
    "Karma": {**rgb(0.5, layer="C."), **rgb(0.0, 1.0, layer="N."), **OTHER},
    "RenderMan": {**rgb(0.5, layer="Ci."), **OTHER},
    "Nuke": {"beauty.red": 0.5, "beauty.green": 0.0, "beauty.blue": 0.0, **OTHER},
    "one layer of any name": {**rgb(0.5, layer="Arnold_Direct_Diffuse."), "P.Y": 1.0, "P.X": 1.0},
    "small letters": {"r": 0.5, "g": 0.0, "b": 0.0, **OTHER},
}


@pytest.mark.parametrize("planes", WRITTEN_AS.values(), ids=WRITTEN_AS.keys())
def test_the_beauty_layer_is_the_picture(write: Write, planes: Planes) -> None:
    assert colour_of(write(planes)) == (188, 0, 0)


def test_luminance_only(write: Write) -> None:
    assert colour_of(write({"Y": 0.5})) == (188, 188, 188)
    assert colour_of(write({"Y": 0.25, "A": 0.5})) == (188, 188, 188, 128)


def test_many_parts(write_parts: Write) -> None:
    red, green = rgb(0.5), rgb(0.0, 1.0)
    assert colour_of(write_parts(depth={"Z": 1.0}, diffuse=green, rgba=red)) == (188, 0, 0)
    assert colour_of(write_parts(diffuse=green, C=rgb(0.5, layer="C."))) == (188, 0, 0)
    assert colour_of(write_parts(hero=red, diffuse=green)) == (188, 0, 0)
    assert colour_of(write_parts(crypto_object=green, left=red)) == (188, 0, 0)


def test_no_picture_among_the_parts(write_parts: Write) -> None:
    path = write_parts(depth={"Z": 1.0}, crypto00=rgb(0.5), P={"X": 1.0, "Y": 1.0, "Z": 1.0})
    with pytest.raises(ImageUnreadable) as caught:
        probe(path)
    detail = caught.value.detail
    assert "no layer is a picture" in detail
    for name in ("depth (Z)", "crypto00 (B, G, R)", "P (X, Y, Z)"):
        assert name in detail
    assert "beauty" in caught.value.hint


def test_coordinates_are_no_luminance(write: Write) -> None:
    with pytest.raises(ImageUnreadable, match="no layer is a picture"):
        probe(write({"Pref.X": 0.1, "Pref.Y": 0.2, "Pref.Z": 0.3}))


def test_which_is_the_picture_may_be_unclear(write: Write) -> None:
    with pytest.raises(ImageUnreadable, match=r"several layers.*one .one\.B.*two \("):
        probe(write({**rgb(0.5, layer="one."), **rgb(0.5, layer="two.")}))


def test_names_are_safe_in_a_message(write: Write) -> None:
    many = {f"layer\n{number}{'x' * 150}.Z": 1.0 for number in range(40)}
    with pytest.raises(ImageUnreadable) as caught:
        probe(write(many))
    assert "\n" not in caught.value.detail
    assert caught.value.detail.endswith("…")
    assert len(caught.value.detail) < 4000


def test_ids_are_no_light(write: Write) -> None:
    with pytest.raises(ImageUnreadable, match="whole numbers"):
        probe(write({name: plane(7, "u4") for name in "RGB"}))


def test_half_of_the_chroma_is_refused(tmp_path: Path) -> None:
    planes = {
        "Y": OpenEXR.Channel("Y", plane(0.5), 1, 1),
        "RY": OpenEXR.Channel("RY", plane(0.1), 2, 2),
    }
    path = save(tmp_path / "a.exr", {**SCANLINE, "dataWindow": box(0, 0, SIDE, SIDE)}, planes)
    with pytest.raises(ImageUnreadable, match=r"only one of its coarsely.*RY, Y"):
        probe(path)


def test_the_choice_is_remarked(write: Write) -> None:
    remarks: list[str] = []
    load_image(write(WRITTEN_AS["Blender"]), remarks)
    assert len(remarks) == 1
    assert '"ViewLayer.Combined" (of 5)' in remarks[0]


# Windows


@pytest.mark.parametrize("alpha", [{}, {"A": 0.5}], ids=["opaque", "with alpha"])
def test_a_crop_lies_in_its_frame(write: Write, alpha: Planes) -> None:
    header = {**SCANLINE, "dataWindow": box(10, 5, SIDE, SIDE), "displayWindow": box(0, 0, 40, 30)}
    image = load_image(write({**rgb(0.25), **alpha}, header))
    pixels = np.asarray(image)
    assert image.size == (40, 30)
    inside = np.zeros((30, 40), bool)
    inside[5:25, 10:30] = True
    assert (pixels[..., 0] > 0).tolist() == inside.tolist()
    if alpha:
        assert (pixels[..., 3] == np.where(inside, 128, 0)).all()


def test_overscan_is_cut_off(write: Write) -> None:
    ramp = np.linspace(0, 1, 60, dtype="f4") * np.ones((50, 1), "f4")
    header = {**SCANLINE, "dataWindow": box(-10, -5, 60, 50), "displayWindow": box(0, 0, 40, 40)}
    image = load_image(write({"R": ramp, "G": ramp * 0, "B": ramp * 0}, header))
    whole = load_image(write({"R": ramp.copy(), "G": ramp * 0, "B": ramp * 0}))
    assert np.array_equal(np.asarray(image), np.asarray(whole)[5:45, 10:50])


@pytest.mark.parametrize("place", [(100, 0), (-50, 0), (0, 100), (0, -50), (-50, -50)])
def test_a_window_beside_the_frame_shows_nothing(write: Write, place: tuple[int, int]) -> None:
    frame = box(0, 0, 60, 60)
    header = {**SCANLINE, "dataWindow": box(*place, SIDE, SIDE), "displayWindow": frame}
    assert not np.asarray(load_image(write(rgb(1.0), header))).any()


# What is not whole, or hostile


@pytest.mark.slow
@pytest.mark.parametrize("header", [SCANLINE, TILED], ids=["scanline", "tiled"])
@pytest.mark.parametrize("name", ["NO", "ZIP", "PIZ", "DWAA"])
def test_truncated_anywhere_it_never_reads_as_whole(
    tmp_path: Path, name: str, header: dict[str, Any]
) -> None:
    noise = np.random.default_rng(3).random((3, 40, 40)).astype("f2")
    compression = {"compression": getattr(OpenEXR, f"{name}_COMPRESSION")}
    planes = dict(zip("RGB", (layer.copy() for layer in noise), strict=True))
    data = save(tmp_path / "whole.exr", {**header, **compression}, planes).read_bytes()
    cut = tmp_path / "cut.exr"

    @settings(max_examples=60)
    @given(st.integers(0, len(data) - 1))
    def check(size: int) -> None:
        cut.write_bytes(data[:size])
        with pytest.raises(ImageUnreadable):
            probe(cut)

    check()


def test_a_part_that_breaks_off_behind_the_picture(write_parts: Write) -> None:
    path = write_parts(rgba=rgb(0.5), depth={"Z": 1.0})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ImageUnreadable, match="truncated or damaged"):
        probe(path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_half_written_in_place(tmp_path: Path, share: float) -> None:
    """As Blender and Arnold write: a table of zeros first, the pixels bit by bit behind it."""
    noise = np.random.default_rng(3).random((200, 40)).astype("f4")
    planes = {"R": noise, "G": noise.copy(), "B": noise.copy()}
    path = save(tmp_path / "a.exr", SCANLINE, planes)
    data = path.read_bytes()
    chunks = -(-200 // 16)
    first = next(
        at for at in range(200, 2000) if struct.unpack_from("<Q", data, at)[0] == at + 8 * chunks
    )
    begun = bytearray(data)
    begun[first : first + 8 * chunks] = bytes(8 * chunks)
    pixels = first + 8 * chunks
    path.write_bytes(begun[: pixels + int(share * (len(data) - pixels))])
    with pytest.raises(ImageUnreadable, match="truncated or damaged"):
        probe(path)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_flipped_bytes_never_escape_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.exr"
    save(path, SCANLINE, {name: plane(0.5) for name in "RGBA"})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        load_image(path)
    except (ImageUnreadable, ImageTooLarge, ImageTooSmall) as error:
        assert error.detail


def patched(path: Path, name: bytes, window: tuple[int, int, int, int]) -> Path:
    data = bytearray(path.read_bytes())
    mark = name + b"\0box2i\0"
    at = data.index(mark) + len(mark) + 4
    data[at : at + 16] = struct.pack("<4i", *window)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "window"),
    [
        (b"displayWindow", (0, 0, 39_999, 39_999)),
        (b"displayWindow", (0, 0, 40_000, 31)),
        (b"dataWindow", (0, 0, 99_999, 99_999)),
        (b"dataWindow", (-(2**29), -(2**29), 2**29, 2**29)),
    ],
)
def test_a_huge_header_is_refused_before_decoding(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: bytes, window: Any
) -> None:
    path = patched(write(rgb(0.5)), name, window)
    monkeypatch.setattr(exr, "decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageTooLarge):
        probe(path)


def test_layers_count_before_decoding(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write({**rgb(0.5), **rgb(0.5, layer="more.")})
    monkeypatch.setattr(exr, "MAX_DECODED_BYTES", 6 * 4 * SIDE * SIDE)
    assert probe(path).format == "EXR"
    monkeypatch.setattr(exr, "MAX_DECODED_BYTES", 6 * 4 * SIDE * SIDE - 1)
    with pytest.raises(ImageTooLarge, match="decode to"):
        probe(path)


def test_a_huge_tile_is_refused_before_decoding(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(rgb(0.5), TILED)
    data = bytearray(path.read_bytes())
    at = data.index(b"tiledesc\0") + len(b"tiledesc\0") + 4
    data[at : at + 8] = struct.pack("<2I", 32, 2**24)
    path.write_bytes(data)
    monkeypatch.setattr(exr, "decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageTooLarge, match="decode to"):
        probe(path)


def test_too_small(write: Write) -> None:
    planes = {name: plane(0.5, shape=(8, 8)) for name in "RGB"}
    with pytest.raises(ImageTooSmall):
        probe(write(planes))


def test_deep_samples_are_refused(tmp_path: Path) -> None:
    samples = np.empty((SIDE, SIDE), object)
    for place in np.ndindex(samples.shape):
        samples[place] = np.array([0.5], "f4")
    planes = {name: samples.copy() for name in "RGBA"}
    header = {"type": OpenEXR.deepscanline, "compression": OpenEXR.ZIPS_COMPRESSION}
    path = save(tmp_path / "deep.exr", header, planes)
    with pytest.raises(ImageUnreadable, match="deep samples"):
        probe(path)


@pytest.mark.parametrize("data", [MAGIC, MAGIC + b"\2\0\0\0", MAGIC + bytes(5000)])
def test_what_only_begins_like_one(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.exr"
    path.write_bytes(data)
    with pytest.raises(ImageUnreadable):
        probe(path)


def test_a_failing_disk_is_not_the_picture_s_fault(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({name: np.random.default_rng(0).random((300, 300)).astype("f4") for name in "RGB"})

    class Failing:
        def __init__(self, file: Any) -> None:
            self._file = file
            self.seek, self.tell = file.seek, file.tell

        def read(self, size: int) -> bytes:
            if self._file.tell() > 2000:
                raise OSError(errno.EIO, "Input/output error")
            return self._file.read(size)

    with path.open("rb") as file, pytest.raises(OSError, match="Input/output"):
        exr.decode(Failing(file), exr.find_layer(file))  # pyright: ignore
