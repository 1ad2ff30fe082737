"""Names in `latest/`: which input has which, for good.

The folder keeps the newest files of each input, named by its stem, and `cat.png` and `cat.jpg`
have one stem. The first of them gets `cat`, the other `cat.jpg`. That is written down, so that no
restart and no later run gives an input another name.

Each function is one step of a transaction.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from dna_pipeline.ledger.store import get_setting, set_setting
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Job

Kind = Literal["latest", "latest-companion"]
"""Kinds of names: of meshes and pictures, or of the companions (MTL, texture) of an OBJ."""

RESULT: Kind = "latest"
COMPANION: Kind = "latest-companion"
FOREIGN = ""
"""Has the names of files that somebody else put there, in place of an input's path."""

TEXTURE = ".texture"
"""Ends the name of a texture: `cat.texture.png` may be that of `cat`, or a picture of the input
`cat.texture`."""


@dataclass(frozen=True, slots=True)
class Input:
    """An input whose files are to lie there.

    Attributes:
        source: its path, in the inbox or in a source root.
        seq: number of the job that made the files.
        suffixes: what follows their common name.
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
    wanted: Input,
    names: Iterable[str],
    is_there: Callable[[str], bool],
    foreign: Callable[[str], Collection[str]],
) -> str | None:
    """The name of an input's files in that folder; None if a newer job's files have it.

    An input keeps its name. A new one gets the first that nobody has, or whose owner's files are
    gone. Names that differ only in case or Unicode form count as one, since many file systems do
    not tell them apart. A name that no input has, but under which files lie that are somebody
    else's, is written down as theirs.

    Args:
        folder: below the outbox; each has its own names.
        names: to choose from, in this order, without end.
        is_there: True if there is a file of that path below the outbox.
        foreign: what follows a name that no input has in the names of somebody else's files.
    """
    free: str | None = None
    for name in names:
        owner = _find(session, kind, folder, name)
        if owner is not None and owner.source == wanted.source:
            if owner.seq > wanted.seq:
                return None
            _record(session, kind, folder, name, wanted, owner.files)
            return name
        if owner is not None:
            if free is None and not any(map(is_there, owner.files)):
                free = name
        elif _clashes(session, kind, folder, name, wanted.source):
            continue
        elif suffixes := foreign(name):
            _record(session, kind, folder, name, Input(FOREIGN, 0, tuple(suffixes)))
        else:
            free = free or name
            break
    assert free is not None, "names to choose from have no end"
    _record(session, kind, folder, free, wanted)
    return free


def note_first(
    session: Session,
    folder: str,
    job: Job,
    suffixes: Iterable[str],
    is_there: Callable[[str], bool],
) -> None:
    """Give a stem that no input has to the one whose result came first, if it has files there.

    A ledger that was rebuilt knows the results, but not who had which name.
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
    facts = json.loads(value)
    return Owner(facts["source"], facts["seq"], tuple(facts["files"]))


def _record(
    session: Session,
    kind: Kind,
    folder: str,
    name: str,
    owner: Input,
    files: Iterable[str] = (),
) -> None:
    """Write down whose name it is now; older `files` of that input have it too."""
    named = {*files, *(f"{folder}/{name}{suffix}" for suffix in owner.suffixes)}
    value = {"source": owner.source, "seq": owner.seq, "files": sorted(named)}
    set_setting(session, _key(kind, folder, name), json.dumps(value))


def _key(kind: Kind, folder: str, name: str) -> str:
    return f"{kind}:{unicodedata.normalize('NFC', f'{folder}/{name}'.casefold())}"


def published_before(session: Session, job: Job) -> list[tuple[Job, Drop, ArtifactRow]]:
    """The artifacts of other completed jobs whose inputs have that job's inbox, folder and name."""
    rows = (
        select(Job, Drop, ArtifactRow)
        .join(Drop, Drop.id == Job.drop_id)
        .join(ArtifactRow, ArtifactRow.job_id == Job.id)
        .where(Job.inbox == job.inbox, Job.folder == job.folder, Job.name == job.name)
        .where(Job.status == "completed", Job.publish == "done", Job.seq != job.seq)
    )
    return [(old, drop, file) for old, drop, file in session.execute(rows)]
