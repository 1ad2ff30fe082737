"""What a file is said to be that is no image, whatever its name."""

import base64
import bz2
import gzip
import io
import json
import lzma
import plistlib
import sqlite3
import struct
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.media.images import load_image, probe

PICTURE = Image.effect_noise((48, 32), 50).convert("RGB")


def encoded(kind: str, image: Image.Image = PICTURE, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def zipped(*names: str, first: tuple[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        if first:
            archive.writestr(*first)
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("cat.png")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(100))
    return buffer.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table t (x)")
        return connection.serialize()


def numpy_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 4)))
    return buffer.getvalue()


def ftyp(brand: bytes) -> bytes:
    return struct.pack(">I", 24) + b"ftyp" + brand + b"\0\0\0\0isomavc1" + bytes(64)


PNG = encoded("PNG")
JPEG = encoded("JPEG")
PAGE = "<!DOCTYPE html>\n<html><body>404</body></html>"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'

KINDS = {
    "nothing": (b"", "the file is empty; copy or export it again"),
    "page": (PAGE.encode(), "web page .HTML.*download the image itself"),
    "page after a BOM": (b"\xef\xbb\xbf\r\n\r\n  " + PAGE.encode(), "web page"),
    "page in UTF-16": (PAGE.encode("utf-16"), "web page"),
    "page in Latin-1": (PAGE.encode() + b"<p>caf\xe9</p>", "web page"),
    "page without doctype": (b"<html lang=en><head></head></html>", "web page"),
    "page behind a comment": (b"<!-- saved -->\n<HTML><BODY>x</BODY></HTML>", "web page"),
    "xhtml": (f"{XML}<!DOCTYPE html PUBLIC 'x'>\n<html/>".encode(), "web page"),
    "long page": (PAGE.encode() + "é".encode() * 9000, "web page"),
    "xml": (f"{XML}<Error><Code>AccessDenied</Code></Error>".encode(), "XML.*error message"),
    "svg": (SVG.encode(), "SVG drawing.*export it as PNG in the size"),
    "svg with a head": (f"{XML}<!-- Inkscape -->\n{SVG}".encode(), "SVG drawing"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\n1 0 obj", "PDF document.*as PNG"),
    "pdf after rubbish": (b"\r\n\xff" + b"%PDF-1.4\n", "PDF document"),
    "postscript": (b"%!PS-Adobe-3.0\n", "PostScript"),
    "psd": (b"8BPS\0\1" + bytes(6) + b"\0\3", "Photoshop document .PSD.*save a copy as PNG"),
    "psb": (b"8BPS\0\2" + bytes(6) + b"\0\3", "large Photoshop document .PSB"),
    "jpeg xl": (b"\xff\x0a\x7f\x00\x10", "JPEG XL"),
    "jpeg xl in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "JPEG XL"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "JPEG 2000"),
    "jpeg 2000 stream": (b"\xff\x4f\xff\x51\0\x2f" + bytes(40), "JPEG 2000"),
    "jpeg xr": (b"II\xbc\1\x20\0\0\0", "JPEG XR"),
    "radiance": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n", "Radiance HDR.*OpenEXR"),
    "dds": (encoded("DDS"), "DDS texture"),
    "tga": (encoded("TGA"), "Targa"),
    "old tga": (encoded("TGA")[:-26], "Targa"),
    "ico": (encoded("ICO", sizes=[(32, 32)]), "icon .ICO"),
    "ppm": (encoded("PPM"), "PNM image"),
    "plain ppm": (b"P3\n# made by hand\n2 2\n255\n" + b"1 2 3\n" * 4, "PNM image"),
    "xcf": (b"gimp xcf v011\0" + bytes(40), "GIMP document"),
    "blender": (b"BLENDER-v403RENDH", "Blender file.*render it"),
    "canon raw": (ftyp(b"crx "), "camera's raw file.*develop it"),
    "fuji raw": (b"FUJIFILMCCD-RAW 0201FF", "camera's raw file"),
    "olympus raw": (b"IIRO\x08\0\0\0" + bytes(40), "camera's raw file"),
    "panasonic raw": (b"IIU\0\x18\0\0\0" + bytes(40), "camera's raw file"),
    "mp4": (ftyp(b"isom"), "a video.*one frame of it"),
    "quicktime": (ftyp(b"qt  "), "a video"),
    "old quicktime": (b"\0\0\0\x08wide\0\0\1\0mdat", "a video"),
    "webm": (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1webm", "a video"),
    "avi": (b"RIFF\x24\0\0\0AVI LIST", "a video"),
    "audio in mp4": (ftyp(b"M4A "), "a sound file"),
    "wav": (sound(), "a sound file"),
    "rare brand": (ftyp(b"zzzz"), "media file of the kind 'zzzz'"),
    "zip": (zipped("cat.png"), "ZIP archive.*unpack it"),
    "word": (zipped("[Content_Types].xml", "word/document.xml"), "Office document"),
    "open document": (
        zipped(first=("mimetype", b"application/vnd.oasis.opendocument.text")),
        "Office document",
    ),
    "krita": (zipped(first=("mimetype", b"application/x-krita")), "Krita document"),
    "old office": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "Office document.*older"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "7z archive"),
    "rar": (b"Rar!\x1a\x07\1\0", "RAR archive"),
    "gzip": (gzip.compress(b"x"), "gzip archive"),
    "bzip2": (bz2.compress(b"x"), "bzip2 archive"),
    "xz": (lzma.compress(b"x"), "xz archive"),
    "tar": (tarred(), "tar archive"),
    "text": (b"this is a shopping list\n" * 40, "plain text"),
    "text with letters": ("Grüße aus Zürich\n" * 999).encode() and (
        ("Grüße aus Zürich\n" * 999).encode(), "plain text"),
    "json": (json.dumps({"error": "expired"}).encode(), "JSON text.*error message"),
    "json list": (b'[\n  {"id": 1}\n]', "JSON text"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "Git LFS pointer.*git lfs pull",
    ),
    "data url": (b"data:image/png;base64," + base64.b64encode(PNG), "data URL"),
    "base64": (base64.b64encode(JPEG), "base64 text"),
    "apple double": (b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60), "AppleDouble"),
    "alias": (b"book\0\0\0\0mark\0\0\0\0" + bytes(60), "alias of macOS"),
    "shortcut": (b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(60), "Windows shortcut"),
    "url": (b"[InternetShortcut]\r\nURL=https://example.org/cat.png\r\n", "link to a web page"),
    "webloc": (plistlib.dumps({"URL": "https://example.org"}), "property list"),
    "binary webloc": (
        plistlib.dumps({"URL": "https://example.org"}, fmt=plistlib.FMT_BINARY),
        "property list",
    ),
    "xmp": (b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"/>', "XMP sidecar"),
    "zeros": (bytes(4096), "its 4,096 bytes are all zero, as in a cloud drive's placeholder"),
    "many zeros": (bytes(3 << 20), "its 3,145,728 bytes are all zero"),
    "zeros, then a picture": (bytes(8192) + PNG, "begins with zeros"),
    "png without CR": (PNG.replace(b"\r\n", b"\n"), "PNG that a transfer in text mode"),
    "png with CRs": (
        PNG.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), "PNG that a transfer in text mode"),
    "png with all CRs": (PNG.replace(b"\n", b"\r\n"), "PNG that a transfer in text mode"),
    "png of 7 bits": (bytes(b & 127 for b in PNG), "PNG that a transfer in text mode"),
    "png as UTF-8": (PNG.decode("latin-1").encode(), "PNG that was stored as if it were text"),
    "png as text": (PNG.decode(errors="replace").encode(), "PNG that was stored as if it were"),
    "jpeg as UTF-8": (JPEG.decode("latin-1").encode(), "JPEG that was stored as if it were text"),
    "numpy": (numpy_array(), "NumPy array"),
    "sqlite": (database(), "SQLite database"),
    "program": (b"\x7fELF\2\1\1" + bytes(60), "a program"),
    "rubbish": (
        bytes(range(200, 250)) * 9,
        r"it has 450 bytes and begins with C8 C9 CA CB CC CD CE CF \('\.{8}'\).*may be damaged",
    ),
    "one byte": (b"\x80", r"it has 1 byte and begins with 80"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("name", ["cat.png", "cat.jpg"])
def test_it_is_said_what_the_file_is(data: bytes, words: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageUnreadable, match=words) as caught:
        probe(path)
    assert "not an image" in caught.value.detail
    assert len(caught.value.detail) < 400


def reason(path: Path) -> str:
    with pytest.raises(ImageUnreadable) as caught:
        load_image(path)
    return caught.value.detail


# TIFF


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_tiffs(tmp_path: Path, dtype: type, channels: int) -> None:
    shape = (32, 32, 3)[: 2 if channels == 1 else 3]
    photometric = "minisblack" if channels == 1 else "rgb"
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, dtype), photometric=photometric)
    assert "floating-point numbers" in reason(tmp_path / "a.tif")
    assert "OpenEXR" in reason(tmp_path / "a.tif")
    assert f"({np.dtype(dtype).itemsize * 8} bits)" in reason(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (np.uint32, "whole numbers of 32 bits"),
        (np.int32, "whole numbers of 32 bits"),
    ],
)
def test_tiffs_of_other_numbers(tmp_path: Path, dtype: type, words: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((32, 32), dtype), photometric="minisblack")
    assert words in reason(tmp_path / "a.tif")
    assert "8 or 16 bits" in reason(tmp_path / "a.tif")


