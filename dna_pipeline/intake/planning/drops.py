"""The type of a drop that is ready to be claimed."""

from __future__ import annotations

from dataclasses import dataclass

from dna_pipeline.base.errors import JobError
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.probe import Probed
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
