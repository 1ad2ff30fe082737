"""Names of results as the web backend gave them that this program grew from.

    img2img_<seconds><row>_<seed>.png       img2img_17645472001234_42.png
    mesh_<seconds>_<job>.glb                mesh_1764547200_9f3c2a10.glb, and .png, .mp4

They are made from the job and lead back to it, so that no table of them is kept: `seconds` is the
Unix time, of ten digits, at which the job was queued, `row` its number in the table of jobs, `job`
the beginning of its id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dna_pipeline.ledger.queries import FOLDER_ID_CHARS, Queries
from dna_pipeline.operations.serving.result_files import ListedFile, NoSuchFile, list_files

_IMAGE = re.compile(r"img2img_(?P<at>\d{10})(?P<row>[1-9]\d{0,17})_\d{1,19}\.\w{1,8}", re.ASCII)
_MESH = re.compile(r"mesh_(?P<at>\d{10})_(?P<job>[0-9a-f]{8})\.\w{1,8}", re.ASCII)

_PICTURES = ("image", "matte")
_MESH_ROLES = {"mesh": "mesh", "preview": "preview", "turntable": "video"}
"""Roles of the files with names like `mesh_…`, and what the old answers call them."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file of a job with its old name.

    Attributes:
        kind: image, mesh, preview or video.
    """

    kind: str
    name: str
    file: ListedFile


def files_by_kind(job: Record) -> dict[str, NamedFile]:
    """The files of a finished job that have old names: the last picture, or else cut-out, and what
    belongs to the mesh. Of meshes in several formats, the .glb or else the first.

    Args:
        job: as `Queries.job` gives it.
    """
    chosen: dict[str, NamedFile] = {}
    for named in _named_files(job):
        if named.kind not in chosen or _is_better(named, chosen[named.kind]):
            chosen[named.kind] = named
    return chosen


def _is_better(named: NamedFile, before: NamedFile) -> bool:
    if named.kind == "image":
        return named.file.role == "image" or before.file.role != "image"
    return named.name.endswith(".glb")


def find(queries: Queries, name: str) -> tuple[str, str]:
    """Find the job of an old name, and the file's path in the job's folder.

    Raises:
        NoSuchFile: no job has or had a file of that name.
    """
    for job_id in _candidates(queries, name):
        job = queries.job(job_id)
        for named in _named_files(job):
            if named.name == name:
                return job_id, named.file.path
    raise NoSuchFile(f"there is no file {name[:100]!r}")


def seed_of(job: Record) -> int | None:
    """The seed of the last stage of a job that has one."""
    seeds = [stage["params"].get("seed") for stage in job["stages"]]
    return next((seed for seed in reversed(seeds) if isinstance(seed, int)), None)


def _candidates(queries: Queries, name: str) -> Iterator[str]:
    if match := _IMAGE.fullmatch(name):
        job_id = queries.id_of(int(match["row"]))
        yield from [job_id] if job_id is not None else []
    elif match := _MESH.fullmatch(name):
        yield from queries.ids_from(match["job"])


def _named_files(job: Record) -> Iterator[NamedFile]:
    """All files that have old names, in the order in which they were made."""
    at = f"{int(job['created_at'].timestamp()):010d}"
    for file in list_files(job):
        _, dot, suffix = file.path.rpartition(".")
        if file.role in _PICTURES:
            name = f"img2img_{at}{job['seq']}_{seed_of(job) or 0}{dot}{suffix}"
            yield NamedFile("image", name, file)
        elif (kind := _MESH_ROLES.get(file.role)) is not None:
            yield NamedFile(kind, f"mesh_{at}_{job['id'][:FOLDER_ID_CHARS]}{dot}{suffix}", file)
