"""Candidates that may be claimed now, and the paths under which known files record them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dna_pipeline.base.errors import JobError
from dna_pipeline.intake.discovery.candidates import (
    Candidate,
    ReadReference,
    References,
)
from dna_pipeline.intake.discovery.probe import Probed
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.known_files import KnownFiles, Stats


@dataclass(frozen=True, slots=True)
class ReadyDrop:
    """A candidate that may be claimed now.

    Attributes:
        stats: stats of its files at the last scan.
        key_path: the path in the inbox under which known files record it.
        error: error of its job, from pairing or from decoding.
        probed: the size of its image, if that decodes.
        shares_sidecar: True if a further candidate needs the same YAML, so that this one gets a
            copy.
        companion_stats: status of the companions that lie outside of the inbox, by absolute path.
    """

    candidate: Candidate
    stats: Stats
    key_path: str
    error: JobError | None = None
    probed: Probed | None = None
    shares_sidecar: bool = False
    companion_stats: Mapping[str, FileStat] = field(default_factory=dict[str, FileStat])


def key_path(candidate: Candidate, read: ReadReference) -> str:
    """The path under which known files record a drop.

    For a job file and a table it is their own path, since two job files of one image are two drops.
    """
    sidecar = candidate.sidecar
    if candidate.table is not None:
        return candidate.table
    if sidecar is not None and isinstance(read(sidecar), str | References):
        return sidecar
    return candidate.image or sidecar or ""


def is_processed(
    known_files: KnownFiles, candidate: Candidate, path: str, files: Mapping[str, FileStat]
) -> bool:
    """True if the candidate was processed before in its present state; `path` is its `key_path`."""
    if path not in known_files:
        return False
    error = candidate.error.code if candidate.error else None
    return known_files.is_unchanged(path, stats_of(candidate, files), error)


def stats_of(candidate: Candidate, files: Mapping[str, FileStat]) -> Stats:
    return {path: files[path] for path in candidate.paths if path in files}
