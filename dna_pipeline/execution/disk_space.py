"""Disk space that a job needs, and a check that the disks have it before the job starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dna_pipeline.stages import registry

FLOOR_BYTES = 64 << 20
"""Bytes that must stay free whatever the job needs: for the ledger, the logs and other people."""

SOURCE_COPIES = 8
"""Copies of the source to reserve: the original goes into the result, and stages write pictures
that may be larger than a strongly compressed source."""


def required_bytes(
    source_bytes: int, width: int, height: int, stages: Sequence[dict[str, Any]]
) -> int:
    """Bytes that must be free on each disk before the job starts: a generous guess."""
    return FLOOR_BYTES + SOURCE_COPIES * source_bytes + output_bytes(width, height, stages)


def output_bytes(width: int, height: int, stages: Iterable[Mapping[str, Any]]) -> int:
    """Bytes that the stages write at most, for a picture of that size."""
    return sum(stage.disk_bytes(width, height) for stage in registry.valid_stages(stages))


def shortage(folders: Sequence[Path], required: int) -> str | None:
    """A sentence that names the first folder whose disk has less than `required` bytes free; None
    if all have enough."""
    for folder in folders:
        try:
            free = shutil.disk_usage(folder).free
        except OSError:
            continue  # whatever writes to a missing folder reports that better
        if free < required:
            return (
                f"{folder} has {free >> 20} MiB free and {required >> 20} MiB may be needed; "
                "make room, the work goes on by itself"
            )
    return None
