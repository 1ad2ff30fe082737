"""Inbox folders that do not exist: the daemon makes some of them, and warns of the others.

A path may be missing because the installation is new, because it is mistyped, or because a disk is
not mounted. Only in the first case may a folder be made: otherwise people would drop files into a
folder that nobody looks into, or the daemon would watch a folder that nobody fills.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dna_pipeline.base.layout import entries
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.schema import Config, Inbox

LIKENESS = 0.75
"""Likeness of two names (0 to 1) from which one counts as mistyped: `restlye` for `restyle`."""


def make_inboxes(config: Config, watched: Collection[str], look: Look) -> None:
    """Make the inbox folders that a new installation lacks; log what is wrong with the others.

    Args:
        watched: names of the inboxes that the daemon has looked into before.
    """
    for inbox in config.inboxes:
        was_watched = inbox.name in watched
        is_missing = look(inbox.path).state == "missing"
        if is_missing and not should_make(config, inbox, was_watched=was_watched, look=look):
            why = missing_sentence(config, inbox, was_watched=was_watched, look=look)
            _logger().warning("inbox.missing", inbox=inbox.name, why=why)
        else:
            make_folder(inbox.path, look)


def make_folder(folder: Path, look: Look) -> None:
    """Make a folder if it does not exist, and log it; leave alone a folder that does not answer."""
    if (reach := look(folder)).is_silent:
        _logger().warning("folder.missing", path=str(folder), why=reach.why)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _logger().warning("folder.missing", path=str(folder), why=error.strerror)
        return
    if not reach.is_there:
        _logger().info("folder.made", path=str(folder), why="it did not exist")


def should_make(config: Config, inbox: Inbox, *, was_watched: bool, look: Look) -> bool:
    """True if the daemon may make an inbox's folder, which does not exist.

    It may do so only if the inbox was never watched, and if no folder there has a similar name.
    Outside the folder of pipeline.yaml, only the inbox itself may be missing, and the folder above
    it must hold something: an empty folder may be the mount point of a disk.
    """
    missing = _first_missing(inbox.path)
    if was_watched or not (
        inbox.path.is_relative_to(config.file.parent)
        or (missing == inbox.path and any(entries(missing.parent)))
    ):
        return False
    if os.path.lexists(missing) or not look(missing.parent).is_there:
        return False  # the path is a file, or a link to a disk that is away
    return similar_folder(config, inbox, look) is None


def similar_folder(config: Config, inbox: Inbox, look: Look = look_directly) -> Path | None:
    """Find the folder that a missing inbox's path probably means; None if there is none."""
    missing = _first_missing(inbox.path)
    if not look(missing.parent).is_there:
        return None
    rest = inbox.path.relative_to(missing)
    in_use = {config.data, config.outbox, *(other.path for other in config.inboxes)}
    folders = {
        path.name.casefold(): path / rest
        for path in _folders(missing.parent)
        if path / rest not in in_use and (path / rest).is_dir()
    }
    close = get_close_matches(missing.name.casefold(), folders, n=1, cutoff=LIKENESS)
    return folders[close[0]] if close else None


def missing_sentence(
    config: Config, inbox: Inbox, *, was_watched: bool = False, look: Look = look_directly
) -> str:
    """Say what is wrong with an inbox's folder that does not exist, and what to do."""
    where = f"{config.file.name}, line {inbox.line}" if inbox.line else config.file.name
    if os.path.lexists(inbox.path):
        return f"{inbox.path} is not a folder; name one in {where}"
    said = f"the folder {inbox.path} does not exist"
    if (other := similar_folder(config, inbox, look)) is not None:
        return f"{said}; did you mean {_path_text(config, other)!r}? Mend the path in {where}"
    if was_watched:
        return f"{said} any more; connect its disk or share, or mend the path in {where}"
    return f"{said}; make it, or mend the path in {where}"


def _first_missing(path: Path) -> Path:
    """Return the highest folder of a path that does not exist; the path itself if all exist."""
    missing = path
    while not missing.parent.exists() and missing.parent != missing:
        missing = missing.parent
    return missing


def _folders(parent: Path) -> Iterator[Path]:
    names = entries(parent)
    yield from (path for path in names if not path.name.startswith(".") and path.is_dir())


def _path_text(config: Config, path: Path) -> str:
    """Return the path as it would stand in pipeline.yaml."""
    home = config.file.parent
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)


def _logger() -> Any:
    # Imported here, since `status` needs the sentences of this module and does not log.
    import structlog

    return structlog.get_logger()
