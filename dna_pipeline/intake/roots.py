"""The files in source roots that job files and tables name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dna_pipeline.filesystem import is_link
from dna_pipeline.inbox.scan import is_image_name, is_noise
from dna_pipeline.spec.sources import Place, is_file, is_pattern, matches, may_lead


def outside(place: Place) -> list[str]:
    """The files in a source root that a place names, sorted: one by its path, or the images that a
    glob fits, those that no inbox would take passed over.

    What a symbolic link leads to counts only if it lies in the root too.
    """
    assert place.root is not None
    pattern = os.path.relpath(place.path, place.root)
    if is_file(place.path):
        found = [Path(place.path)]
    elif is_pattern(pattern):
        found = [Path(path) for path in _fitting(place.root, pattern)]
    else:
        return []
    real = place.root.resolve()
    return sorted(str(path) for path in found if path.resolve().is_relative_to(real))


def _fitting(root: Path, pattern: str) -> Iterator[str]:
    """The images that a glob fits. Folders that cannot be read hold none."""
    folders = [""]
    while folders:
        prefix = folders.pop()
        with suppress(OSError), os.scandir(root / prefix) as entries:
            for entry in entries:
                relative = prefix + entry.name
                if is_noise(entry.name):
                    continue
                with suppress(OSError):  # a link in a circle
                    if entry.is_dir():
                        # One that leads to where it lies would never end below `**/`.
                        is_linked = is_link(entry.stat(follow_symlinks=False))
                        if may_lead(relative, pattern, at_any_depth=not is_linked):
                            folders.append(f"{relative}/")
                    elif is_image_name(relative) and matches(relative, pattern):
                        yield entry.path
