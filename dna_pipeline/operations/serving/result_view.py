"""One result with all that a page shows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.operations.serving import jobs
from dna_pipeline.operations.serving.gallery import ENDED, in_words
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.result_files import (
    ERROR,
    MANIFEST,
    ORIGINAL,
    ListedFile,
    list_files,
)
from dna_pipeline.publish.sheet import folder as sheet_folder
from dna_pipeline.publish.sheet.entries import sidecar_of
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import Stage

VIEWER = sheet_folder.VIEWER
"""Name of the script that shows meshes."""
MAX_MESH_BYTES = 128 << 20
"""Largest mesh that turns on the page. A larger one has a link."""
SHOWN_TYPES = frozenset({"image/png", "image/jpeg", "image/webp"})
"""Types of pictures that every browser shows."""
MOST_VALUE_CHARS = 2000

_RESULTS = ("image", "matte")
_PREVIEW = "preview"
_MESH_TYPE = "model/gltf-binary"
_FILM_TYPE = "video/mp4"


@dataclass(frozen=True, slots=True)
class StageView:
    """A stage of a job in words.

    Attributes:
        model: name of the model and the beginning of its hash; "" if it has none.
        device: with the type of numbers; "" if it did not run.
        seconds: None if it did not run.
        params: names and values.
    """

    id: str
    type: str
    model: str
    device: str
    seconds: float | None
    params: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ResultView:
    """A job and what came out of it.

    Attributes:
        has_ended: False while it waits or runs.
        batch_name: "" if it belongs to no batch.
        before, after: pictures of the original and of the result, which a browser can show.
        poster: the picture that stands for the mesh until it is there.
        report: the file that says how the job went.
        sidecar: the recipe, as the text of a sidecar; "" for a job without stages.
        sizes: width and height of pictures in pixels, by their paths.
    """

    job: dict[str, Any]
    has_ended: bool
    batch_name: str
    files: tuple[ListedFile, ...]
    before: ListedFile | None
    after: ListedFile | None
    mesh: ListedFile | None
    film: ListedFile | None
    poster: ListedFile | None
    report: ListedFile | None
    stages: tuple[StageView, ...]
    warnings: tuple[str, ...]
    sidecar: str
    meta: tuple[tuple[str, str], ...]
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    @property
    def failure(self) -> dict[str, Any] | None:
        """The job's error; None if it has none."""
        return self.job["error"]


def read(readers: Readers, name: str) -> ResultView | None:
    """Read a job for a page; None if there is none, or several, of that id.

    Args:
        name: its id, or the first eight or more characters of it.

    Raises:
        ConfigError: the ledger cannot be read.
    """
    job = jobs.read(readers, name)
    if job is None:
        return None
    batch_name = ""
    if job["batch"] is not None:
        with readers.lend() as queries:
            facts = queries.batch_facts([job["batch"]])
        batch_name = facts[job["batch"]]["name"] if facts else ""
    files = list_files(job)
    mesh = _last(files, lambda f: f.media_type == _MESH_TYPE)
    runs = {run["stage_id"]: run for run in job["stage_runs"]}
    return ResultView(
        job=job,
        has_ended=job["status"] in ENDED,
        batch_name=batch_name,
        files=tuple(files),
        before=_last(files, lambda f: f.role == ORIGINAL and f.media_type in SHOWN_TYPES),
        after=_last(files, lambda f: f.role in _RESULTS and f.media_type in SHOWN_TYPES),
        mesh=mesh if mesh is not None and (mesh.bytes or 0) <= MAX_MESH_BYTES else None,
        film=_last(files, lambda f: f.media_type == _FILM_TYPE),
        poster=_last(files, lambda f: f.role == _PREVIEW and f.media_type in SHOWN_TYPES),
        report=_last(files, lambda f: f.role in (MANIFEST, ERROR)),
        stages=tuple(_stage(stage, runs.get(stage["id"])) for stage in job["stages"]),
        warnings=tuple(str(text) for run in job["stage_runs"] for text in run["warnings"]),
        sidecar=sidecar_of(job) if job["stages"] else "",
        meta=tuple((str(k), in_words(v, MOST_VALUE_CHARS)) for k, v in job["meta"].items()),
        sizes=_sizes(job, files),
    )


def viewer_script() -> Path:
    """The file of the script that shows meshes, which the contact sheets have too."""
    return sheet_folder.ASSETS / VIEWER


def _last(files: Iterable[ListedFile], is_meant: Callable[[ListedFile], bool]) -> ListedFile | None:
    last = None
    for file in files:
        if is_meant(file):
            last = file
    return last


def _stage(stage: Mapping[str, Any], run: Mapping[str, Any] | None) -> StageView:
    params: Mapping[str, Any] = stage["params"] if run is None else run["params"]
    units = _units(stage["type"])
    # Those that all stages have come last.
    ordered = sorted(params.items(), key=lambda item: item[0] in Stage.model_fields)
    words = [
        (name.replace("_", " "), _with_unit(value, units.get(name, "")))
        for name, value in ordered
        if value is not None
    ]
    model: Mapping[str, Any] = (run or {}).get("model") or {}
    sha256 = str(model.get("sha256") or "")
    return StageView(
        id=stage["id"],
        type=stage["type"],
        model=" ".join(filter(None, (str(model.get("name") or ""), sha256[:10]))),
        device="" if run is None else f"{run['device']} {run['dtype']}".strip(),
        seconds=None if run is None else run["seconds"],
        params=tuple(words),
    )


def _with_unit(value: Any, unit: str) -> str:
    text = in_words(value, MOST_VALUE_CHARS)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{text} {unit}" if unit and is_number else text


@cache
def _units(stage_type: str) -> dict[str, str]:
    """Units of a stage's parameters, by their names; none of a stage that is no longer there."""
    try:
        fields = registry.stage_class(stage_type).model_fields
    except (KeyError, ConfigError):
        return {}
    extras = {name: field.json_schema_extra for name, field in fields.items()}
    return {
        name: str(cast("dict[str, Any]", extra)["unit"])
        for name, extra in extras.items()
        if isinstance(extra, dict) and "unit" in extra
    }


def _sizes(job: Mapping[str, Any], files: Iterable[ListedFile]) -> dict[str, tuple[int, int]]:
    drop: Mapping[str, Any] = job["drop"]
    sizes: dict[str, tuple[int, int]] = {}
    for file in files:
        facts = drop if file.role == ORIGINAL else file.facts
        width, height = facts.get("width"), facts.get("height")
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            sizes[file.path] = (width, height)
    return sizes
