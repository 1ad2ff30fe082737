"""Where the images lie that job files and tables name: in the inbox, or in one of its roots."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dna_pipeline.errors import PathEscapesInbox
from dna_pipeline.spec.config import Inbox
from dna_pipeline.spec.sentences import shown


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image may lie.

    Attributes:
        path: relative to the inbox, with forward slashes; or absolute, in the root.
        root: the source root that it lies in; None for the inbox itself.
    """

    path: str
    root: Path | None = None


def places(inbox: Inbox, folder: str, text: str) -> list[Place]:
    """Where `text` may lead, written in a file in `folder` of the inbox; the first that is there
    is meant.

    A path is relative to its file, or to a source root, or absolute within one.

    Raises:
        PathEscapesInbox: it leads nowhere that is allowed.
    """
    _refuse(text)
    home = Path(os.path.normpath(inbox.path))
    if text.startswith("/"):
        absolute = Path(os.path.normpath(text))
        found = list(_within(inbox, home, absolute))
    else:
        found = list(_within(inbox, home, Path(os.path.normpath(home / folder / text))))
        if not _climbs(text):
            found += [Place(os.path.normpath(root / text), root) for root in inbox.source_roots]
    if not found:
        roots = ", ".join(map(str, inbox.source_roots)) or "none is set"
        raise PathEscapesInbox(
            f"{shown(text)} leads out of the inbox, and into none of its source_roots ({roots})"
        )
    return found


def _refuse(text: str) -> None:
    if "\\" in text or "\0" in text or text.startswith("~"):
        raise PathEscapesInbox(f"{shown(text)} leads out of the inbox")
    if re.match(r"[A-Za-z]:", text):
        raise PathEscapesInbox(f"{shown(text)} names a drive")
    # Windows passes over spaces and dots at the end of a name, so that `.. ` is `..` there.
    if any(part not in ("", ".", "..") and not part.strip(". ") for part in text.split("/")):
        raise PathEscapesInbox(f"{shown(text)} leads out of the inbox")
    if not text.strip() or os.path.normpath(text) in (".", "/"):
        raise PathEscapesInbox(f"{shown(text)} names no file")


def _climbs(text: str) -> bool:
    return ".." in text.split("/")


def _within(inbox: Inbox, home: Path, path: Path) -> Iterator[Place]:
    if path != home and path.is_relative_to(home):
        yield Place(path.relative_to(home).as_posix())
    for root in inbox.source_roots:
        if path != root and path.is_relative_to(root):
            yield Place(str(path), root)


def is_pattern(text: str) -> bool:
    """Whether it names files by a glob."""
    return any(sign in text for sign in "*?[")


def is_file(path: str | Path) -> bool:
    """Whether a file lies there; what no file system would take for a name is none."""
    return os.path.isfile(path)  # noqa: PTH113  Path.is_file raises for a name that is too long


def outside(place: Place) -> list[str]:
    """The files in a source root that a place (a path, or a glob) names, sorted.

    What a symbolic link leads to counts only if it lies in the root too.
    """
    assert place.root is not None
    if is_file(place.path):
        found = [Path(place.path)]
    elif is_pattern(place.path):
        pattern = os.path.relpath(place.path, place.root)
        found = [path for path in place.root.glob(pattern) if is_file(path)]
    else:
        return []
    real = place.root.resolve()
    return sorted(str(path) for path in found if path.resolve().is_relative_to(real))


def lacking_root(inbox: Inbox) -> Path | None:
    """A source root that is not there, or empty as where nothing is mounted."""
    for root in inbox.source_roots:
        try:
            if next(root.iterdir(), None) is None:
                return root
        except OSError:
            return root
    return None


def matches(path: str, pattern: str) -> bool:
    """Whether a path fits a glob: `*` within a name, `**/` any folders; case is the same."""
    return _compiled(pattern).fullmatch(_fold(path)) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    text, index, made = _fold(pattern), 0, ""
    while index < len(text):
        if text.startswith("**/", index):
            made, index = made + r"(?:[^/]+/)*", index + 3
        elif text[index] == "*":
            made, index = made + r"[^/]*", index + 1
        elif text[index] == "?":
            made, index = made + r"[^/]", index + 1
        elif (choice := re.compile(r"\[(!?)([^]/]+)\]").match(text, index)) is not None:
            inner = re.sub(r"([\\^\[])", r"\\\1", choice[2])
            made, index = made + f"[{'^/' if choice[1] else ''}{inner}]", choice.end()
        else:
            made, index = made + re.escape(text[index]), index + 1
    return re.compile(made)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
