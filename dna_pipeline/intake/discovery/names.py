"""Compare names of files, to find which of them belong together."""

from __future__ import annotations

from collections.abc import Callable

from dna_pipeline.base.naming import nfc


def is_sidecar_of(sidecar: str, image: str) -> bool:
    """True if, by their names alone, a plain sidecar may belong to an image."""
    target = without_suffix(sidecar)
    return fold(target) == fold(image) or nfc(target) == nfc(without_suffix(image))


def without_suffix(path: str) -> str:
    """The path without its last extension."""
    return path.rpartition(".")[0]


def fold(path: str) -> str:
    """The path in composed form with its extension in small letters: `CAT.PNG` equals `CAT.png`."""
    stem, dot, suffix = path.rpartition(".")
    return nfc(f"{stem}{dot}{suffix.lower()}")


_SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}


def loose_key(path: str) -> str:
    """A key that ignores common typing errors in a name, to suggest the right one.

    Names have the same key if they differ only in capitals, in blanks at the ends of the stem, or
    in `jpg` and `jpeg`. The folder stays as it is.
    """
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
"""Pairs of a key of the image's path and a key of the sidecar's path: image and sidecar belong
together if the keys are equal. The first pair that fits counts. The whole name comes before the
stem, and exact equality before similarity, so that two images whose names differ only in their
Unicode form each get their own sidecar."""

NEAR_MATCHES: tuple[tuple[Key, Key], ...] = (
    (loose_key, lambda sidecar: loose_key(without_suffix(sidecar))),
    (
        lambda image: loose_key(without_suffix(image)),
        lambda sidecar: loose_key(without_suffix(sidecar)),
    ),
)
"""Pairs like those of `MATCHES`, for names that do not fit and were probably meant to."""
