"""Fetches published models."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import ConfigError, TransferFailed
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.models.selection import Selection, select
from dna_pipeline.weights.download import Downloader, make_client
from dna_pipeline.weights.fingerprint import Fingerprints
from dna_pipeline.weights.local_files import LocalFiles
from dna_pipeline.weights.pins import load_pins
from dna_pipeline.weights.progress import Progress
from dna_pipeline.weights.pull import Fetcher, PlannedModel, plan, pull


@dataclass(frozen=True, slots=True)
class PullPlan:
    """The models to fetch, and sentences about those that are not fetched.

    Attributes:
        refused: sentences about models whose places hold something else.
    """

    models: list[PlannedModel]
    selection: Selection
    refused: list[str]

    @property
    def bytes_to_come(self) -> int:
        return sum(one.bytes - one.staged_bytes for one in self.models)


def plan_pull(config: Config, names: Sequence[str], *, full: bool) -> PullPlan:
    """Find out what is to be fetched. Changes nothing. A model whose place holds something else
    keeps no other model from being fetched.

    Raises:
        ConfigError: there is no model of that name.
    """
    selection = select(config, load_pins(), names, full=full)
    pull_plan = PullPlan([], selection, [])
    for placement in selection.placements:
        try:
            pull_plan.models.extend(plan([placement]))
        except TransferFailed as error:
            pull_plan.refused.append(f"{placement.model.name}: {error}")
    return pull_plan


def plan_facts(pull_plan: PullPlan) -> list[dict[str, Any]]:
    """The models of a plan with the address, size and hash of each file, as plain values."""
    return [
        {
            "name": one.placement.model.name,
            "title": one.placement.model.title,
            "target": str(one.placement.target),
            "license": one.placement.model.licence,
            "note": one.placement.model.note or None,
            "bytes": one.bytes,
            "staged_bytes": one.staged_bytes,
            "files": [
                {
                    "path": file.path,
                    "url": one.placement.model.source.shown_url(file.remote),
                    "bytes": file.bytes,
                    "sha256": file.sha256,
                }
                for file in one.files
            ],
        }
        for one in pull_plan.models
    ]


def run_pull(
    config: Config,
    pull_plan: PullPlan,
    progress: Progress,
    *,
    folder: Path | None = None,
    links: bool = False,
    accepts_changed: bool = False,
) -> list[dict[str, Any]]:
    """Fetch the models of a plan. Returns those that appeared: `name`, `path`, `bytes`, `license`,
    `note`, and `changed`, the small files that differ from their pins, with their hashes.

    Args:
        folder: where the files are taken from; None for the network.
        links: share the bytes with the files in that folder.
        accepts_changed: take small files that differ from their pins.

    Raises:
        ConfigError: there is no such folder.
        TransferFailed: files could not be fetched.
        OSError: of the disk.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"{folder} is no folder")
    with ExitStack() as stack:
        fetcher: Fetcher
        if folder is not None:
            fetcher = LocalFiles(folder, progress, links)
        else:
            fetcher = Downloader(stack.enter_context(make_client()), progress)
        pulled = pull(pull_plan.models, fetcher, progress, accepts_changed=accepts_changed)
    _remember_hashes(config, pull_plan.models)
    return [
        {
            "name": one.placement.model.name,
            "path": str(one.placement.target),
            "bytes": sum(one.placement.path_of(f).stat().st_size for f in one.placement.files),
            "license": one.placement.model.licence,
            "note": one.placement.model.note or None,
            "changed": one.changed,
        }
        for one in pulled
    ]


def _remember_hashes(config: Config, models: Sequence[PlannedModel]) -> None:
    """Enter the hashes of weights that were just compared, so that no job hashes them again."""
    hashes = {
        one.placement.path_of(file): file.sha256
        for one in models
        for file in one.files
        if file.is_weights
    }
    if hashes and config.data.is_dir():
        Fingerprints(config.data).remember(hashes)
