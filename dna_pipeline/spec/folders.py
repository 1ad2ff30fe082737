"""Folders of a configuration that would come into each other's way."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dna_pipeline.reachability import Look
from dna_pipeline.spec.config import Inbox
from dna_pipeline.spec.problems import Problem, dotted
from dna_pipeline.spec.yaml12 import Document, KeyPath


def holds_file(inbox: Inbox, file: Path, look: Look) -> bool:
    """Whether that file lies where the inbox looks."""
    home, folder = file.parent.resolve(), _real(inbox.path, look)
    return home == folder or (inbox.recursive and home.is_relative_to(folder))


def overlaps(
    document: Document,
    env: Mapping[str, str],
    data: Path,
    outbox: Path,
    inboxes: Mapping[int, Inbox],
    look: Look,
) -> Iterator[Problem]:
    """Those of data, outbox and inboxes (by their places in the list) that lie in one another.

    Args:
        look: says whether a folder can be reached.
    """
    places = [
        (*_origin(document, env, "DNA_DATA_DIR", ("paths", "data")), data),
        (*_origin(document, env, "DNA_OUTPUT_DIR", ("paths", "outbox")), outbox),
    ]
    for index, inbox in inboxes.items():
        path: KeyPath = ("inboxes", index, "path")
        places.append((dotted(path), document.line(path), inbox.path))
    real = [(name, line, _real(folder, look)) for name, line, folder in places]
    for index, (name, line, folder) in enumerate(real):
        for other_name, _, other in real[:index]:
            if folder.is_relative_to(other) or other.is_relative_to(folder):
                text = f"{name}: {folder} overlaps {other_name} ({other}); keep them apart"
                yield Problem(name, text, line, wrong_key=False)


def _real(folder: Path, look: Look) -> Path:
    """The folder without links; as it is written where it does not answer."""
    return folder if look(folder).is_silent else Path(os.path.realpath(folder))


def _origin(
    document: Document, env: Mapping[str, str], variable: str, path: KeyPath
) -> tuple[str, int]:
    """What names a folder: the environment or a line of the file."""
    if env.get(variable):
        return f"${variable}", 0
    return dotted(path), document.line(path) if document.has(path) else 0
