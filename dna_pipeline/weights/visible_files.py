"""Files that people put into a folder below the data folder, such as LoRAs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path


def visible_files(folder: Path, endings: Collection[str]) -> Iterator[Path]:
    """All files with these endings (lower case) at any depth, in the order of their paths; hidden
    ones are left out, such as those that macOS puts beside others."""
    try:
        paths = sorted(folder.rglob("*"))
    except OSError:
        return
    for path in paths:
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in endings and not is_hidden and path.is_file():
            yield path
