"""Names in `latest/`, which inputs have for good.

The folder keeps the newest files of each input, named by its stem, and `cat.png` and `cat.jpg`
have one stem. The first of them gets `cat`, the other `cat.jpg`. Settings record this, so that no
restart and no later run gives an input another name.

Each function is one step of a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from dna_pipeline.base.naming import folded
from dna_pipeline.ledger.store import get_setting, set_setting
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Job

Kind = Literal["latest", "latest-companion"]
"""Kinds of names: for meshes and pictures, or for the companions (MTL, texture) of an OBJ."""

RESULT: Kind = "latest"
COMPANION: Kind = "latest-companion"
FOREIGN = ""
"""Stands for an input's path if somebody else put the files of a name there."""

TEXTURE = ".texture"
"""End of a texture's name: `cat.texture.png` may be the texture of `cat`, or a picture of the input
`cat.texture`."""


@dataclass(frozen=True, slots=True)
class Input:
    """Input whose files are to lie in `latest/`.

    Attributes:
        source: its path in the inbox or in a source root.
        seq: number of the job that made the files.
        suffixes: ends of the files' names, after their common name.
    """

    source: str
    seq: int
    suffixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Owner:
    """Owner of a name: its input, the number of the newest job, and the paths of its files."""

    source: str
    seq: int
    files: tuple[str, ...]


def claim_name(
    session: Session,
    folder: str,
    kind: Kind,
    image: Input,
    names: Iterable[str],
    is_there: Callable[[str], bool],
    foreign: Callable[[str], Collection[str]],
) -> str | None:
    """Choose the name of an input's files in a folder; None if a newer job's files have it.

    An input keeps its name. A new input gets the first name that nobody has, or whose owner's files
    are gone. Names that differ only in case or Unicode form count as one, since many file systems
    do not tell them apart. If no input has a name, but somebody else's files lie under it, the name
    is recorded as theirs; so is that of an input which would replace such a file, as when a person
    put a mesh beside its picture and now it gets a mesh of its own.

    Args:
        folder: folder below the outbox; each has its own names.
        names: names to choose from, in this order, without end.
        is_there: True if there is a file of that path below the outbox.
        foreign: returns the suffixes of files under a name that no job of this input explains.
    """
    free: str | None = None
    for name in names:
        owner = _find(session, kind, folder, name)
        if owner is not None and owner.source == image.source:
            if owner.seq > image.seq:
                return None
            added = {end for end in image.suffixes if f"{folder}/{name}{end}" not in owner.files}
            suffixes = foreign(name) if added else ()
            if added.isdisjoint(suffixes):
                _record(session, kind, folder, name, image, owner.files)
                return name
            theirs = Input(FOREIGN, 0, tuple(suffixes))
            _record(session, kind, folder, name, theirs, owner.files)
        elif owner is not None:
            targets = (f"{folder}/{name}{suffix}" for suffix in image.suffixes)
            if free is None and not any(map(is_there, (*owner.files, *targets))):
                free = name
        elif _clashes(session, kind, folder, name, image.source):
            continue
        elif suffixes := foreign(name):
            _record(session, kind, folder, name, Input(FOREIGN, 0, tuple(suffixes)))
        else:
            free = free or name
            break
    assert free is not None, "names to choose from have no end"
    _record(session, kind, folder, free, image)
    return free


def note_first(
    session: Session,
    folder: str,
    job: Job,
    suffixes: Iterable[str],
    is_there: Callable[[str], bool],
) -> None:
    """Record a stem that no input has for the input whose result came first, if files have it.

    A rebuilt ledger knows the results, but not which input had which name.
    """
    suffixes = tuple(suffixes)
    if _find(session, RESULT, folder, job.stem) is not None or not any(
        is_there(f"{folder}/{job.stem}{suffix}") for suffix in suffixes
    ):
        return
    rows = (
        select(Job.name, Job.seq)
        .where(Job.inbox == job.inbox, Job.folder == job.folder, Job.stem == job.stem)
        .where(Job.status == "completed", Job.publish == "done")
        .order_by(Job.finished_at, Job.seq)
    )
    first = session.execute(rows.limit(1)).first()
    if first is None or first.name == job.name:
        return
    source = f"{job.folder}/{first.name}".lstrip("/")
    if not _clashes(session, RESULT, folder, job.stem, source):
        _record(session, RESULT, folder, job.stem, Input(source, first.seq, suffixes))


def _clashes(session: Session, kind: Kind, folder: str, name: str, source: str) -> bool:
    """True if the name would make a file that another input's name of the other kind makes."""
    other = None
    if kind == COMPANION:
        other = _find(session, RESULT, folder, f"{name}{TEXTURE}")
    elif name.casefold().endswith(TEXTURE):
        other = _find(session, COMPANION, folder, name[: -len(TEXTURE)])
    return other is not None and other.source != source


def _find(session: Session, kind: Kind, folder: str, name: str) -> Owner | None:
    value = get_setting(session, _key(kind, folder, name))
    if value is None:
        return None
    entry = json.loads(value)
    return Owner(entry["source"], entry["seq"], tuple(entry["files"]))


def _record(
    session: Session,
    kind: Kind,
    folder: str,
    name: str,
    owner: Input,
    files: Iterable[str] = (),
) -> None:
    """Record the owner of a name; older `files` of that input have the name too."""
    paths = {*files, *(f"{folder}/{name}{suffix}" for suffix in owner.suffixes)}
    value = {"source": owner.source, "seq": owner.seq, "files": sorted(paths)}
    set_setting(session, _key(kind, folder, name), json.dumps(value))


def _key(kind: Kind, folder: str, name: str) -> str:
    return f"{kind}:{folded(f'{folder}/{name}')}"


def published_before(session: Session, job: Job) -> list[tuple[Job, Drop, ArtifactRow]]:
    """Find the artifacts of other completed jobs with that job's inbox, folder and name."""
    rows = (
        select(Job, Drop, ArtifactRow)
        .join(Drop, Drop.id == Job.drop_id)
        .join(ArtifactRow, ArtifactRow.job_id == Job.id)
        .where(Job.inbox == job.inbox, Job.folder == job.folder, Job.name == job.name)
        .where(Job.status == "completed", Job.publish == "done", Job.seq != job.seq)
    )
    return [(old, drop, file) for old, drop, file in session.execute(rows)]
