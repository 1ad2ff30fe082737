"""Contents of contact sheets, for the daemon and the command alike."""

from __future__ import annotations

from pathlib import Path

from dna_pipeline.base.layout import BATCH_REPORT, batch_folder
from dna_pipeline.base.times import utcnow
from dna_pipeline.execution.protocol import SheetCell
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.operations.serving import addresses
from dna_pipeline.publish.sheet.entries import MAX_ENTRIES, of_batch
from dna_pipeline.publish.sheet.folder import SheetFolder
from dna_pipeline.publish.sheet.pages import Sheet, grid_axes

MOST_CELLS = 200
"""Most pictures of the sheet's picture; see `media/contact_sheet.py`."""


def sheet_of_batch(queries: Queries, batch_id: str, data: Path) -> tuple[Sheet, str]:
    """Read the contact sheet of a batch; give it with the batch's folder below the outbox.

    Args:
        data: the data folder, on which a server may run.
    """
    batch = queries.batch(batch_id)
    name = batch_folder(batch["inbox"], batch["folder"], batch["stem"], batch["id"])
    entries = of_batch(queries, batch_id)
    sheet = Sheet(
        title=batch["name"],
        entries=entries,
        made_at=utcnow(),
        axes=batch["axes"] or (),
        left_off=max(batch["rows"] - MAX_ENTRIES, 0),
        report=BATCH_REPORT,
        inbox=batch["inbox"],
        server=addresses.newest_url(data) or "",
    )
    return sheet, name


def cells_of(sheet: Sheet, folder: SheetFolder) -> list[SheetCell]:
    """The places of the sheet's picture. Those that it has no room for are empty, since it says
    their number."""
    cells: list[SheetCell] = []
    for entry in sheet.entries[:MOST_CELLS]:
        kept = None if entry.picture is None else folder.thumbnail(entry.picture)
        picture = str(kept) if kept is not None and kept.is_file() else ""
        failed = f"{entry.failure.code}: {entry.name}" if entry.failure is not None else ""
        cells.append(SheetCell(picture, failed or f"#{entry.number} {entry.name}", bool(failed)))
    return cells + [SheetCell("", "")] * (len(sheet.entries) - len(cells))


def columns_of(sheet: Sheet) -> int | None:
    """Number of columns of the sheet's picture, so that a row is one of the matrix; None if it has
    no matrix, or a row is too long for that."""
    axes = grid_axes(sheet)
    return len(axes[-1]["values"]) if axes else None
