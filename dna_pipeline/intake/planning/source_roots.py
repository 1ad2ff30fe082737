"""The files in source roots that job files and tables name."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.base.filesystem import is_link
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.image_paths import Place, is_pattern, matches, may_lead
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.scan import is_image_name, is_noise

_NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class Outside:
    """A file in a source root.

    Attributes:
        path: as it is named, which may be by a symbolic link.
        real: the file itself, with all links followed; None if that lies in none of the source
            roots, so that it must not be read.
    """

    path: Path
    real: Path | None


def is_file(path: str | Path) -> bool:
    """True if a file lies there; what no file system would take for a name is none."""
    return os.path.isfile(path)  # noqa: PTH113  Path.is_file raises for a name that is too long


def lacking_root(inbox: Inbox, look: Look = look_directly) -> tuple[Path, str] | None:
    """Find a source root that cannot be used, and why: it does not answer, is not there, or is
    empty as where nothing is mounted."""
    for root in inbox.source_roots:
        reach = look(root)
        if not reach.is_there or reach.is_empty:
            return root, reach.why if reach.is_silent else "is not there"
    return None


def named(place: Place, roots: Sequence[Path]) -> Outside | None:
    """The file at that very path, if there is one."""
    if not is_file(place.path):
        return None
    return Outside(Path(place.path), _real_path(place.path, roots))


def outside(place: Place, roots: Sequence[Path]) -> list[Outside]:
    """The files in a source root that a place names, sorted: one by its path, or the images that a
    glob fits.

    A glob passes over what no inbox would take, and links that lead out of the source roots.
    """
    assert place.root is not None
    if (file := named(place, roots)) is not None:
        return [file]
    pattern = os.path.relpath(place.path, place.root)
    if not is_pattern(pattern):
        return []
    found = [Outside(Path(p), _real_path(p, roots)) for p in sorted(_fitting(place.root, pattern))]
    return [file for file in found if file.real is not None]


def _real_path(path: str, roots: Sequence[Path]) -> Path | None:
    real = Path(os.path.realpath(path))
    inside = any(real.is_relative_to(os.path.realpath(root)) for root in roots)
    return real if inside else None


def why_unseen(path: Path, *, through_links: bool) -> str:
    """Reason why it is unknown whether a file lies there; "" if it is known."""
    try:
        if is_link(path.lstat()) and through_links:
            path.stat()
    except ValueError:
        return ""
    except OSError as error:
        return "" if error.errno in _NOTHING else f"cannot be looked at: {error.strerror}"
    return ""


def why_no_image(path: Path) -> str:
    """Thing other than a file that lies there, as the end of a sentence; "" if none does."""
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return ""
    if is_link(status):
        leads_to_a_file = is_file(path)
        return "is a link, which is not followed there" if leads_to_a_file else "is a broken link"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder"
    return "" if stat.S_ISREG(status.st_mode) else "is not a regular file"


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
