"""Names of files that belong together."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable


def is_sidecar_of(sidecar: str, image: str) -> bool:
    """Whether a plain sidecar of that path could tell the image of that path, by their names."""
    told = without_suffix(sidecar)
    return fold(told) == fold(image) or nfc(told) == nfc(without_suffix(image))


def without_suffix(path: str) -> str:
    """Without its last extension."""
    return path.rpartition(".")[0]


def nfc(path: str) -> str:
    """Composed."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def fold(path: str) -> str:
    """Composed, the extension in small letters: `CAT.PNG` and `CAT.png` are one name."""
    stem, dot, suffix = path.rpartition(".")
    return nfc(f"{stem}{dot}{suffix.lower()}")


_SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}


def loose_key(path: str) -> str:
    """A path as people who mistype it see it, the same for names that differ in capitals, in blanks
    at the ends of the stem, or in `jpg` and `jpeg`. The folder stays as it is."""
    folder, slash, name = nfc(path).rpartition("/")
    stem, dot, suffix = name.casefold().strip().rpartition(".")
    suffix = f"{dot}{suffix}"
    return f"{folder}{slash}{stem.strip()}{_SAME_SUFFIX.get(suffix, suffix)}"


def corrected_name(sidecar: str, image: str) -> str:
    """The name that a YAML whose name nearly fits an image should have."""
    suffix = sidecar[len(without_suffix(sidecar)) :]
    has_whole = loose_key(without_suffix(sidecar)) == loose_key(image)
    return f"{(image if has_whole else without_suffix(image)).rpartition('/')[2]}{suffix}"


Key = Callable[[str], str]
MATCHES: tuple[tuple[Key, Key], ...] = (
    (lambda image: image, without_suffix),
    (fold, lambda sidecar: fold(without_suffix(sidecar))),
    (without_suffix, without_suffix),
    (lambda image: nfc(without_suffix(image)), lambda sidecar: nfc(without_suffix(sidecar))),
)
"""What of an image's path must equal what of a YAML's. The whole name comes before the stem, and
byte by byte before alike, so that twins in two Unicode forms each find their own."""

NEAR_MATCHES: tuple[tuple[Key, Key], ...] = (
    (loose_key, lambda sidecar: loose_key(without_suffix(sidecar))),
    (
        lambda image: loose_key(without_suffix(image)),
        lambda sidecar: loose_key(without_suffix(sidecar)),
    ),
)
"""As `MATCHES`, for names that were probably meant to fit and do not."""
