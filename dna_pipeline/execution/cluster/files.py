"""The folder of an attempt on a node, and the files that go there and come back.

Each attempt at a job has a folder of its own in `<data folder>/attempts/`. An actor that the daemon
has lost may go on for a while, and writes to that folder alone. Only the daemon's side writes to
the job's work folder, so a new attempt never meets an old one there.

    attempts/<attempt>/inputs/<n>/<name>    with `work_dir: transfer`, the image and companions
    attempts/<attempt>/work/<stage>/<file>  the stages' files
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from dna_pipeline.base.files import (
    fsync_dir,
    link_or_copy,
    remove_file,
    sha256_file,
    temporary_name,
    write_atomic,
)
from dna_pipeline.execution.protocol import FileRecord, Order

CHUNK_BYTES = 8 << 20
"""Most bytes of a file that one call carries: an object store may be small."""

INPUTS, WORK = "inputs", "work"


class Damaged(Exception):
    """A file did not arrive as it was sent."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A file that goes to the node.

    Attributes:
        target: its path in the attempt's folder.
        source: its path on the daemon's machine.
    """

    target: str
    source: str
    sha256: str


def inputs_of(order: Order) -> list[Carried]:
    """The image and the companions of an order."""
    return [
        Carried(f"{INPUTS}/{number}/{Path(file.path).name}", file.path, file.sha256)
        for number, file in enumerate(order.inputs)
    ]


def finished_files(order: Order) -> list[Carried]:
    """The files of an order's stages that have run before."""
    return [
        Carried(
            f"{WORK}/{stage.id}/{file.path}", str(Path(order.work_dir, stage.id, file.path)),
            file.sha256,
        )
        for stage in order.stages
        for file in stage.done or ()
    ]  # fmt: skip


def placed(order: Order, folder: Path, *, with_inputs: bool) -> Order:
    """The order as the node's worker gets it: its paths lie in the attempt's folder.

    Args:
        with_inputs: the inputs were carried there too.
    """
    inputs = order.inputs
    if with_inputs:
        inputs = tuple(
            replace(file, path=str(folder / carried.target))
            for file, carried in zip(inputs, inputs_of(order), strict=True)
        )
    return replace(order, inputs=inputs, work_dir=str(folder / WORK))


def link_finished(order: Order, folder: Path) -> None:
    """Give the files of finished stages a name in the attempt's folder too, where the node sees the
    work folder. One that is missing is left out: its stage runs again."""
    for file in finished_files(order):
        target = folder / file.target
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            link_or_copy(Path(file.source), target)


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, in pieces; one empty piece for an empty file."""
    with path.open("rb") as file:
        yield file.read(CHUNK_BYTES)
        while piece := file.read(CHUNK_BYTES):
            yield piece


def read_chunk(path: Path, offset: int) -> bytes:
    """A piece of a file, from that byte on."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(CHUNK_BYTES)


def append(path: Path, piece: bytes, *, is_first: bool) -> None:
    """Write a piece of a file that arrives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb" if is_first else "ab") as file:
        file.write(piece)


def check_arrival(path: Path, sha256: str) -> None:
    """Raise `Damaged` if the file is not the one with that hash."""
    if sha256_file(path) != sha256:
        raise Damaged(f"{path.name} did not arrive as it was sent")


def receive(folder: Path, files: list[FileRecord], read: Callable[[str, int], bytes]) -> None:
    """Write the files of a stage, which replace all that its work folder had. Durable on return.

    Args:
        read: gives a piece of the file with that name, from that byte on.

    Raises:
        Damaged: a file has not the hash that its stage reported.
        OSError: a file cannot be written.
    """
    _make_empty(folder)
    for file in files:
        write_atomic(folder / file.path, lambda out, f=file: _write(out, f, read))
    fsync_dir(folder.parent)


def _write(out: IO[bytes], file: FileRecord, read: Callable[[str, int], bytes]) -> None:
    digest, size = hashlib.sha256(), 0
    while size < file.bytes:
        if not (piece := read(file.path, size)):
            break
        digest.update(piece)
        size += len(piece)
        out.write(piece)
    if digest.hexdigest() != file.sha256:
        raise Damaged(f"{file.path} did not arrive as it was sent")


def adopt(folder: Path, files: list[FileRecord], source: Path) -> None:
    """Give the files of a stage in a folder that both machines see their names in its work folder.
    Raises as `receive`."""
    _make_empty(folder)
    for file in files:
        # Linked, not moved: the attempt's next stage reads them where they are.
        temporary = folder / temporary_name()
        link_or_copy(source / file.path, temporary)
        temporary.replace(folder / file.path)
        check_arrival(folder / file.path, file.sha256)
    fsync_dir(folder)
    fsync_dir(folder.parent)


def _make_empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.iterdir():
        remove_file(leftover)
