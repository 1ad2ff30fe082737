"""`latest/`: the newest files of each input, under names that stay."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import PurePosixPath
from typing import Any

from dna_pipeline.base.naming import name_of, safe_name
from dna_pipeline.ledger import latest
from dna_pipeline.ledger.latest import COMPANION, RESULT, Input
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Job
from dna_pipeline.media.meshes.obj_names import SUFFIXES, word
from dna_pipeline.publish.outbox import LATEST, Outbox, mirrored

_RESULT_SUFFIXES = (".glb", ".obj", ".ply", ".stl", ".png", ".mtl")
_OWN_SUFFIXES = _RESULT_SUFFIXES[:-1]
"""Without that of materials, which have names of their own."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A job's files that belong there.

    Attributes:
        results: its newest mesh in each format and its picture, by what follows their name there.
        companions: what an OBJ or a PLY names, in the same way.
    """

    results: dict[str, str]
    companions: dict[str, str]


class LatestFiles:
    """Keeps `latest/` of all inboxes."""

    def __init__(self, ledger: Ledger, outbox: Outbox) -> None:
        self._ledger = ledger
        self._outbox = outbox

    def update(self, job: Job, drop: Drop, result: str, files: Sequence[ArtifactRow]) -> None:
        """Put copies of a published job's files there, unless those of a newer job lie there.

        Args:
            result: its result folder.
            files: in the order in which they were made.
        """
        chosen = choose(job.stem, files)
        folder = folder_of(job)
        if not chosen.results:
            return
        names = self._ledger.transact(lambda s: self._take(s, job, drop, folder, chosen))
        if names is None:
            return
        name, beside = names
        renamed = {file: f"{beside}{end}" for end, file in chosen.companions.items()}
        # What an OBJ names comes before it.
        targets = renamed | {file: f"{name}{end}" for end, file in chosen.results.items()}
        for file, target in targets.items():
            source = self._outbox.folder(result) / file
            self._outbox.replace_latest(
                source, job.inbox, folder, target, _references(file, renamed)
            )

    def _take(
        self, session: Any, job: Job, drop: Drop, folder: str, chosen: Chosen
    ) -> tuple[str, str] | None:
        """The names of the results and of their companions; None where newer ones lie there."""
        place = "/".join(filter(None, (job.inbox, LATEST, folder)))
        source = source_of(job, drop)

        def is_there(file: str) -> bool:
            return os.path.lexists(self._outbox.folder(file))

        def foreign(wanted: Mapping[str, str], others: Iterable[str], name: str) -> set[str]:
            there = {end for end in {*wanted, *others} if is_there(f"{place}/{name}{end}")}
            own = there & _made_before(session, job, source) if there else set[str]()
            # One file of its own makes a name this input's, unless it is to replace another's.
            return (there - own) & wanted.keys() if own else there

        latest.note_first(session, place, job, _RESULT_SUFFIXES, is_there)
        wanted = Input(source, job.seq, tuple(chosen.results))
        others = partial(foreign, chosen.results, _OWN_SUFFIXES)
        name = latest.claim_name(session, place, RESULT, wanted, _names(job), is_there, others)
        if name is None or not chosen.companions:
            return None if name is None else (name, "")
        wanted = Input(source, job.seq, tuple(chosen.companions))
        names = _numbered(word(name))
        others = partial(foreign, chosen.companions, ())
        beside = latest.claim_name(session, place, COMPANION, wanted, names, is_there, others)
        return None if beside is None else (name, beside)


def choose(stem: str, files: Sequence[ArtifactRow]) -> Chosen:
    """The files of a job that belong in `latest/`; of several of one kind, the newest."""
    meshes: dict[str, str] = {}
    pictures: dict[str, str] = {}
    companions: dict[str, str] = {}
    for file in files:
        if file.role == "mesh":
            meshes[PurePosixPath(file.path).suffix] = file.path
        elif file.role in ("material", "texture"):
            companions[_end(file.path, stem)] = file.path
        elif file.role == "image" or (file.role == "matte" and not pictures):
            pictures[".png"] = file.path
    return Chosen(meshes | pictures, companions)


def folder_of(job: Job) -> str:
    """The job's folder in `latest/`. One that is called like a file gets a `_`: the picture of
    `a.png` must not be in the way of what is made of `a.png/b.png`."""
    parts = mirrored(job.folder).split("/") if job.folder else []
    return "/".join(f"{p}_" if p.casefold().endswith(_RESULT_SUFFIXES) else p for p in parts)


def source_of(job: Job, drop: Drop) -> str:
    """The path of a job's input, by which it is told from others of its name: two of one table may
    lie in different folders of a source root."""
    for path in drop.stat:
        if name_of(path) == drop.image:
            return os.fsencode(path).decode("utf-8", "backslashreplace")
    return f"{job.folder}/{job.name}".lstrip("/")


def _made_before(session: Any, job: Job, source: str) -> set[str]:
    """The endings of the files that earlier jobs of this input may have put there though no name
    is written down: jobs of version 0.1, and those that a rebuilt ledger knows."""
    plain = f"{job.folder}/{job.name}".lstrip("/")
    found: set[str] = set()
    for old, drop, file in latest.published_before(session, job):
        if source_of(old, drop) in (source, plain):
            made = choose(old.stem, [file])
            found.update(made.results, made.companions)
    return found


def _references(file: str, renamed: Mapping[str, str]) -> dict[str, str]:
    """New names, by the old ones, of the companions that this file names."""
    if PurePosixPath(file).suffix not in SUFFIXES:
        return {}
    return {old: new for old, new in renamed.items() if old != new}


def _names(job: Job) -> Iterator[str]:
    """The stem, then the whole name, then that with a number."""
    yield job.stem
    ending = PurePosixPath(job.name).suffix.lstrip(".")
    yield from _numbered(f"{job.stem}.{safe_name(ending)}")


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        yield f"{name}-{number}"


def _end(path: str, stem: str) -> str:
    """The part of a companion's name behind the stem."""
    for start in (word(stem), stem):
        if path.startswith(f"{start}."):
            return path[len(start) :]
    return f".{path}"
