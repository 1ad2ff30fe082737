"""Says in one sentence what a file is that cannot be read as an image, and what to do about it.

The content decides, never the name. Only the first bytes are looked at (and the last ones for
Targa), so that this is quick and safe on any file. A kind that is not in the tables is described
by its first bytes: a wrong cause would send its owner the wrong way.

The tables hold what people drop into a folder of pictures. The libraries for this (`filetype`,
`puremagic`, libmagic) name a MIME type and no way out, and know neither cloud placeholders nor
files that a transfer in text mode spoiled.
"""

from __future__ import annotations

import os
import re
from typing import IO, NamedTuple

from dna_pipeline.media.formats import iso_boxes

HEAD_BYTES = 4096
"""Bytes at the start of a file that decide its kind."""

_APP_PNG = b"CgBI"
"""Stands where a PNG's header should, in one that only apps on iPhones read."""

_BLOCK_BYTES = 1 << 20
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


class Kind(NamedTuple):
    """A kind of file: its name with an article, and what its owner can do."""

    name: str
    mend: str


_EXPORT = "export it as PNG or JPEG"
_SAVE_COPY = "save a copy as PNG or TIFF"
_DEVELOP = "develop it in a raw converter and export it as TIFF, PNG or JPEG"
_FRAME = "export one frame of it as PNG"
_UNPACK = "unpack it, and drop the images that it holds"
_ORIGINAL = "drop the image itself"
_AGAIN = "copy it again from where it is whole"
_BINARY_MODE = "copy the original again, in binary mode"
_SPOILED = "that a transfer in text mode has spoiled"

RAW = Kind("a camera's raw file", _DEVELOP)
_PHOTOSHOP = Kind("a Photoshop document (PSD)", _SAVE_COPY)
_JXL = Kind("a JPEG XL image", _EXPORT)
_JP2 = Kind("a JPEG 2000 image", _EXPORT)
_VIDEO = Kind("a video", _FRAME)
_SOUND = Kind("a sound file", _ORIGINAL)
_OLE = Kind("an Office document of the older kind (or a Thumbs.db)", "export the picture in it")
_OFFICE = Kind("an Office document", "export the picture in it as PNG or JPEG")
_WEB_PAGE = Kind(
    "a web page (HTML)",
    "an error or login page was saved in place of the image; download the image itself",
)

