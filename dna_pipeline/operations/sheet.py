"""Contact sheets on request: of a batch, an inbox, a time or jobs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.base.layout import SHEET_PAGE
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.schema import Config, parse_time
from dna_pipeline.operations.lookup import find_batch, find_job, open_queries
from dna_pipeline.operations.serving import addresses
from dna_pipeline.operations.sheet_contents import cells_of, columns_of, sheet_of_batch
from dna_pipeline.publish.sheet.entries import MAX_ENTRIES, SheetEntry, of_jobs
from dna_pipeline.publish.sheet.folder import SheetFolder
from dna_pipeline.publish.sheet.pages import Sheet

if TYPE_CHECKING:
    from dna_pipeline.ledger.queries import Queries


@dataclass(frozen=True, slots=True)
class SheetChoice:
    """Choice of the results that a sheet shows; without any of these, the newest batch.

    Attributes:
        jobs: ids of jobs, as people type them.
        since: earliest end of the jobs, as people write times.
    """

    batch: str | None = None
    inbox: str | None = None
    since: str | None = None
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MadeSheet:
    """A sheet that was written: its page and its picture, and how many results it has.

    Attributes:
        unseen: number of results whose pictures could not be read; those of failures do not count.
    """

    page: Path
    picture: Path
    results: int
    failures: int
    unseen: int


def make_sheet(config: Config, choice: SheetChoice, folder: Path | None) -> MadeSheet:
    """Write a contact sheet; what an earlier one left in its folder is replaced.

    Args:
        folder: where to; None for the folder of the batch, or else a folder in the current one.

    Raises:
        ConfigError: there is nothing to show, the choice is contradictory, or the folder holds
            other files.
        OSError: the folder cannot be written.
    """
    with closing(open_queries(config)) as queries:
        batch_id = _batch_of(queries, choice)
        if batch_id is None:
            sheet, home = _sheet_of_jobs(config, queries, choice), _free_place(choice)
        else:
            sheet, home = _sheet_of_batch(config, queries, batch_id)
    if not sheet.entries:
        raise ConfigError("there is no result to show; `dna-pipeline jobs` lists the jobs")
    target = SheetFolder(folder or home, config.outbox, config.thumbnails)
    _check_folder(target, is_own=folder is None and batch_id is not None)
    _make_thumbnails(target, [entry for entry in sheet.entries if entry.is_failure])
    unseen = _make_thumbnails(target, [entry for entry in sheet.entries if not entry.is_failure])
    target.folder.mkdir(parents=True, exist_ok=True)
    target.write(sheet)
    _draw(target, sheet)
    if batch_id is not None and folder is None:
        _note_made(config, batch_id)
    failures = sum(entry.is_failure for entry in sheet.entries)
    return MadeSheet(target.page, target.picture, len(sheet.entries), failures, unseen)


# --- what it shows ---


def _batch_of(queries: Queries, choice: SheetChoice) -> str | None:
    """The batch to show; None if it is not a batch that was asked for."""
    others = [choice.inbox, choice.since, choice.jobs or None]
    if choice.batch is not None and any(other is not None for other in others):
        raise ConfigError("--batch chooses all that is shown; leave --inbox, --since and jobs out")
    if choice.jobs and (choice.inbox is not None or choice.since is not None):
        raise ConfigError("name jobs, or choose them with --inbox and --since")
    if choice.batch is not None:
        return find_batch(queries, choice.batch)
    if any(other is not None for other in others):
        return None
    if (newest := queries.newest_batch()) is None:
        raise ConfigError("there is no batch yet; choose results with --inbox, --since or by jobs")
    return newest


def _sheet_of_batch(config: Config, queries: Queries, batch_id: str) -> tuple[Sheet, Path]:
    sheet, name = sheet_of_batch(queries, batch_id, config.data)
    if not (config.outbox / name).is_dir():
        raise ConfigError(
            f"{config.outbox / name}: the batch's folder is not there any more; give another "
            "folder with -o"
        )
    return sheet, config.outbox / name


def _sheet_of_jobs(config: Config, queries: Queries, choice: SheetChoice) -> Sheet:
    if choice.jobs:
        ids: Sequence[str] = [find_job(queries, job) for job in dict.fromkeys(choice.jobs)]
        title = f"{len(ids)} results" if len(ids) != 1 else choice.jobs[0]
    else:
        _check_inbox(config, choice.inbox)
        since = None if choice.since is None else _time(choice.since)
        ids = queries.published_ids(inbox=choice.inbox, since=since, limit=MAX_ENTRIES + 1)
        title = choice.inbox or f"Results since {choice.since}"
    return Sheet(
        title=title,
        entries=of_jobs(queries, ids[:MAX_ENTRIES]),
        made_at=utcnow(),
        left_off=max(len(ids) - MAX_ENTRIES, 0),
        inbox=choice.inbox or "",
        server=addresses.newest_url(config.data) or "",
    )


def _check_inbox(config: Config, inbox: str | None) -> None:
    if inbox is not None and config.inbox(inbox) is None:
        names = ", ".join(entry.name for entry in config.inboxes)
        raise ConfigError(f"no inbox is called {inbox!r}; there are: {names}")


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ConfigError(f"--since {text!r}: {error}") from None


# --- where it is written ---


def _free_place(choice: SheetChoice) -> Path:
    return Path.cwd() / (f"sheet-{choice.inbox}" if choice.inbox else "sheet")


def _check_folder(target: SheetFolder, *, is_own: bool) -> None:
    """Refuse a folder of somebody else: a page of that name there would be replaced."""
    folder = target.folder
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; give a folder with -o")
    if is_own or target.is_ours or not folder.is_dir():
        return
    if any(folder.iterdir()):
        raise ConfigError(f"{folder}: holds other files; give an empty or a new folder with -o")


def _note_made(config: Config, batch_id: str) -> None:
    """Take back the warning about a sheet that could not be made before."""
    from dna_pipeline.ledger import batches
    from dna_pipeline.ledger.store import Ledger

    with closing(open_queries(config)) as queries:
        state = queries.batch(batch_id)["sheet"]
    if state is None or not state.startswith(batches.SHEET_FAILED):
        return
    with closing(Ledger(config.ledger_path, unlocked=True)) as ledger:
        ledger.transact(lambda s: batches.end_sheet(s, batch_id))


# --- its pictures ---


def _make_thumbnails(target: SheetFolder, entries: Sequence[SheetEntry]) -> int:
    """Make the thumbnails that are missing; give the number of those that cannot be made."""
    from dna_pipeline.media.thumbnails import make_thumbnail

    unseen = 0
    for source, place in target.missing_thumbnails(entries):
        try:
            make_thumbnail(source, place)
        except (JobError, ValueError, OSError):
            unseen += 1
    return unseen


def _draw(target: SheetFolder, sheet: Sheet) -> None:
    from dna_pipeline.media import contact_sheet

    contact_sheet.draw(target.picture, sheet.title, cells_of(sheet, target), columns_of(sheet))


def page_of(folder: Path) -> Path | None:
    """The page of a contact sheet in a folder; None if there is none."""
    page = folder / SHEET_PAGE
    return page if page.is_file() else None
