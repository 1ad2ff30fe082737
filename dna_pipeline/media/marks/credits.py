"""The authors, rights, rating and keywords that an image names in its XMP, EXIF or IPTC-IIM.

The image is a stranger's file, and its metadata may be wrong in any way: what cannot be read is
passed over, and no image is refused for it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image, IptcImagePlugin

from dna_pipeline.media.formats.picture_files import FORMATS
from dna_pipeline.media.marks.packet import NAMESPACES, SYNTHETIC, unique, usable

MAX_XMP_BYTES = 1 << 20
MAX_CHARS = 1000
"""Longest text that is taken over: a file of a stranger must not fill those that are made of it."""
MAX_ITEMS = 100

_ARTIST, _COPYRIGHT, _RATING, _XP_AUTHOR, _XP_KEYWORDS = 0x13B, 0x8298, 0x4746, 0x9C9D, 0x9C9E
_BYLINE, _RIGHTS, _KEYWORDS, _CHARSET = (2, 80), (2, 116), (2, 25), (1, 90)
_UTF8 = b"\x1b%G"


@dataclass(frozen=True, slots=True)
class Credits:
    """Statements of an image about its origin.

    Attributes:
        rating: -1 (rejected) to 5; None if it names none.
        source_type: its digital source type if that says that a model had a part in it, else "".
    """

    creators: tuple[str, ...] = ()
    rights: str = ""
    rating: int | None = None
    keywords: tuple[str, ...] = ()
    source_type: str = ""


def read_credits(path: Path) -> Credits:
    """The credits of an image file. Of several places that name one thing, XMP comes first, then
    IPTC-IIM, then EXIF; the keywords of all are taken together."""
    parts: list[Credits] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(Exception), path.open("rb") as file:
            image = _opened(file)
            for read in (_of_xmp, _of_iptc, _of_exif):
                with suppress(Exception):
                    parts.append(read(image))
    return _joined(parts)


def _opened(file: io.BufferedReader) -> Image.Image:
    """The image with its metadata read, no pixel decoded."""
    try:
        return Image.open(file, formats=FORMATS)
    except Image.UnidentifiedImageError:
        import pi_heif

        half_typed: Any = pi_heif
        file.seek(0)
        return half_typed.HeifImageFile(file)


def _joined(parts: Iterable[Credits]) -> Credits:
    parts = list(parts)
    ratings = (part.rating for part in parts if part.rating is not None)
    return Credits(
        next((part.creators for part in parts if part.creators), ()),
        next((part.rights for part in parts if part.rights), ""),
        next((rating for rating in ratings if -1 <= rating <= 5), None),
        unique(word for part in parts for word in part.keywords)[:MAX_ITEMS],
        next((part.source_type for part in parts if part.source_type), ""),
    )


def _list(texts: Iterable[str]) -> tuple[str, ...]:
    return unique(text[:MAX_CHARS] for text in texts)[:MAX_ITEMS]


# --- XMP ---


def _of_xmp(image: Image.Image) -> Credits:
    packet = image.info.get("xmp") or b""
    text = packet.decode("utf-8") if isinstance(packet, bytes) else str(packet)
    # A packet has no use for a document type; entities that grow without bounds begin in one.
    if not text or len(text) > MAX_XMP_BYTES or "<!" in text:
        return Credits()
    root = ElementTree.fromstring(text.strip("\0 \r\n\t\ufeff"))
    rating = next(_values(root, "xmp:Rating"), "")
    source_type = next(_values(root, "Iptc4xmpExt:DigitalSourceType"), "")
    return Credits(
        _list(_values(root, "dc:creator")),
        next(iter(_list(_values(root, "dc:rights"))), ""),
        round(float(rating)) if rating else None,
        _list(_values(root, "dc:subject")),
        source_type if source_type in SYNTHETIC else "",
    )


def _values(root: ElementTree.Element, name: str) -> Iterator[str]:
    """The texts of a property: of its attribute, its element, or the items in that."""
    prefix, _, local = name.partition(":")
    full, rdf = f"{{{NAMESPACES[prefix]}}}{local}", f"{{{NAMESPACES['rdf']}}}"
    for about in root.iter(f"{rdf}Description"):
        if text := usable(about.get(full, "")):
            yield text
        for element in about.findall(full):
            items = [item.text or "" for item in element.iter(f"{rdf}li")]
            yield from filter(
                None, map(usable, items or [element.text or element.get(f"{rdf}resource", "")])
            )


# --- IPTC-IIM ---


def _of_iptc(image: Image.Image) -> Credits:
    half_typed: Any = IptcImagePlugin
    entries: dict[tuple[int, int], bytes | list[bytes]] = half_typed.getiptcinfo(image) or {}
    is_utf8 = entries.get(_CHARSET) == _UTF8

    def texts(key: tuple[int, int]) -> Iterator[str]:
        value = entries.get(key, [])
        for item in [value] if isinstance(value, bytes) else value:
            yield _decoded(item, is_utf8=is_utf8)

    rights = _list(texts(_RIGHTS))
    return Credits(_list(texts(_BYLINE)), rights[0] if rights else "",
                   keywords=_list(texts(_KEYWORDS)))  # fmt: skip


def _decoded(data: bytes, *, is_utf8: bool = False) -> str:
    """Text whose encoding nothing names: UTF-8 where it can be, else Latin-1."""
    try:
        return data.decode("utf-8", "replace" if is_utf8 else "strict")
    except UnicodeDecodeError:
        return data.decode("latin-1")


# --- EXIF ---


def _of_exif(image: Image.Image) -> Credits:
    exif = image.getexif()
    author = _wide(exif.get(_XP_AUTHOR))
    artists = _text(exif.get(_ARTIST)) or author
    rating = exif.get(_RATING)
    # The photographer's copyright, then, behind a zero, the editor's.
    owners = _text(exif.get(_COPYRIGHT)).split("\0")
    return Credits(
        _list(artists.split(";")),
        "; ".join(_list(owners)),
        int(rating) if isinstance(rating, int) else None,
        _list(_wide(exif.get(_XP_KEYWORDS)).split(";")),
    )


def _text(value: object) -> str:
    """An EXIF text, which Pillow reads as Latin-1 and programs write as UTF-8."""
    if isinstance(value, bytes):
        return _decoded(value)
    if not isinstance(value, str):
        return ""
    with suppress(UnicodeError):
        return value.encode("latin-1").decode("utf-8")
    return value


def _wide(value: object) -> str:
    """A text of Windows' own tags: UTF-16 with a zero at its end."""
    return value.decode("utf-16-le", "ignore").rstrip("\0") if isinstance(value, bytes) else ""