_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    # Spoiled copies of formats that are read
    (0, b"\x89PNG\n\x1a\n", Kind(f"a PNG {_SPOILED}", _BINARY_MODE)),
    (0, b"\x89PNG\r\r\n\x1a\r\n", Kind(f"a PNG {_SPOILED}", _BINARY_MODE)),
    (0, b"\x89PNG\r\n\x1a\r\n", Kind(f"a PNG {_SPOILED}", _BINARY_MODE)),
    (0, b"\x89PNG\n\n\x1a\n", Kind(f"a PNG {_SPOILED}", _BINARY_MODE)),
    (0, b"\x89PNG\r\r\x1a\r", Kind(f"a PNG {_SPOILED}", _BINARY_MODE)),
    (0, b"\tPNG\r\n\x1a\n", Kind(f"a PNG {_SPOILED} (7 bits a byte)", _BINARY_MODE)),
    (0, b"\xef\xbf\xbdPNG", Kind("a PNG that was stored as if it were text", _BINARY_MODE)),
    (0, b"\xc2\x89PNG", Kind("a PNG that was stored as if it were text", _BINARY_MODE)),
    (0, b"\xef\xbf\xbd" * 4, Kind("binary data that was stored as if it were text", _BINARY_MODE)),
    (0, b"\xc3\xbf\xc3\x98\xc3\xbf", Kind("a JPEG that was stored as if it were text",
                                         _BINARY_MODE)),
    (12, _APP_PNG, Kind("a PNG that Xcode rewrote for an iPhone app",
                       "convert it back (xcrun pngcrush -revert-iphone-optimizations)")),
    # Pictures of other kinds
    (0, b"8BPS\0\x02", Kind("a large Photoshop document (PSB)", _SAVE_COPY)),
    (0, b"8BPS", _PHOTOSHOP),
    (0, b"\xff\x0a", _JXL),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", _JXL),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", _JP2),
    (0, b"\xff\x4f\xff\x51\0", _JP2),
    (0, b"II\xbc", Kind("a JPEG XR image", _EXPORT)),
    (0, b"#?RADIANCE", Kind("a Radiance HDR image", "save it as OpenEXR, or as PNG")),
    (0, b"#?RGBE", Kind("a Radiance HDR image", "save it as OpenEXR, or as PNG")),
    (0, b"PF\n", Kind("a PFM image of floating-point numbers", "save it as OpenEXR")),
    (0, b"Pf\n", Kind("a PFM image of floating-point numbers", "save it as OpenEXR")),
    (0, b"DDS ", Kind("a DDS texture", "export it as PNG")),
    (0, b"\xabKTX ", Kind("a KTX texture", "export it as PNG")),
    (0, b"qoif", Kind("a QOI image", _EXPORT)),
    (0, b"BPG\xfb", Kind("a BPG image", _EXPORT)),
    (0, b"gimp xcf", Kind("a GIMP document (XCF)", "export it as PNG")),
    (0, b"CSFCHUNK", Kind("a Clip Studio Paint document", "export it as PNG")),
    (0, b"\0\xffKA", Kind("a document of Affinity", "export it as PNG")),
    (0, b"BLENDER", Kind("a Blender file", "render it, and drop the rendered image")),
    (0, b"glTF\x02\0\0\0", Kind("a 3D model (GLB)", "drop an image of it")),
    (0, b"\0\0\x01\0", Kind("an icon (ICO)", "save the largest picture in it as PNG")),
    (0, b"\0\0\x02\0\x01\0", Kind("a mouse pointer (CUR)", "save it as PNG")),
    (0, b"icns", Kind("an icon of macOS (ICNS)", "save the largest picture in it as PNG")),
    (0, b"SIMPLE  = ", Kind("a FITS image", "save it as PNG or as a 16-bit TIFF")),
    (128, b"DICM", Kind("a DICOM image", "export it as PNG or as a 16-bit TIFF")),
    (0, b"SDPX", Kind("a DPX frame", "save it as OpenEXR or as a 16-bit TIFF")),
    (0, b"XPDS", Kind("a DPX frame", "save it as OpenEXR or as a 16-bit TIFF")),
    (0, b"\x80\x2a\x5f\xd7", Kind("a Cineon frame", "save it as OpenEXR or as a 16-bit TIFF")),
    (0, b"AT&TFORM", Kind("a DjVu document", "export the page as PNG")),
    (40, b" EMF", Kind("a Windows drawing (EMF)", "export it as PNG")),
    (0, b"\xd7\xcd\xc6\x9a", Kind("a Windows drawing (WMF)", "export it as PNG")),
    (0, b"%!PS", Kind("a PostScript drawing", "export it as PNG in the size that you want")),
    (0, b"\xc5\xd0\xd3\xc6", Kind("an EPS drawing", "export it as PNG in the size that you want")),
    (0, b"\x01\xda\0", Kind("an SGI image", _EXPORT)),
    (0, b"\x01\xda\x01", Kind("an SGI image", _EXPORT)),
    # Raw files of cameras; those that are TIFFs inside are for `tiff_words`
    (0, b"FUJIFILMCCD-RAW", RAW), (0, b"IIRO", RAW), (0, b"IIRS", RAW), (0, b"MMOR", RAW),
    (0, b"IIU\0", RAW), (6, b"HEAPCCDR", RAW), (0, b"FOVb", RAW), (0, b"\0MRM", RAW),
    # Films and sound
    (0, b"\x1aE\xdf\xa3", _VIDEO), (0, b"FLV\x01", _VIDEO), (0, b"\x30\x26\xb2\x75", _VIDEO),
    (0, b"\0\0\x01\xba", _VIDEO), (0, b"\0\0\x01\xb3", _VIDEO),
    (4, b"moov", _VIDEO), (4, b"mdat", _VIDEO), (4, b"wide", _VIDEO),
    (8, b"AVI ", _VIDEO), (8, b"WAVEfmt ", _SOUND), (0, b"ID3", _SOUND), (0, b"fLaC", _SOUND),
    (0, b"OggS", Kind("a video or sound file (Ogg)", _FRAME)),
    # Archives and documents
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK)),
    (0, b"Rar!\x1a\x07", Kind("a RAR archive", _UNPACK)),
    (0, b"\x1f\x8b", Kind("a gzip archive", _UNPACK)),
    (0, b"\xfd7zXZ\0", Kind("an xz archive", _UNPACK)),
    (0, b"BZh", Kind("a bzip2 archive", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Kind("a file compressed with Zstandard", _UNPACK)),
    (257, b"ustar", Kind("a tar archive", _UNPACK)),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (0, b"{\\rtf", Kind("a text document (RTF)", "export the picture in it as PNG or JPEG")),
    # What systems put in the place of a file
    (0, b"\0\x05\x16\x07", Kind("the half of a file in which macOS keeps its attributes "
                                "(AppleDouble)", "drop the other file, without ._ in its name")),
    (0, b"\0\x05\x16\0", Kind("a Macintosh file with its attributes (AppleSingle)", _ORIGINAL)),
    (0, b"book\0\0\0\0mark", Kind("an alias of macOS", "drop the file that it stands for")),
    (0, b"L\0\0\0\x01\x14\x02\0", Kind("a Windows shortcut", "drop the file that it stands for")),
    (0, b"bplist00", Kind("a property list of macOS", _ORIGINAL)),
    # Programs and data
    (0, b"SQLite format 3\0", Kind("a SQLite database", _ORIGINAL)),
    (0, b"\x93NUMPY", Kind("a NumPy array", "save it as PNG or OpenEXR")),
    (0, b"\x7fELF", Kind("a program", _ORIGINAL)),
)  # fmt: skip
"""Offset and bytes that decide, the longer before the shorter."""

