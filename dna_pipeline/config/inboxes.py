"""Conflicts between the folders of a configuration: data, outbox, inboxes, and models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from dna_pipeline.base.layout import WILDCARDS
from dna_pipeline.config.problems import Problem, dotted
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.yaml12 import Document, KeyPath

OWN_FOLDERS = frozenset({"work", "claims", "recovered", "logs", "submit", "thumbnails", "uploads"})
"""Folders that the program itself uses directly below the data folder."""

WEIGHT_FOLDERS = frozenset({"models", WILDCARDS, "embeddings"})
"""Folders directly below the data folder for files that people provide for the models."""

Real = Callable[[Path], Path]
"""Resolves the links in a folder's path, as far as they can be followed."""

_OWN_FILES = (
    "ledger.", "rebuilt.", "daemon.", "server.", "worker.lock", "weights.json", ".dna",
)  # fmt: skip


def is_own_name(name: str) -> bool:
    """True if the program uses that name directly below the data folder.

    Case does not count: on some file systems `Work` is `work`.
    """
    name = name.casefold()
    return name in OWN_FOLDERS or name in WEIGHT_FOLDERS or name.startswith(_OWN_FILES)


def as_written(folder: Path) -> Path:
    """Return the folder itself: a `Real` that looks at no disk."""
    return folder


def holds_file(inbox: Inbox, file: Path, real: Real) -> bool:
    """True if the file lies in a folder that the inbox scans."""
    home, folder = real(file.parent), real(inbox.path)
    return home == folder or (inbox.recursive and home.is_relative_to(folder))


def overlaps(
    document: Document,
    env: Mapping[str, str],
    data: Path,
    outbox: Path,
    inboxes: Mapping[int, Inbox],
    real: Real,
    models: Iterable[Path] = (),
) -> Iterator[Problem]:
    """Yield a problem for each pair of data, outbox and inboxes of which one contains the other.

    One case is allowed: an outbox below the data folder, if it overlaps no folder that the program
    or its models use. A data folder in the outbox would be removed with the results, and its
    recovered folders would look like results; an inbox gives all its files to the program.

    Args:
        inboxes: by their places in the list.
        real: resolves the links in a folder's path.
        models: the paths that models are loaded from.
    """
    places = [
        (*_origin(document, env, "DNA_DATA_DIR", ("paths", "data")), data),
        (*_origin(document, env, "DNA_OUTPUT_DIR", ("paths", "outbox")), outbox),
    ]
    for index, inbox in inboxes.items():
        path: KeyPath = ("inboxes", index, "path")
        places.append((dotted(path), document.line(path), inbox.path))
    real_places = [(name, line, real(folder)) for name, line, folder in places]
    linked = [(real_places[0][0], 0, folder) for folder in _linked(data, real)]
    for index, (name, line, folder) in enumerate(real_places):
        for other_name, _, other in [*real_places[:index], *(linked if index else ())]:
            if not _touch(folder, other):
                continue
            text: str | None = f"{name}: {folder} overlaps {other_name} ({other}); keep them apart"
            if index == 1 and other == real_places[0][2] and other in folder.parents:
                text = _below_data(name, folder, other, (real(model) for model in models))
            if text is not None:
                yield Problem(name, text, line, wrong_key=False)


def _below_data(name: str, outbox: Path, data: Path, models: Iterable[Path]) -> str | None:
    """Problem of an outbox below the data folder that overlaps a used folder; None if it does not.

    The result is a sentence that names the folder.
    """
    first = outbox.relative_to(data).parts[0]
    used = [data / first] if is_own_name(first) else []
    for path in [*used, *(model for model in models if _touch(outbox, model))]:
        return (
            f"{name}: {outbox} overlaps {path}, which the program uses itself; choose another "
            f"folder, such as {data / 'output'}"
        )
    return None


def _linked(data: Path, real: Real) -> list[Path]:
    """Targets of those of the program's own folders that are links out of the data folder."""
    inside = real(data)
    folders = [real(data / name) for name in sorted(OWN_FOLDERS)]
    return [folder for folder in folders if not folder.is_relative_to(inside)]


def _touch(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _origin(
    document: Document, env: Mapping[str, str], variable: str, path: KeyPath
) -> tuple[str, int]:
    """Name and line of the setting that names a folder; line 0 for the environment or a default."""
    if env.get(variable):
        return f"${variable}", 0
    return dotted(path), document.line(path) if document.has(path) else 0