def tiff(*entries: tuple[int, int, int], data: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of 32 x 32 grey pixels without content, with these further or other tags."""
    tags = {256: (3, 32), 257: (3, 32), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 8),
            277: (3, 1), 278: (3, 32), 279: (4, 1024)}  # fmt: skip
    tags |= {tag: (kind, value) for tag, kind, value in entries}
    body = (data + bytes(1024))[:1024]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", 8 + len(body))
    table = struct.pack(f"{order}H", len(tags))
    for tag, (kind, value) in sorted(tags.items()):
        field = struct.pack(f"{order}H2x" if kind == 3 else f"{order}I", value)
        table += struct.pack(f"{order}HHI", tag, kind, 1) + field
    return head + body + table + bytes(4)


@pytest.mark.parametrize(
    ("number", "name"),
    [(34712, "JPEG 2000"), (33003, "JPEG 2000"), (50002, "JPEG XL"), (34661, "JBIG"),
     (22610, "JPEG XR"), (34887, "LERC"), (12345, "number 12345")],
)  # fmt: skip
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_compression_of_a_tiff_is_named(
    tmp_path: Path, number: int, name: str, order: str
) -> None:
    (tmp_path / "a.tif").write_bytes(tiff((259, 3, number), order=order))
    assert f"compression ({name}) is not read" in reason(tmp_path / "a.tif")
    assert "save it with LZW or ZIP" in reason(tmp_path / "a.tif")


def test_a_raw_file_s_thumbnail_is_not_the_picture(tmp_path: Path) -> None:
    """These decode: the first page of a raw file is a small picture."""
    for name, tags in {
        "a.dng": [(50706, 4, 0x0401)],
        "a.nef": [(254, 4, 1), (271, 4, 0), (330, 4, 8)],
        "a.arw": [(254, 4, 1), (271, 4, 0), (330, 4, 8)],
    }.items():
        (tmp_path / name).write_bytes(tiff(*tags))
        assert "camera's raw file" in reason(tmp_path / name)
        assert "raw converter" in reason(tmp_path / name)
    (tmp_path / "a.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(99))
    assert "camera's raw file" in reason(tmp_path / "a.cr2")


def test_a_picture_of_a_camera_and_a_small_page_are_no_raw_files(tmp_path: Path) -> None:
    for tags in ([(271, 4, 0)], [(330, 4, 8)], [(254, 4, 1)], [(271, 4, 0), (330, 4, 8)]):
        (tmp_path / "a.tif").write_bytes(tiff(*tags))
        assert load_image(tmp_path / "a.tif").size == (32, 32)


@pytest.mark.parametrize("size", [8, 12, 100, 1030])
def test_a_tiff_that_is_cut_off(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.tif").write_bytes(tiff()[:size])
    assert "broken or cut off" in reason(tmp_path / "a.tif")


# JPEG


def with_frame(marker: int, precision: int = 8, layers: int = 3) -> bytes:
    at = next(i for i in range(len(JPEG)) if JPEG[i : i + 2] == b"\xff\xc0")
    frame = bytearray(JPEG)
    frame[at + 1], frame[at + 4], frame[at + 9] = marker, precision, layers
    return bytes(frame)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (with_frame(0xC1, 12), "JPEG of 12 bits a channel"),
        (with_frame(0xC3), "lossless JPEG"),
        (with_frame(0xF7), "JPEG-LS"),
        (with_frame(0xC5), "hierarchical JPEG"),
        (with_frame(0xC0, 8, 2), "JPEG of 2 channels"),
        (JPEG[:20], "truncated or broken before its picture begins"),
        (JPEG[:-200], "truncated"),
    ],
)
def test_jpegs_that_are_not_read(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    assert words in reason(tmp_path / "a.jpg")


# Others that begin well and end badly


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_what_is_cut_off_is_called_truncated_or_broken(tmp_path: Path, kind: str) -> None:
    data = encoded(kind)
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    said = reason(tmp_path / "a.png")
    assert "truncated" in said or "broken" in said or "damaged" in said
    assert "copy" in said


def test_a_png_for_iphone_apps(tmp_path: Path) -> None:
    chunk = b"\0\0\0\4CgBI\x50\0\x20\2\x2b\xd5\xb3\x7f"
    (tmp_path / "a.png").write_bytes(PNG[:8] + chunk + PNG[8:])
    assert "a PNG that Xcode rewrote for an iPhone app" in reason(tmp_path / "a.png")
