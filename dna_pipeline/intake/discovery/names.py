"""Names of files that belong together."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable


def tells(sidecar: str, image: str) -> bool:
    """Whether a plain sidecar of that path could tell the image of that path, by their names."""
    told = bare(sidecar)
    return fold(told) == fold(image) or nfc(told) == nfc(bare(image))


def bare(path: str) -> str:
    """Without its last extension."""
    return path.rpartition(".")[0]


def nfc(path: str) -> str:
    """Composed."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def fold(path: str) -> str:
    """Composed, the extension in small letters: `CAT.PNG` and `CAT.png` are one name."""
    stem, dot, suffix = path.rpartition(".")
    return nfc(f"{stem}{dot}{suffix.lower()}")


Key = Callable[[str], str]
MATCHES: tuple[tuple[Key, Key], ...] = (
    (lambda image: image, bare),
    (fold, lambda sidecar: fold(bare(sidecar))),
    (bare, bare),
    (lambda image: nfc(bare(image)), lambda sidecar: nfc(bare(sidecar))),
)
"""What of an image's path must equal what of a YAML's. The whole name comes before the stem, and
byte by byte before alike, so that twins in two Unicode forms each find their own."""
