"""Fetches models: plans what is missing, checks the disk, stages the files, shows each model whole.

A process that is killed at any instant leaves a staging folder, which no command calls a model, and
from which the next pull goes on.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.base.files import sha256_file
from dna_pipeline.base.quantities import size
from dna_pipeline.weights.download import RemoteFile
from dna_pipeline.weights.local_files import FileNotFound
from dna_pipeline.weights.pins import PinnedFile, Placement, is_weights
from dna_pipeline.weights.progress import Progress
from dna_pipeline.weights.staging import STAGING, hold_lock, publish, resolved, staging_of

RESERVE_BYTES = 64 << 20
"""Space that a pull leaves free on the disk."""


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model and its files that are to be fetched.

    Attributes:
        staged_bytes: number of their bytes that earlier pulls left.
    """

    placement: Placement
    files: tuple[PinnedFile, ...]
    staged_bytes: int

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class Fetcher(Protocol):
    """Brings one file to a staging folder: from the network or from another folder."""

    def fetch(self, remote: RemoteFile, part: Path) -> str:
        """Bring a file to `part`; give its SHA-256."""
        ...


@dataclass(frozen=True, slots=True)
class PulledModel:
    """A model that appeared.

    Attributes:
        changed: paths of small files that differ from their pins, with the hashes that they have.
    """

    placement: Placement
    changed: dict[str, str]


def plan(placements: Iterable[Placement]) -> list[PlannedModel]:
    """List what is missing of these models; those that are whole are left out.

    Raises:
        TransferFailed: files in a model's folder are not those of the published model.
    """
    planned = [_plan(replace(one, target=resolved(one.target))) for one in placements]
    return [one for one in planned if one.files]


def _plan(placement: Placement) -> PlannedModel:
    if placement.target.exists() and (lacking := placement.lacking()):
        _check_present(placement, lacking)
    files = sorted(placement.lacking(), key=lambda file: (file.is_weights, file.bytes))
    staging = staging_of(placement)
    return PlannedModel(placement, tuple(files), sum(map(staging.bytes_of, files)))


def _check_present(placement: Placement, lacking: Sequence[PinnedFile]) -> None:
    """Raise if an incomplete folder holds files that do not belong to the published model.

    Such a folder is somebody's own. Fetched weights beside other ones would change which of them
    are loaded.
    """
    if placement.model.is_file or not placement.target.is_dir():
        raise TransferFailed(f"{placement.target} is in the way; move it to another name")
    if others := _others(placement, hashes=True):
        raise TransferFailed(
            f"{placement.target} lacks {lacking[0].path}, and holds other files than "
            f"{placement.model.title}: {', '.join(others[:4])}. Nothing was changed; move the "
            "folder to another name, or name it in pipeline.yaml, and pull again"
        )


def _others(placement: Placement, *, hashes: bool) -> list[str]:
    """Names in a model's folder of weights that are not pinned, and of what is not the file that
    is pinned there; without `hashes`, a file passes whatever its bytes are."""
    pinned = {file.path: file.sha256 for file in placement.model.files}
    others: list[str] = []
    for path in sorted(placement.target.rglob("*")):
        name = path.relative_to(placement.target).as_posix()
        if name in pinned:
            is_pinned = path.is_file() and (not hashes or sha256_file(path) == pinned[name])
            others += [] if is_pinned else [name]
        elif is_weights(path):
            others.append(name)
    return others


def check_space(planned: Iterable[PlannedModel]) -> None:
    """Raise `TransferFailed` if the disks cannot hold what is still to come."""
    needs: defaultdict[int, int] = defaultdict(int)
    places: dict[int, Path] = {}
    for one in planned:
        place = _existing(one.placement.target.parent)
        device = place.stat().st_dev
        places.setdefault(device, place)
        needs[device] += one.bytes - one.staged_bytes
    for device, need in needs.items():
        free = shutil.disk_usage(places[device]).free
        lack = need + RESERVE_BYTES - free
        if need and lack > 0:
            raise TransferFailed(
                f"the disk of {places[device]} has {size(free)} free, and {size(need)} are still "
                f"to come ({size(RESERVE_BYTES)} stay free): free {size(lack)} more, or let "
                "paths.data name a folder on another disk"
            )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def pull(
    planned: Sequence[PlannedModel],
    fetcher: Fetcher,
    progress: Progress,
    *,
    accepts_changed: bool = False,
) -> list[PulledModel]:
    """Fetch all planned models, one after another.

    Args:
        accepts_changed: small text files may differ from their pins; weights never.

    Raises:
        TransferFailed: a file cannot be fetched; models before it are there, and what came of
            this one stays for the next pull.
        OSError: the disk is full, or fails.
    """
    with ExitStack() as locks:
        for root in sorted({one.placement.target.parent / STAGING for one in planned}):
            locks.enter_context(hold_lock(root))
        check_space(planned)
        progress.begin(sum(one.bytes for one in planned))
        pulled: list[PulledModel] = []
        absent: list[str] = []
        for one in planned:
            # The plan hashed the files that are there, which takes minutes.
            is_changed = set(one.placement.lacking()) != set(one.files)
            if is_changed or _others(one.placement, hashes=False):
                raise TransferFailed(f"{one.placement.target} was made meanwhile; pull again")
            try:
                pulled.append(_pull(one, fetcher, progress, accepts_changed))
            except _Incomplete as error:
                absent += error.names
        if absent:
            raise TransferFailed(_not_found(absent, pulled))
        return pulled


class _Incomplete(Exception):
    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.names = names


def _pull(
    one: PlannedModel, fetcher: Fetcher, progress: Progress, accepts_changed: bool
) -> PulledModel:
    """Fetch one model. Raises `_Incomplete` if a folder does not hold all of its files."""
    placement = one.placement
    staging, model = staging_of(placement), placement.model
    changed: dict[str, str] = {}
    absent: list[str] = []
    for file in one.files:
        name = f"{model.name} {file.path}" if not model.is_file else file.path
        progress.show_file(name)
        remote = RemoteFile(file, model.source, name, accepts_changed)
        try:
            sha256 = fetcher.fetch(remote, staging.path_of(file.path))
        except FileNotFound as error:
            absent.append(str(error))
            continue
        if sha256 != file.sha256:
            changed[file.path] = sha256
    if absent:
        raise _Incomplete(absent)
    names = [file.path for file in one.files]
    publish(staging, names, is_file=model.is_file, again="pull again")
    return PulledModel(placement, changed)


def _not_found(absent: list[str], pulled: list[PulledModel]) -> str:
    whole = (
        f"{', '.join(one.placement.model.name for one in pulled)} came whole. " if pulled else ""
    )
    return (
        f"{whole}Not found there:\n  " + "\n  ".join(absent) + "\nWhat was found is kept; "
        "`dna-pipeline models pull` without --from fetches the rest"
    )
