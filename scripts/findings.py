"""Records of the files that were dropped at a site, and the findings of an audit."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from masks import NAMED

WRONG = "no_such_stage: {steps: 3}\n"
FAR_FUTURE = "2099-01-01T00:00:00Z"

_MENDS = (
    ("true", "false"),  # the parameter `fails` of the stand-in's stage
    ("nothing", "matte"),  # the model that removes all of any image
    (FAR_FUTURE, FAR_FUTURE.replace("2099", "2020")),
    (WRONG, "priority: 4\n"),
)


def mend(text: str) -> str:
    """Remove from a YAML of the campaign the values that keep its job from being completed.

    A text without such a value is returned unchanged.
    """
    for wrong, right in _MENDS:
        text = text.replace(wrong, right)
    return text


def dropped_files(inbox: Path) -> list[Path]:
    """List the files in an inbox, except those in claims and the mask that tables name; folders
    may vanish meanwhile."""
    paths: list[Path] = []
    for folder, subfolders, names in os.walk(inbox):
        subfolders[:] = [name for name in subfolders if name != ".dna"]
        paths += [Path(folder, name) for name in names if Path(folder, name) != inbox / NAMED]
    return paths


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Dropped:
    """The last version of an image that was dropped or submitted, and the jobs expected of it."""

    inbox: str
    name: str
    """Path below the inbox: `a/cat.png`."""
    sha256: str
    sidecar: str | None = None
    """Text of the sidecar, if the sidecar was certainly there before the image."""
    older: tuple[str, ...] = ()
    """Hashes of earlier versions, which may have been replaced before they were claimed."""
    jobs: int = 1
    """Number of jobs: several for a matrix, or if several rows of a table name the image."""
    is_certain: bool = True
    """False if the command that submitted it was killed: then there may be no job."""
    mask: str | None = None
    """Hash of its mask, if the mask was certainly there before the image."""


@dataclass(frozen=True, slots=True)
class DroppedBatch:
    """A job file or a table."""

    inbox: str
    name: str
    """Path below the inbox."""
    files: tuple[tuple[str, str], ...]
    """Name and SHA-256 of the file, and of the YAML beside a table."""
    rows: int


@dataclass(slots=True)
class Findings:
    """Counts of an audit, and a sentence about each fault."""

    jobs: int = 0
    results: int = 0
    failures: int = 0
    cancelled: int = 0
    shared: int = 0
    """Number of cancelled rows in shared folders."""
    named_masks: int = 0
    """Number of jobs that name a mask by its path."""
    unfinished_claims: int = 0
    """Number of claims of killed commands, which the daemon gives up after an hour."""
    lost: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])
    corrupt: list[str] = field(default_factory=list[str])
    half_written: list[str] = field(default_factory=list[str])

    @property
    def is_well(self) -> bool:
        return not (self.lost or self.doubled or self.corrupt or self.half_written)

    def numbers(self) -> dict[str, int]:
        """Give all counts, and the lengths of the lists."""
        return {
            "jobs": self.jobs, "results": self.results, "failures": self.failures,
            "cancelled": self.cancelled, "shared": self.shared,
            "named_masks": self.named_masks,
            "unfinished_claims": self.unfinished_claims, "lost": len(self.lost),
            "doubled": len(self.doubled), "corrupt": len(self.corrupt),
            "half_written": len(self.half_written),
        }  # fmt: skip

    def sentences(self) -> list[str]:
        return [
            f"{kind}: {what}"
            for kind in ("lost", "doubled", "corrupt", "half_written")
            for what in getattr(self, kind)
        ]
