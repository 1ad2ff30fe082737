"""Whether the disks have room for a job, asked before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dna_pipeline.stages import registry

FLOOR_BYTES = 64 << 20
"""What must stay free whatever the job: for the ledger, the logs and other people."""

SOURCE_COPIES = 8
"""The original is copied into the result, and a compressed picture's stages write larger ones."""


def required_bytes(
    source_bytes: int, width: int, height: int, stages: Sequence[dict[str, Any]]
) -> int:
    """Bytes that must be free on each disk before the job starts: a generous guess."""
    return FLOOR_BYTES + SOURCE_COPIES * source_bytes + output_bytes(width, height, stages)


def output_bytes(width: int, height: int, stages: Iterable[Mapping[str, Any]]) -> int:
    """Bytes that the stages write at most, for a picture of that size."""
    return sum(
        registry.stage_class(stage["type"])
        .model_validate(stage["params"])
        .disk_bytes(width, height)
        for stage in stages
    )


def shortage(folders: Sequence[Path], need: int) -> str | None:
    """Which of the folders' disks has less than `need` bytes free, as a sentence; or None."""
    for folder in folders:
        try:
            free = shutil.disk_usage(folder).free
        except OSError:
            continue  # a folder that is gone is reported by whoever writes to it
        if free < need:
            return (
                f"{folder} has {free >> 20} MiB free and {need >> 20} MiB may be needed; "
                "make room, the work goes on by itself"
            )
    return None