_BRANDS = {
    b"crx ": RAW,
    b"M4A ": _SOUND, b"M4B ": _SOUND,
    b"jxl ": _JXL, b"jp2 ": _JP2, b"jpx ": _JP2,
}  # fmt: skip
_VIDEO_BRANDS = (
    b"iso", b"mp4", b"mp7", b"qt  ", b"M4V", b"3g", b"avc1", b"dash", b"MSNV", b"mmp4", b"f4v",
    b"nd", b"XAVC", b"hev1", b"hvc1", b"dby1", b"niko", b"CAEP", b"pana", b"FACE",
)  # fmt: skip
"""Beginnings of the major brands of videos."""

_TEXTS: tuple[tuple[str, Kind], ...] = (
    (r"<!doctype html|<html|<head|<body|<!doctype\s+html", _WEB_PAGE),
    (r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype svg[^>]*>\s*)?<svg[\s>/]",
     Kind("an SVG drawing", "export it as PNG in the size that you want")),
    (r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype html[^>]*>\s*)?<html[\s>/]", _WEB_PAGE),
    (r"version https://git-lfs\.github\.com/spec/",
     Kind("a Git LFS pointer, which stands for the image", "fetch the image with `git lfs pull`")),
    (r"data:image/", Kind("the text of a data URL", "decode it (base64) to an image first")),
    (r"ivborw0kggo|/9j/4|uklgr|r0lgod",
     Kind("an image written as base64 text", "decode it to an image first")),
    (r"\[internetshortcut\]", Kind("a link to a web page", "download the image itself")),
    (r"\[desktop entry\]", Kind("a shortcut", "drop the file that it stands for")),
    (r"(<\?xml[^>]*>\s*)?(<!doctype plist[^>]*>\s*)?<plist",
     Kind("a property list or web link of macOS", _ORIGINAL)),
    (r"<x:xmpmeta|<\?xpacket", Kind("an XMP sidecar, which holds no picture", _ORIGINAL)),
    (r"<\?xml|<[a-z]+[\s>/]", Kind("an XML or HTML text",
                                "an error message may have been saved in place of the image; "
                                "download the image itself")),
    (r"[\[{]\s*([\"{\[\]}]|-?\d)", Kind("a JSON text",
                       "an error message may have been saved in place of the image; "
                       "download the image itself")),
)  # fmt: skip
"""Patterns, in small letters, of what a text begins with."""

_READ: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"), (0, b"\xff\xd8\xff", "JPEG"), (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"), (0, b"BM", "BMP"), (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"), (0, b"MM\0+", "TIFF"), (0, b"\x76\x2f\x31\x01", "EXR"),
)  # fmt: skip


def read_head(file: IO[bytes]) -> bytes:
    """The first `HEAD_BYTES` bytes of the file, or all that there are."""
    file.seek(0)
    return file.read(HEAD_BYTES)


def format_of(head: bytes) -> str:
    """The format that is read and that a file begins like; "" for any other."""
    if head[4:8] == b"ftyp":
        return iso_boxes.picture_format(head)
    if head[12:16] == _APP_PNG:
        return ""
    names = (name for at, magic, name in _READ if head[at : at + len(magic)] == magic)
    return next(names, "")


def describe(file: IO[bytes]) -> str:
    """Say what this is, why it is not read and what to do, in one sentence for people.

    For files that begin like no format that is read.
    """
    head = read_head(file)
    size = file.seek(0, os.SEEK_END)
    if not head:
        return "not an image: the file is empty; copy or export it again"
    if not any(head):
        return _zeros(file, size)
    kind = _by_magic(head) or _container(head) or _text(head) or _targa(file, head, size)
    return sentence(kind) if kind else _unknown(head, size)


def sentence(kind: Kind) -> str:
    """The kind in a sentence: what it is, and the way out."""
    return f"it is {kind.name}, not an image that can be read: {kind.mend}"


def _by_magic(head: bytes) -> Kind | None:
    return next((kind for at, magic, kind in _MAGIC if head[at : at + len(magic)] == magic), None)


