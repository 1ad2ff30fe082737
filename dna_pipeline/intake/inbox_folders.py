"""Inbox folders that do not exist: which of them the daemon makes, and what to say of the others.

A path may be missing because the installation is new, because it is mistyped, or because a disk is
not mounted. Only in the first case may a folder be made: in the others people would drop files
into a folder that nobody looks into, or the daemon would watch a folder that nobody fills.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path

import structlog

from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config, Inbox

log = structlog.get_logger()

LIKENESS = 0.75
"""How alike two names are, from 0 to 1, for one to be a mistyped other: `restlye`, `restyle`."""


def make_inboxes(config: Config, watched: Collection[str], look: Look) -> None:
    """Make the folders of inboxes that a new installation lacks; say what is wrong with others.

    Args:
        watched: names of the inboxes that were looked into before.
    """
    for inbox in config.inboxes:
        was_watched = inbox.name in watched
        is_missing = look(inbox.path).state == "missing"
        if is_missing and not should_make(config, inbox, was_watched=was_watched, look=look):
            why = missing_sentence(config, inbox, was_watched=was_watched, look=look)
            log.warning("inbox.missing", inbox=inbox.name, why=why)
        else:
            make_folder(inbox.path, look)


def make_folder(folder: Path, look: Look) -> None:
    """Make a folder if it does not exist, and say so; one that does not answer is left alone."""
    if (reach := look(folder)).is_silent:
        log.warning("folder.missing", path=str(folder), why=reach.why)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("folder.missing", path=str(folder), why=error.strerror)
        return
    if not reach.is_there:
        log.info("folder.made", path=str(folder), why="it did not exist")


def should_make(config: Config, inbox: Inbox, *, was_watched: bool, look: Look) -> bool:
    """Whether the daemon may make that inbox's folder, which does not exist.

    Only before it was ever watched, and only if its name is not close to that of a folder that is
    there. Outside the folder of pipeline.yaml, only if nothing but the inbox itself is missing, in
    a folder with something in it: an empty one may be where a disk is to be mounted.
    """
    missing = _first_missing(inbox.path)
    if was_watched or not (
        inbox.path.is_relative_to(config.file.parent)
        or (missing == inbox.path and any(_entries(missing.parent)))
    ):
        return False
    if os.path.lexists(missing) or not look(missing.parent).is_there:
        return False  # a link to a disk that is away, or a file
    return similar_folder(config, inbox, look) is None


def similar_folder(config: Config, inbox: Inbox, look: Look = look_directly) -> Path | None:
    """The folder that a missing inbox's path was probably meant to name; None if there is none."""
    missing = _first_missing(inbox.path)
    if not look(missing.parent).is_there:
        return None
    rest = inbox.path.relative_to(missing)
    taken = {config.data, config.outbox, *(other.path for other in config.inboxes)}
    folders = {
        path.name.casefold(): path / rest
        for path in _folders(missing.parent)
        if path / rest not in taken and (path / rest).is_dir()
    }
    close = get_close_matches(missing.name.casefold(), folders, n=1, cutoff=LIKENESS)
    return folders[close[0]] if close else None


def missing_sentence(
    config: Config, inbox: Inbox, *, was_watched: bool = False, look: Look = look_directly
) -> str:
    """What is wrong with an inbox's folder that is not there, and what to do."""
    where = f"{config.file.name}, line {inbox.line}" if inbox.line else config.file.name
    if os.path.lexists(inbox.path):
        return f"{inbox.path} is not a folder; name one in {where}"
    said = f"the folder {inbox.path} does not exist"
    if (other := similar_folder(config, inbox, look)) is not None:
        return f"{said}; did you mean {_named(config, other)!r}? Mend the path in {where}"
    if was_watched:
        return f"{said} any more; connect its disk or share, or mend the path in {where}"
    return f"{said}; make it, or mend the path in {where}"


def _first_missing(path: Path) -> Path:
    """The highest folder of that path that does not exist; the path itself if all do."""
    missing = path
    while not missing.parent.exists() and missing.parent != missing:
        missing = missing.parent
    return missing


def _folders(parent: Path) -> Iterator[Path]:
    names = _entries(parent)
    yield from (path for path in names if not path.name.startswith(".") and path.is_dir())


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _named(config: Config, path: Path) -> str:
    """The path as it would stand in pipeline.yaml."""
    home = config.file.parent
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)
