"""Find the files in source roots that job files and tables name."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.base.filesystem import is_link
from dna_pipeline.base.naming import forms_of
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.image_paths import Place, is_pattern, matches, may_lead
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.scan import is_image_name, is_noise

_NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class SourceRootFile:
    """A file in a source root.

    Attributes:
        path: its path as a job file or table names it, which may contain symbolic links.
        real: its path with all links followed; None if that lies in no source root, so that the
            file must not be read.
    """

    path: Path
    real: Path | None


def is_file(path: str | Path) -> bool:
    """True if there is a file at the path. A name that no file system accepts gives False."""
    return os.path.isfile(path)  # noqa: PTH113  Path.is_file raises for a name that is too long


def is_file_or_raise(path: Path) -> bool:
    """As `is_file`, but raises OSError if nobody can tell, as without a permission."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except ValueError:
        return False
    except OSError as error:
        if error.errno in _NOTHING:
            return False
        raise


def stored_form(path: Path) -> Path:
    """The path with its accents in the form in which a file of that name is stored; the path as it
    is if there is none."""
    return Path(next(filter(is_file, forms_of(str(path))), path))


def lacking_root(inbox: Inbox, look: Look = look_directly) -> tuple[Path, str] | None:
    """Return the first source root that cannot be used, and the reason; None if all can be used.

    A root cannot be used if it does not answer, is missing, or is empty like the mount point of a
    disk that is not mounted.
    """
    for root in inbox.source_roots:
        reach = look(root)
        if not reach.is_there or reach.is_empty:
            return root, reach.why if reach.is_silent else "is not there"
    return None


def literal_file(place: Place, roots: Sequence[Path]) -> SourceRootFile | None:
    """The file at a place's path, read as no glob, whatever the form of its accents; None if there
    is none."""
    path = next(filter(is_file, forms_of(place.path)), None)
    return None if path is None else SourceRootFile(Path(path), _real_path(path, roots))


def source_root_files(place: Place, roots: Sequence[Path]) -> list[SourceRootFile]:
    """Files in a source root that a place names, sorted: one by its path, or the images that a glob
    fits.

    A glob passes over files that every scan ignores by their names, and over links that lead out of
    the source roots.
    """
    assert place.root is not None
    if (file := literal_file(place, roots)) is not None:
        return [file]
    pattern = os.path.relpath(place.path, place.root)
    if not is_pattern(pattern):
        return []
    paths = sorted(_matching_images(place.root, pattern))
    files = [SourceRootFile(Path(path), _real_path(path, roots)) for path in paths]
    return [file for file in files if file.real is not None]


def _real_path(path: str, roots: Sequence[Path]) -> Path | None:
    real = Path(os.path.realpath(path))
    inside = any(real.is_relative_to(os.path.realpath(root)) for root in roots)
    return real if inside else None


def unreachable_reason(path: Path, *, through_links: bool) -> str:
    """Reason why it is unknown whether a file lies at a path; "" if it is known."""
    try:
        if is_link(path.lstat()) and through_links:
            path.stat()
    except ValueError:
        return ""
    except OSError as error:
        return "" if error.errno in _NOTHING else f"cannot be looked at: {error.strerror}"
    return ""


def obstacle(path: Path) -> str:
    """Thing other than a file that lies at a path, as the end of a sentence; "" if none does."""
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


def _matching_images(root: Path, pattern: str) -> Iterator[str]:
    """Images that a glob fits; folders that cannot be read are skipped."""
    folders = [""]
    while folders:
        prefix = folders.pop()
        with suppress(OSError), os.scandir(root / prefix) as entries:
            for entry in entries:
                relative = prefix + entry.name
                if is_noise(entry.name):
                    continue
                with suppress(OSError):  # such as a link that leads to itself
                    if entry.is_dir():
                        # Below `**/`, a link to a folder above it would be walked for ever, so a
                        # linked folder is entered only where the glob names it.
                        is_linked = is_link(entry.stat(follow_symlinks=False))
                        if may_lead(relative, pattern, at_any_depth=not is_linked):
                            folders.append(f"{relative}/")
                    elif is_image_name(relative) and matches(relative, pattern):
                        yield entry.path
