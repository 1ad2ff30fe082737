"""The models, callbacks and facts that the worker's runner works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from dna_pipeline.base.files import sha256_file
from dna_pipeline.execution.protocol import Event
from dna_pipeline.execution.result_store import ResultStore
from dna_pipeline.execution.worker.lanes import Direct, SameWork, Turns
from dna_pipeline.media.marks.signing import Signer
from dna_pipeline.providers.base import ModelCache, Provider


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Models, callbacks and facts that a runner needs for any order."""

    models: ModelCache
    emit: Callable[[Event], None]
    is_cancelled: Callable[[str], bool]
    must_yield: Callable[[str], bool]
    """True if a job is to be given back before its next stage."""
    stage_timeout_s: float
    release_memory: Callable[[], None]
    """Gives cached memory of the device back that no model holds any more."""
    fingerprint: Callable[[Provider], tuple[str, str | None]]
    """Path and SHA-256 that the manifest records for a model."""
    environment: dict[str, Any]
    """Versions and device, recorded with each stage."""
    threads: dict[str, str] = field(default_factory=dict[str, str])
    """Limits of the threads on the CPU, `execution/worker/process.py: cpu_threads`."""
    licence: Callable[[Provider], str | None] = attrgetter("license")
    """Licence of a model's weights, as the manifest records it."""
    data: Path | None = None
    """Data folder, where stages find further files; None if there is none."""
    hash_file: Callable[[Path], str] = sha256_file
    """SHA-256 of such a file."""
    signer: Signer | None = None
    """Signs the files of stages; None if they are not signed."""
    store: ResultStore | None = None
    """Results that jobs share; None if none are kept."""
    code: str = ""
    """SHA-256 of the program, `execution/worker/program.py: program_sha256`."""
    device: Turns = field(default_factory=Direct)
    """Turns of the jobs with the device."""
    processor: Turns = field(default_factory=Direct)
    """Turns of the jobs with models that compute on the CPU whatever the device is."""
    same_work: SameWork = field(default_factory=SameWork)
