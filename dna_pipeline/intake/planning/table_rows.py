"""Find the files of some rows of a table, without listing the folders in which they lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.base.naming import folder_of, name_of, nfc, printable
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.row_numbers import RowNumbers
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.sidecar import parse_sidecar
from dna_pipeline.config.tables import TableRow
from dna_pipeline.config.yaml12 import Document
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.mask_names import names_of_masks
from dna_pipeline.intake.discovery.scan import FileStat, look_up
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.known_files import Stats
from dna_pipeline.intake.planning.references import (
    find_companions,
    images_in,
    places_of_companions,
    read_table,
    references_to,
)
from dna_pipeline.intake.planning.source_roots import is_file


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table that a command is to do.

    Attributes:
        inbox: the inbox with the settings of their jobs, which keeps its originals.
        table: path of the table in that inbox.
    """

    inbox: Inbox
    table: str
    rows: RowNumbers

    @property
    def file(self) -> Path:
        return self.inbox.path / self.table


def find_rows(chosen: TableRows, look: Look = look_directly) -> tuple[Candidate, Stats]:
    """Find the rows' images and companions in the inbox, and the status of all files.

    Those in source roots are found when the rows are planned.

    Raises:
        ConfigError: the table has no such row.
        JobError: the table as a whole is wrong.
        OSError: the table cannot be read.
    """
    inbox, table = chosen.inbox, chosen.table
    stats = {table: FileStat.of(chosen.file.lstat())}
    rows = _rows_of(chosen)
    sidecar = _yaml_beside(inbox, table)
    if sidecar is not None:
        stats[sidecar] = FileStat.of((inbox.path / sidecar).lstat())
    images = references_to(inbox, table, images_in(rows), look, is_table=True).paths
    options = places_of_companions(inbox, folder_of(table), _documents(inbox, rows, sidecar))
    named = find_companions(inbox, options, look).paths
    pictures = look_up(inbox, (*images, *named))
    candidate = Candidate(
        None, sidecar, table=table, is_batch=True, rows=chosen.rows,
        images=_among(pictures, images), named=_among(pictures, named),
        companions=tuple(("mask", mask) for mask in _masks(inbox, images, pictures)),
    )  # fmt: skip
    return candidate, stats | pictures


def _rows_of(chosen: TableRows) -> list[TableRow]:
    rows = read_table(chosen.file)
    numbers = [row.number for row in rows]
    if (part := chosen.rows.lacking(numbers)) is not None:
        there = f"its rows are {numbers[0]} to {numbers[-1]}"
        raise ConfigError(f"{printable(name_of(chosen.table))} has no row {part}; {there}")
    return [row for row in rows if row.number in chosen.rows]


def _yaml_beside(inbox: Inbox, table: str) -> str | None:
    """Path of the YAML with the settings of all rows; None if there is none."""
    names = (f"{table}{ending}" for ending in (".yaml", ".yml"))
    return next((name for name in names if is_file(inbox.path / name)), None)


def _documents(inbox: Inbox, rows: Iterable[TableRow], sidecar: str | None) -> Iterator[Document]:
    yield from (row.document for row in rows)
    if sidecar is not None:
        with suppress(JobError):  # the plan reports it
            yield parse_sidecar(job_rows.read_sidecar(inbox.path / sidecar))


def _among(files: Stats, paths: Sequence[str]) -> tuple[str, ...]:
    """The files that have one of these paths, whatever the form of their accents."""
    named = set(map(nfc, paths))
    return tuple(path for path in files if nfc(path) in named)


def _masks(inbox: Inbox, images: Sequence[str], pictures: Stats) -> list[str]:
    """The masks that lie beside images, which join the `pictures`."""
    if not inbox.pairs_masks:
        return []
    masks = look_up(inbox, (mask for image in images for mask in names_of_masks(image)))
    pictures.update(masks)
    return list(masks)
