"""The companions of jobs: further files of an image, such as its mask.

A companion is described as the ledger's column `drops.companions` has it: `role`, `name`, `sha256`,
`bytes`, and `reference`, the path by which parameters name it, for one that did not lie beside the
image. The jobs of one drop may name different ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dna_pipeline.stages import registry

Companion = Mapping[str, Any]


def needed(stages: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Role and reference of the companions that stages need, as `jobs.stages` has them, each once;
    the reference is "" for a companion beside the image.

    A stage whose class is gone or has changed needs none: the worker reports that.
    """
    pairs: dict[tuple[str, str], None] = {}
    for stage in registry.valid_stages(stages):
        if stage.companion_roles:
            pairs |= dict.fromkeys(stage.companions().items())
    return list(pairs)


def of_job(
    files: Iterable[Companion] | None, stages: Iterable[Mapping[str, Any]]
) -> list[Companion]:
    """The companions of one job of a drop: all that lay beside the image, and those that the job's
    stages name. A job without stages failed before it had any, and gets all."""
    stages = list(stages)
    pairs = needed(stages)
    return [
        file
        for file in files or ()
        if not stages or not file.get("reference") or (file["role"], file["reference"]) in pairs
    ]
