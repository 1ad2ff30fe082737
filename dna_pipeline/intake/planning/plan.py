"""Plans: the jobs that an image with its sidecar, a job file or a table asks for.

An image is a plan with one item, or with several if its sidecar has a `matrix` or a
`count`.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Any, Literal

from dna_pipeline.base.errors import Failure, JobError
from dna_pipeline.base.naming import printable
from dna_pipeline.config.batch import Axis, BatchHead, Row
from dna_pipeline.config.dialect import Dialect
from dna_pipeline.config.image_paths import slashed
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.intake.planning.companion_files import Need, mask_fault
from dna_pipeline.intake.planning.named_images import Source

_BESIDE: Need = ("mask", "")
"""The mask that lies beside its image."""

_NO_HEAD = BatchHead()
_ANY_DIALECT = Dialect()


@dataclass(slots=True, eq=False)
class PlanItem:
    """A row with its image, or with its error.

    Attributes:
        source: its image; None if that is missing, or is the one image of the plan.
        outcome: the resolved job of the plan of one image, or the error that this job will have.
        key: its dedup key; None if it is done whatever was done before.
        named: the companions that a row of a batch names by their paths.
        asked_by: by each companion that such a row needs, the key that asks for it.
        job: its row of the ledger's table `jobs`, once its image was claimed.
    """

    row: Row
    source: Source | None = None
    error: JobError | None = None
    outcome: JobSpec | Failure | None = None
    key: str | None = None
    named: dict[Need, Source] = field(default_factory=dict[Need, Source])
    asked_by: dict[Need, str] = field(default_factory=dict[Need, str])
    job: dict[str, Any] | None = None


@dataclass(slots=True)
class Plan:
    """The jobs that a drop asks for.

    Attributes:
        kind: `image` for one job of one image, `matrix` for several; else the kind of the file
            that names the images.
        folder: folder in the inbox of the image, or else of the job file or table.
        name: name of that file.
        batch: name of the batch, for templates.
        items: its rows, in order.
        head: the settings that hold for the batch as a whole.
        text: the job file as written; None for all others.
        dialect: form of the table, which `batch.csv` has too.
        sources: the images of rows without errors, each once.
        companions: the companions of such rows, such as masks, each once.
        axes: the axes of its matrix, the slowest first.
        result_name: template of the result folders' names that its axes give; None if it has none.
    """

    kind: Literal["image", "matrix", "job_file", "table"]
    folder: str
    name: str
    batch: str
    items: list[PlanItem]
    head: BatchHead = _NO_HEAD
    text: str | None = None
    dialect: Dialect = _ANY_DIALECT
    sources: list[Source] = field(default_factory=list[Source])
    companions: list[Source] = field(default_factory=list[Source])
    axes: list[Axis] = field(default_factory=list[Axis])
    result_name: str | None = None

    @property
    def file(self) -> str:
        """Path in the inbox of the image, the job file or the table."""
        return posixpath.join(self.folder, self.name)

    def place(self, item: PlanItem) -> tuple[str, str]:
        """Folder in the inbox and name of a row's image, even if the image is not there."""
        if item.source is not None:
            return item.source.folder, item.source.path.name
        if item.row.image is None:
            return self.folder, self.name
        path = posixpath.join(self.folder, slashed(item.row.image.strip()))
        folder, _, name = posixpath.normpath(path).rpartition("/")
        return folder, name

    def shown_image(self, item: PlanItem) -> str:
        """A row's image as the batch report names it: by its path in the inbox, or as written."""
        if self.kind == "matrix":
            return printable(self.name)
        path = item.source.relative if item.source is not None else None
        return printable(path or (item.row.image or "").strip())


def image_error(item: PlanItem) -> JobError | None:
    """Error of a row after its image and companions were probed; None if there is none."""
    source = item.source
    if item.error is not None or source is None:
        return item.error
    is_row = item.row.document.unit == "row"
    if (error := source.error) is not None:
        unit = item.row.document.place(("image",)) if is_row else ""
        text = f"{unit}: image: {error.detail}" if unit else error.detail
        return type(error)(text, hint=error.hint, where="image")
    error = _mask_error(item, source)
    if error is not None and is_row:
        error.detail = f"row {item.row.number}: {error.detail}"
    return error


def _mask_error(item: PlanItem, image: Source) -> JobError | None:
    """The first error of the masks of a row, named by the key that asks for the mask."""
    masks = ({_BESIDE: image.mask} if image.mask is not None else {}) | item.named
    for need, mask in masks.items():
        if mask.error is not None:
            name = mask.relative or str(mask.path)
            return mask_fault(name, mask.error, item.asked_by.get(need, "mask"))
    return None
