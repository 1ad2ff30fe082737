"""`latest/`: the newest files of each input, under names that do not change."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from dna_pipeline.base.layout import LATEST, mirrored
from dna_pipeline.base.naming import name_of, numbered, printable, safe_name
from dna_pipeline.ledger import latest
from dna_pipeline.ledger.latest import COMPANION, RESULT, Input
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.ledger.tables import ArtifactRow, Drop, Job
from dna_pipeline.media.meshes.obj_names import SUFFIXES, word
from dna_pipeline.publish.outbox import Outbox

_RESULT_SUFFIXES = (".glb", ".obj", ".ply", ".stl", ".png", ".jpg", ".webp", ".mtl")
_OWN_SUFFIXES = _RESULT_SUFFIXES[:-1]
"""Endings without that of materials, which count as companions."""


@dataclass(frozen=True, slots=True)
class LatestSelection:
    """Files of a job that belong in `latest/`.

    Attributes:
        results: its newest mesh in each format and its picture, by the ending of their new names.
        companions: files that an OBJ or a PLY names, likewise.
    """

    results: dict[str, str]
    companions: dict[str, str]


class LatestFiles:
    """Keeps `latest/` of all inboxes."""

    def __init__(self, ledger: Ledger, outbox: Outbox) -> None:
        self._ledger = ledger
        self._outbox = outbox

    def update(self, job: Job, drop: Drop, result: str, files: Sequence[ArtifactRow]) -> None:
        """Put copies of a published job's files into `latest/`, unless a newer job's are there.

        Args:
            result: name of the job's result folder.
            files: the job's files, in the order in which they were made.
        """
        selection = choose(job.stem, files)
        folder = folder_of(job)
        if not selection.results:
            return
        names = self._ledger.transact(lambda s: self._claim_names(s, job, drop, folder, selection))
        if names is None:
            return
        name, beside = names
        renamed = {file: f"{beside}{end}" for end, file in selection.companions.items()}
        # Companions are copied before the OBJ that names them.
        targets = renamed | {file: f"{name}{end}" for end, file in selection.results.items()}
        place = self._outbox.root / job.inbox / LATEST / folder
        for file, target in targets.items():
            source = self._outbox.folder(result) / file
            self._outbox.put(source, place / target, _references(file, renamed))

    def _claim_names(
        self, session: Any, job: Job, drop: Drop, folder: str, selection: LatestSelection
    ) -> tuple[str, str] | None:
        """Claim names of results and companions in the ledger; None if newer files are there."""
        place = "/".join(filter(None, (job.inbox, LATEST, folder)))
        source = source_of(job, drop)

        def is_there(file: str) -> bool:
            return os.path.lexists(self._outbox.folder(file))

        def foreign(targets: Mapping[str, str], others: Iterable[str], name: str) -> set[str]:
            there = {end for end in {*targets, *others} if is_there(f"{place}/{name}{end}")}
            own = there & _endings_of_earlier_jobs(session, job, source) if there else set[str]()
            # If one file is this input's, so is the name. Then only foreign files that would be
            # replaced count.
            return (there - own) & targets.keys() if own else there

        latest.note_first(session, place, job, _RESULT_SUFFIXES, is_there)
        request = Input(source, job.seq, tuple(selection.results))
        others = partial(foreign, selection.results, _OWN_SUFFIXES)
        name = latest.claim_name(session, place, RESULT, request, _names(job), is_there, others)
        if name is None or not selection.companions:
            return None if name is None else (name, "")
        request = Input(source, job.seq, tuple(selection.companions))
        choices = numbered(word(name))
        others = partial(foreign, selection.companions, ())
        beside = latest.claim_name(session, place, COMPANION, request, choices, is_there, others)
        return None if beside is None else (name, beside)


def choose(stem: str, files: Sequence[ArtifactRow]) -> LatestSelection:
    """Choose the files of a job that belong in `latest/`; of several of one kind, the newest."""
    meshes: dict[str, str] = {}
    pictures: dict[str, str] = {}
    companions: dict[str, str] = {}
    for file in files:
        if file.role == "mesh":
            meshes[PurePosixPath(file.path).suffix] = file.path
        elif file.role in ("material", "texture"):
            companions[_end(file.path, stem)] = file.path
        elif file.role == "image" or (file.role == "matte" and not pictures):
            pictures = {PurePosixPath(file.path).suffix: file.path}
    return LatestSelection(meshes | pictures, companions)


def folder_of(job: Job) -> str:
    """Name the job's folder in `latest/`. A part that ends like a file gets a `_`, since the
    picture of `a.png` must not block the folder for `a.png/b.png`."""
    parts = mirrored(job.folder).split("/") if job.folder else []
    return "/".join(f"{p}_" if p.casefold().endswith(_RESULT_SUFFIXES) else p for p in parts)


def source_of(job: Job, drop: Drop) -> str:
    """Give the path of a job's input. It tells inputs of one name apart, such as two images of one
    table in different folders of a source root."""
    for path in drop.stat:
        if name_of(path) == drop.image:
            return printable(path)
    return f"{job.folder}/{job.name}".lstrip("/")


def _endings_of_earlier_jobs(session: Any, job: Job, source: str) -> set[str]:
    """Give the endings of files that earlier jobs of this input may have put into `latest/` without
    a recorded name: jobs of version 0.1, and jobs of a ledger that was rebuilt since."""
    plain = f"{job.folder}/{job.name}".lstrip("/")
    endings: set[str] = set()
    for old, drop, file in latest.published_before(session, job):
        if source_of(old, drop) in (source, plain):
            selection = choose(old.stem, [file])
            endings.update(selection.results, selection.companions)
    return endings


def _references(file: str, renamed: Mapping[str, str]) -> dict[str, str]:
    """Map old names of companions to new ones, for a file that names companions."""
    if PurePosixPath(file).suffix not in SUFFIXES:
        return {}
    return {old: new for old, new in renamed.items() if old != new}


def _names(job: Job) -> Iterator[str]:
    """Give the stem, then the whole name, then the whole name with a number."""
    yield job.stem
    ending = PurePosixPath(job.name).suffix.lstrip(".")
    yield from numbered(f"{job.stem}.{safe_name(ending)}")


def _end(path: str, stem: str) -> str:
    """Give the part of a companion's name behind the stem."""
    for start in (word(stem), stem):
        if path.startswith(f"{start}."):
            return path[len(start) :]
    return f".{path}"
