"""Types of a drop before its jobs are in the ledger: ready to be claimed, and claimed."""

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
    """A candidate that may be claimed now.

    Attributes:
        stats: stats of its files at the last scan.
        key_path: the path in the inbox under which known files record it.
        error: error of its job, from pairing or from decoding.
        probed: the size of its image, if that decodes.
        shares_sidecar: True if a further candidate needs the same YAML, so that this one gets a
            copy.
    """

    candidate: Candidate
    stats: Stats
    key_path: str
    error: JobError | None = None
    probed: Probed | None = None
    shares_sidecar: bool = False


@dataclass(slots=True, eq=False)
class ClaimedDrop:
    """A drop whose files are ours, before the ledger has its jobs.

    Attributes:
        row: its row of the ledger's table `drops`.
        ready: the ready drop that it was made from; None after a restart.
        stats: by name, stats of the files in the claim that are the same as at the scan.
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
