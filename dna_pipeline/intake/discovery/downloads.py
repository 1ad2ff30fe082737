"""Recognise files that a download creates under their final names before their bytes arrive.

Firefox, Internet Explorer and others make an empty `photo.png`, write `photo.Xa1b2.png.part` beside
it, and rename the partial file at the end. aria2 writes into the file with the final name, in any
order, while its control file `photo.png.aria2` lies beside it.
"""

from __future__ import annotations

from collections.abc import Iterable

ENDINGS = (
    ".part", ".partial", ".crdownload", ".opdownload", ".download", ".filepart", ".tmp", ".aria2",
    ".lftp-pget-status", ".fdmdownload", ".xltd", ".!sync", ".!qb", ".!ut", ".bc!",
)  # fmt: skip
"""Endings, in small letters, of files that programs write into until they rename them."""

CONTROL = (".aria2", ".lftp-pget-status")
"""Endings of control files, which lie beside a download: its final name and then the ending."""


def is_partial(name: str) -> bool:
    """True for the name (not path) of a file, or of Safari's folder, that is still downloading."""
    return name.lower().endswith(ENDINGS)


class Downloads:
    """The downloads under way in one folder, by the names of their partial files."""

    def __init__(self, partials: Iterable[str]) -> None:
        self._written: set[str] = set()
        self._beginnings: set[str] = set()
        for name in map(str.lower, partials):
            if name.endswith(CONTROL):
                self._written.add(name.rpartition(".")[0])
            self._beginnings.update(name[:at] for at, sign in enumerate(name) if sign == ".")

    def holds(self, name: str, size: int) -> bool:
        """True if a download may still have to fill the file of this name and size."""
        name = name.lower()
        if name in self._written:
            return True
        stem = name.rpartition(".")[0]
        return size == 0 and (name in self._beginnings or stem in self._beginnings)
