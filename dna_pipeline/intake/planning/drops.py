"""A drop on its way in: ready to be taken, and taken but not yet in the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import Failure, JobError
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.probe import Probed
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.known_files import Stats


@dataclass(frozen=True, slots=True)
class ReadyDrop:
    """A candidate that may be taken now.

    Attributes:
        stats: what was seen of its files.
        identity: the path in the inbox that it is known by.
        error: why its job fails, from pairing or from decoding.
        shares_sidecar: a further candidate needs the same YAML, so this one gets a copy.
    """

    candidate: Candidate
    stats: Stats
    key_path: str
    error: JobError | None = None
    probed: Probed | None = None
    shares_sidecar: bool = False


@dataclass(slots=True, eq=False)
class ClaimedDrop:
    """A drop whose files are ours, before the ledger knows its jobs.

    Attributes:
        row: of the ledger's `drops`.
        ready: what it was made from; None after a restart.
        stats: of the files in the claim that are as they were when they were looked at, by name.
    """

    row: dict[str, Any]
    ready: ReadyDrop | None = None
    error: Failure | None = None
    probed: Probed | None = None
    stats: Stats = field(default_factory=dict[str, FileStat])
    folder: Path = field(init=False)
    image: Path | None = field(init=False)
    sidecar: Path | None = field(init=False)

    def __post_init__(self) -> None:
        image, sidecar = self.row["image"], self.row["sidecar"]
        self.folder = Path(self.row["claim"])
        self.image = None if image is None else self.folder / image
        self.sidecar = None if sidecar is None else self.folder / sidecar

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.image, self.sidecar) if path is not None]

    @property
    def is_unchanged(self) -> bool:
        return all(path.name in self.stats for path in self.files)
