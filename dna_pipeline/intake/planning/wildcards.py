"""Wildcard files: `data/wildcards/hats/felt.txt` gives the lines of `__hats/felt__` in prompts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dna_pipeline.config.sentences import closest
from dna_pipeline.config.templates import TemplateError
from dna_pipeline.intake.planning.source_roots import is_file_or_raise

MAX_BYTES = 10_000_000
_MOST_LISTED = 2000

_Stat = tuple[int, int, int]


class WildcardFiles:
    """Reads the wildcard files of a folder, each again only when it was changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cache: dict[str, tuple[_Stat, tuple[str, ...]]] = {}

    def lines(self, name: str) -> Sequence[str]:
        """Lines of the file of that name, without comments (`#`) and blank lines.

        Raises:
            TemplateError: there is no such file in the folder, or it has no lines that can be read.
        """
        path = self._folder / f"{name}.txt"
        try:
            if not _is_inside(name) or not is_file_or_raise(path):
                raise TemplateError(self._absent(name))
            status = path.stat()
            stat = status.st_ino, status.st_mtime_ns, status.st_size
            if (before := self._cache.get(name)) is None or before[0] != stat:
                self._cache[name] = before = stat, _read(path)
        except TemplateError:
            raise
        except (OSError, ValueError) as error:
            raise TemplateError(f"wildcard file {path} cannot be read: {error}") from None
        if not before[1]:
            raise TemplateError(f"wildcard file {path} has no lines")
        return before[1]

    def _absent(self, name: str) -> str:
        text = f"__{name}__ asks for the file {self._folder / name}.txt, which is not there"
        near = closest(name, self._names())
        return f"{text}; did you mean __{near}__?" if near else text

    def _names(self) -> list[str]:
        names: list[str] = []
        for folder, _, files in os.walk(self._folder):
            below = Path(folder).relative_to(self._folder)
            names += [(below / f[:-4]).as_posix() for f in files if f.endswith(".txt")]
            if len(names) > _MOST_LISTED:
                break
        return sorted(names)


def _is_inside(name: str) -> bool:
    """True if the name cannot lead out of the folder."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _read(path: Path) -> tuple[str, ...]:
    """Raises `OSError` or `ValueError`."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not written in UTF-8") from None
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
