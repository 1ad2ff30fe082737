"""Paths of images that job files and tables name: in the inbox, or in one of its source roots."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dna_pipeline.base.errors import PathEscapesInbox
from dna_pipeline.base.naming import folded
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.sentences import shown

MAX_PATH_CHARS = 4096
_RELATIVE = "write the path from the file that names it, or from a source root"


@dataclass(frozen=True, slots=True)
class Place:
    """A possible place of an image.

    Attributes:
        path: relative to the inbox, with forward slashes; or absolute, in the source root.
        root: the source root that contains it; None for the inbox itself.
    """

    path: str
    root: Path | None = None


def places(inbox: Inbox, folder: str, text: str) -> list[Place]:
    """Possible places of the image that a file in `folder` of the inbox names by `text`.

    The first place that exists counts. A path is relative to the file that names it or to a source
    root, or it is absolute and lies in the inbox or in a source root.

    Raises:
        PathEscapesInbox: all places lie outside the inbox and its source roots.
    """
    text = slashed(text)
    _refuse(text)
    home = Path(os.path.normpath(inbox.path))
    if text.startswith("/"):
        absolute = Path(os.path.normpath(text))
        options = list(_within(inbox, home, absolute))
    else:
        options = list(_within(inbox, home, Path(os.path.normpath(home / folder / text))))
        if ".." not in text.split("/"):
            options += [Place(os.path.normpath(root / text), root) for root in inbox.source_roots]
    if not options:
        roots = ", ".join(map(str, inbox.source_roots)) or "none is set"
        raise PathEscapesInbox(
            f"{shown(text)} leads out of the inbox, and into none of its source_roots ({roots})"
        )
    return options


def slashed(text: str) -> str:
    """A path with the separators of Windows as `/`: `chairs\\a.png` is `chairs/a.png`."""
    return text.replace("\\", "/")


def _refuse(text: str) -> None:
    """Refuse text that can never be a path to an image here; `text` has forward slashes."""
    if re.match(r"[A-Za-z]:(/|$)", text):
        raise PathEscapesInbox(
            f"{shown(text)} begins with a drive of Windows; {_RELATIVE}, like {shown(_tail(text))}"
        )
    if text.startswith("//"):
        raise PathEscapesInbox(f"{shown(text)} is a folder on the network; {_RELATIVE}")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise PathEscapesInbox(
            f"{shown(text)} is a web address; save the image in the inbox and name it there"
        )
    if re.match(r"[A-Za-z]:", text):
        raise PathEscapesInbox(f"{shown(text)} names a drive")
    if "\0" in text or text.startswith("~"):
        raise PathEscapesInbox(f"{shown(text)} leads out of the inbox; {_RELATIVE}")
    # Windows ignores spaces and dots at the end of a name, so `.. ` means `..` there.
    if any(part not in ("", ".", "..") and not part.strip(". ") for part in text.split("/")):
        raise PathEscapesInbox(f"{shown(text)} leads out of the inbox")
    if not text.strip() or os.path.normpath(text) in (".", "/") or len(text) > MAX_PATH_CHARS:
        raise PathEscapesInbox(f"{shown(text)} names no file")


def _tail(text: str) -> str:
    """The last folder and the name of a path."""
    return "/".join([part for part in text.split("/") if part][-2:])


def _within(inbox: Inbox, home: Path, path: Path) -> Iterator[Place]:
    if path != home and path.is_relative_to(home):
        yield Place(path.relative_to(home).as_posix())
    for root in inbox.source_roots:
        if path != root and path.is_relative_to(root):
            yield Place(str(path), root)


def is_pattern(text: str) -> bool:
    """True if the text is a glob."""
    return any(sign in text for sign in "*?[")


def matches(path: str, pattern: str) -> bool:
    """True if a path fits a glob: `*` within a name, `**/` any folders; case does not count."""
    return _compiled(pattern).fullmatch(folded(path)) is not None


def may_lead(folder: str, pattern: str, *, at_any_depth: bool = True) -> bool:
    """True if a path below a folder may fit a glob, provided that this is true of its parent.

    Args:
        at_any_depth: the result if a `**/` of the glob stands for the folder or a parent of it.
    """
    segments = pattern.split("/")
    depth = folder.count("/") + 1
    if "**" in segments[: min(depth, len(segments) - 1)]:
        return at_any_depth
    return depth < len(segments) and matches(folder, "/".join(segments[:depth]))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression whose time grows only with the lengths of path and pattern.

    Between two `*` of a name, or two `**/`, the first match is as good as any other, so atomic
    groups `(?>…)` prevent backtracking. Otherwise each `*` would multiply the number of attempts.
    """
    runs: list[list[str]] = [[]]
    *folders, last = folded(pattern).split("/")
    for segment in folders:
        if segment == "**":
            runs.append([])
        else:
            runs[-1].append(f"{_segment(segment)}/")
    first, *others = ["".join(run) for run in runs]
    if others:
        any_folders = r"(?:[^/]+/)*"
        first += "".join(f"(?>{any_folders}?{run})" for run in others[:-1])
        first += any_folders + others[-1]
    return re.compile(first + _segment(last))


def _segment(text: str) -> str:
    """Regular expression for a glob without folders."""
    parts = [""]
    for token in re.findall(r"\*+|\[!?[^]]+\]|.", text, re.DOTALL):
        if token[0] == "*":
            parts.append("")
        elif token == "?":
            parts[-1] += "[^/]"
        else:
            parts[-1] += re.escape(token) if len(token) == 1 else _choice(token)
    first, *others = parts
    if others:
        first += "".join(f"(?>[^/]*?{part})" for part in others[:-1])
        first += f"[^/]*{others[-1]}"
    return first


def _choice(token: str) -> str:
    """Regular expression for one character of `[…]`; an invalid one, like `[z-a]`, is text."""
    inner = token[1:-1]
    is_negated = inner[0] == "!" and len(inner) > 1
    characters = re.sub(r"[^\w-]|-(?=-)", r"\\\g<0>", inner[is_negated:])
    pattern = f"(?!/)[{'^' if is_negated else ''}{characters}]"
    try:
        re.compile(pattern)
    except re.error:
        return re.escape(token)
    return pattern
