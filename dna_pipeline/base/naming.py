"""Names of files and folders: valid on every file system, printable, not too long."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePath

NAME_BYTES = 255
"""Longest name on the common file systems."""

STEM_BYTES = 120
"""Longest stem: leaves room for the job's id, a stage's id and the longest suffix in 255 bytes."""

_MOST_FORMS = 16

_UNSAFE = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*]'  # control characters, signs of paths and of Windows
    "|[\ud800-\udfff\ufdd0-\ufdef\ufff9-\uffff]"  # characters that UTF-8 or a file system lacks
    "|[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"  # invisible or change direction
)
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?")


def is_reserved(name: str) -> bool:
    """True if the name means a device on Windows, as `CON` and `nul.txt` do."""
    return _RESERVED.fullmatch(name) is not None


def safe_name(name: str) -> str:
    """`name` made valid on every common file system; never empty, at most `STEM_BYTES` bytes.

    The result is composed (NFC), has no control, direction and path characters, no leading dots
    and no trailing dots and spaces, and is not one of the device names that Windows reserves.
    """
    text = _cut(_UNSAFE.sub("_", nfc(name)).lstrip(". "))
    if is_reserved(text):
        text = _cut(f"_{text}")
    return text or "unnamed"


def _cut(text: str) -> str:
    return text.encode()[:STEM_BYTES].decode("utf-8", "ignore").rstrip(". ")


def nfc(text: str) -> str:
    """Text in Unicode's composed form (NFC), in which an accent is no character of its own."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def forms_of(path: str) -> list[str]:
    """The path as written, then with the accents of its parts in one character (NFC) or in two
    (NFD, as macOS writes them): names that look alike may be stored in either form.

    At most `_MOST_FORMS`, each once.
    """
    if path.isascii():
        return [path]
    parts = ([part, nfc(part), unicodedata.normalize("NFD", part)] for part in path.split("/"))
    product = itertools.product(*(dict.fromkeys(forms) for forms in parts))
    forms = ("/".join(parts) for parts in itertools.islice(product, _MOST_FORMS))
    return list(dict.fromkeys(forms))


def folded(text: str) -> str:
    """Text for comparisons in which neither case nor the form of accents counts."""
    return nfc(text.casefold())


def printable(name: str | Path) -> str:
    """A file's name or path as text that a database and JSON can hold, whatever its bytes."""
    if isinstance(name, str) and name.isascii():
        return name
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, which no file's name has but a table may name
        return str(name).encode("utf-8", "backslashreplace").decode()


def visible(text: str) -> str:
    """Text that cannot steer a terminal: unprintable characters are shown by their numbers."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def safe_stem(file_name: str) -> str:
    """Safe form of a file's name without its last extension."""
    name = name_of(file_name)
    stem, _, suffix = name.rpartition(".")
    return safe_name(stem if stem and suffix else name)


def sidecar_name(image: str) -> str:
    """Name of the sidecar that the program writes for an image of that name."""
    if len(os.fsencode(name := f"{image}.yaml")) <= NAME_BYTES:
        return name
    stem = os.fsencode(PurePath(image).stem)[: NAME_BYTES - len(".yml")]
    return f"{os.fsdecode(stem)}.yml"


def name_of(path: str) -> str:
    """Last part of a path, without its folders."""
    return path.rpartition("/")[2]


def folder_of(path: str) -> str:
    """Path of the folder, without the last part; "" if there is none."""
    return path.rpartition("/")[0]


def free_names(name: str, first: int = 1) -> Iterator[str]:
    """A file's name, then `name (1).png` and so on from that number, without end."""
    yield name
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    for number in count(first):
        yield with_tail(stem, f" ({number}){suffix}")


def with_tail(stem: str, tail: str) -> str:
    """A file's name of these two parts; the stem is cut so that the name has `NAME_BYTES`."""
    while stem and len(os.fsencode(stem + tail)) > NAME_BYTES:
        stem = stem[:-1]
    return stem + tail


def numbered(name: str) -> Iterator[str]:
    """A name, then `name-2` and so on, without end."""
    yield name
    for number in count(2):
        yield f"{name}-{number}"