def _container(head: bytes) -> Kind | None:
    """Kinds whose first bytes are shared: ISO files, ZIP archives, PDF after a few odd bytes."""
    if head[4:8] == b"ftyp" and len(head) >= 12:
        return _of_brand(head[8:12])
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        return _zip(head)
    if re.match(rb"P[1-7]\s+(#[^\n]*\s+|WIDTH )*\d", head):
        return Kind("a PNM image", _EXPORT)
    if b"%PDF-" in head[:1024]:
        return Kind("a PDF document", "export the page, or the picture in it, as PNG")
    if head[:1] == b"G" and head[188:189] == b"G" and head[376:377] == b"G":
        return _VIDEO
    if head[:2] == b"MZ" and b"DOS mode" in head[:512]:
        return Kind("a Windows program", _ORIGINAL)
    return None


def _of_brand(brand: bytes) -> Kind:
    """The kind of an ISO file of this major brand."""
    if brand in (b"avif", b"avis"):
        return Kind("an AVIF image, which the installed Pillow cannot decode", _EXPORT)
    if brand.startswith(_VIDEO_BRANDS):
        return _VIDEO
    name = brand.decode("ascii", "replace").strip()
    other = Kind(f"a media file of the kind {name!r} (a video, or an image of a rare kind)",
                 "export the image, or one frame, as PNG")  # fmt: skip
    return _BRANDS.get(brand, other)


def _zip(head: bytes) -> Kind:
    """A ZIP archive, or one of the many documents that are one inside."""
    if b"mimetypeapplication/x-krita" in head:
        return Kind("a Krita document", "export it as PNG")
    if b"mimetypeimage/openraster" in head:
        return Kind("an OpenRaster document", "export it as PNG")
    if b"mimetypeapplication/vnd.oasis" in head:
        return _OFFICE
    if any(name in head for name in (b"[Content_Types].xml", b"word/", b"ppt/", b"xl/", b"_rels/")):
        return _OFFICE
    return Kind("a ZIP archive", _UNPACK)


def _text(head: bytes) -> Kind | None:
    """The kind of a text; None if these bytes are no text."""
    if (text := _decoded(head)) is None:
        return None
    start = text.lstrip("\ufeff \t\r\n\f\v").lower()
    for pattern, kind in _TEXTS:
        if re.match(pattern, start, re.DOTALL):
            return kind
    if "<html" in start[:2048] and start.startswith("<"):
        return _WEB_PAGE
    return Kind("plain text", _ORIGINAL)


def _decoded(head: bytes) -> str | None:
    """These bytes as text; None where control characters or odd bytes show that they are none."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return head[len(bom) :].decode(encoding, "replace")
    try:
        # A character may be cut in two where the head ends.
        text = head.decode("utf-8") if len(head) < HEAD_BYTES else head[:-3].decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < len(head) - 8:
            return _latin(head)
        text = head[: error.start].decode("utf-8")
    return None if re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text) else text


def _latin(head: bytes) -> str | None:
    """Text of Windows or Latin-1, where nearly all of it is letters and blanks."""
    plain = sum(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head)
    return head.decode("latin-1") if plain >= 0.9 * len(head) and b"\0" not in head else None


def _zeros(file: IO[bytes], size: int) -> str:
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        if any(block):
            return f"not an image: it begins with zeros where a format has its mark; {_AGAIN}"
    return (
        f"not an image: its {size:,} bytes are all zero, as in a cloud drive's placeholder or a "
        "copy that was never filled; let the file be downloaded whole, then drop it again"
    )


def _targa(file: IO[bytes], head: bytes, size: int) -> Kind | None:
    """Targa has no mark at its start, and one at its end only since 1989."""
    kind = Kind("a Targa image (TGA)", "export it as PNG")
    file.seek(max(0, size - 18))
    if file.read(18) == b"TRUEVISION-XFILE.\0":
        return kind
    if size < 18 or head[1] > 1 or head[2] not in (1, 2, 3) or head[16] not in (8, 16, 24, 32):
        return None
    width, height = int.from_bytes(head[12:14], "little"), int.from_bytes(head[14:16], "little")
    colours = int.from_bytes(head[5:7], "little") * (head[7] // 8) if head[1] else 0
    pixels = width * height * (head[16] // 8)
    return kind if pixels and size == 18 + head[0] + colours + pixels else None


def _unknown(head: bytes, size: int) -> str:
    """Plain words for a file that nothing recognises: its first bytes, and what may be wrong."""
    shown = head[:8]
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in shown)
    length = "1 byte" if size == 1 else f"{size:,} bytes"
    return (
        f"not an image in a format that is known: it has {length} and begins with "
        f"{shown.hex(' ').upper()} ({text!r}), no format's mark; it may be damaged or encrypted: "
        "open it in an image viewer, and if that shows it, save it from there as PNG"
    )
