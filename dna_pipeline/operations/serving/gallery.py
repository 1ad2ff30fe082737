"""The gallery: results in pages, as somebody who looks at them has chosen."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

from dna_pipeline.base.times import format_time
from dna_pipeline.ledger.gallery_queries import ENDED, Choice, GalleryQueries, Key
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.publish.sheet.entries import SheetEntry, of_jobs

PAGE = 60
"""Results of one page."""
MOST_PARAMS = 4
"""Most parameters that a cell names."""
MOST_VALUE_CHARS = 40
MOST_OFFSET = 14 * 60
"""Minutes by which the clocks of the earth differ from UTC at most."""

_BATCH = re.compile("[0-9a-f]{4,32}")
_KEY = re.compile(r"(?P<time>[0-9T:.+Z-]{10,40})~(?P<seq>[0-9]{1,18})")
_MESHES = "model/"
_FILMS = "video/"


class WrongFilter(ValueError):
    """A filter that cannot be meant; the text says which."""


@dataclass(frozen=True, slots=True)
class Filters:
    """A choice of results, as an address has it; "" chooses all.

    Attributes:
        day: as `2026-12-31`, in the viewer's zone.
        offset: minutes by which the viewer's clock is ahead of UTC.
        q: words that occur in the name, the tags, the meta or a prompt.
    """

    inbox: str = ""
    batch: str = ""
    status: str = ""
    day: str = ""
    offset: str = ""
    q: str = ""

    @property
    def query(self) -> dict[str, str]:
        """The filters that choose something, for an address."""
        values = {name: getattr(self, name) for name in ("inbox", "batch", "status", "day", "q")}
        chosen = {name: value for name, value in values.items() if value}
        return chosen | ({"offset": self.offset} if self.day and self.offset else {})

    def choice(self) -> Choice:
        """The choice of results. Raises `WrongFilter`."""
        if self.status and self.status not in ENDED:
            raise WrongFilter(f"no result is {self.status[:40]!r}; there are: {', '.join(ENDED)}")
        if self.batch and not _BATCH.fullmatch(self.batch):
            raise WrongFilter(f"no batch is called {self.batch[:40]!r}")
        since, before = self._midnights() if self.day else (None, None)
        return Choice(
            inbox=self.inbox or None, batch=self.batch or None, status=self.status or None,
            since=since, before=before, text=self.q,
        )  # fmt: skip

    def _midnights(self) -> tuple[datetime, datetime]:
        """Begin and end of the day."""
        try:
            ahead = timedelta(minutes=int(self.offset or "0"))
            midnight = datetime.combine(date.fromisoformat(self.day), time(), UTC) - ahead
            days = midnight, midnight + timedelta(days=1)
        except (ValueError, OverflowError):
            raise WrongFilter(f"{self.day[:20]!r} is no day; write it as 2026-12-31") from None
        if abs(ahead) > timedelta(minutes=MOST_OFFSET):
            raise WrongFilter(f"no clock is {self.offset[:20]} minutes ahead of UTC")
        return days


@dataclass(frozen=True, slots=True)
class Cell:
    """A result as the gallery shows it.

    Attributes:
        picture: hash of the picture that stands for it; "" if there is none.
        kind: `mesh`, `film` or `picture`: the best that it has.
        params: parameters in which it differs from the others of its batch, as name and value.
        code: that of its failure; "" for a result.
    """

    job: str
    name: str
    inbox: str
    status: str
    ended: datetime
    batch: str
    batch_name: str
    picture: str
    kind: str
    params: tuple[tuple[str, str], ...]
    warnings: int
    code: str


@dataclass(frozen=True, slots=True)
class GalleryPage:
    """One page of the gallery.

    Attributes:
        after: what the address of the next page names; "" on the last one.
        pictures: paths below the outbox of the pictures of its cells, by hash.
    """

    cells: tuple[Cell, ...]
    after: str
    pictures: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The results beside one in the gallery; None at an end.

    Attributes:
        newer: id of the one before it.
        older: id of the one after it.
    """

    newer: str | None
    older: str | None


def read_page(
    readers: Readers, filters: Filters, after: str = "", number: int = PAGE
) -> GalleryPage:
    """Read a page of results, those that ended last first.

    Args:
        after: as the page before it says; "" for the first page.
        number: most results of it.

    Raises:
        WrongFilter: a filter cannot be meant.
        ConfigError: the ledger cannot be read.
    """
    choice, key = filters.choice(), _key(after)
    if not readers.has_ledger():
        return GalleryPage((), "", {})
    with readers.lend() as queries:
        rows = queries.results(_with_whole_batch(queries, choice), number + 1, key)
        shown = rows[:number]
        listed = of_jobs(queries, [row["id"] for row in shown], has_sidecars=False)
        entries = {entry.job: entry for entry in listed}
        batches = queries.batch_facts(sorted({row["batch"] for row in shown if row["batch"]}))
    params = _differences(shown, entries, batches)
    cells = [
        _cell(row, entries[row["id"]], batches, params.get(row["id"], ()))
        for row in shown
        if row["id"] in entries
    ]
    pictures = {entry.picture.sha256: entry.picture.path for entry in entries.values()
                if entry.picture is not None}  # fmt: skip
    return GalleryPage(tuple(cells), _token(shown[-1]) if len(rows) > number else "", pictures)


def inboxes(readers: Readers) -> list[str]:
    """Names of the inboxes that have had jobs. Raises `ConfigError`."""
    if not readers.has_ledger():
        return []
    with readers.lend() as queries:
        return queries.inboxes_of_results()


def neighbours(readers: Readers, filters: Filters, job_id: str) -> Neighbours:
    """Find the results beside one, within a choice. Raises `WrongFilter` and `ConfigError`."""
    choice = filters.choice()
    with readers.lend() as queries:
        if (place := queries.place_of(job_id)) is None:
            return Neighbours(None, None)
        choice = _with_whole_batch(queries, choice)
        older = queries.results(choice, 1, place)
        newer = queries.results(choice, 1, place, is_backward=True)
    return Neighbours(newer[0]["id"] if newer else None, older[0]["id"] if older else None)


def _with_whole_batch(queries: GalleryQueries, choice: Choice) -> Choice:
    """The choice with the whole id of its batch, of which people may give the beginning."""
    if choice.batch is None or len(choice.batch) == _ID_CHARS:
        return choice
    ids = queries.batch_ids_from(choice.batch)
    if len(ids) != 1:
        raise WrongFilter(f"no batch's id begins with {choice.batch!r}, or several do")
    return Choice(choice.inbox, ids[0], choice.status, choice.since, choice.before, choice.text)


_ID_CHARS = 32


# --- cells ---


def _cell(
    row: Mapping[str, Any], entry: SheetEntry, batches: Mapping[str, Mapping[str, Any]],
    params: Sequence[tuple[str, str]],
) -> Cell:  # fmt: skip
    batch = row["batch"] or ""
    return Cell(
        job=row["id"],
        name=row["name"],
        inbox=row["inbox"],
        status=row["status"],
        ended=row["finished_at"],
        batch=batch,
        batch_name=batches[batch]["name"] if batch in batches else "",
        picture="" if entry.picture is None else entry.picture.sha256,
        kind=kind_of(file.media_type for file in entry.files),
        params=tuple(params),
        warnings=len(entry.warnings),
        code="" if entry.failure is None else entry.failure.code,
    )


def kind_of(media_types: Iterable[str]) -> str:
    """The best that files of these types show: `mesh`, `film` or `picture`."""
    types = list(media_types)
    if any(each.startswith(_MESHES) for each in types):
        return "mesh"
    return "film" if any(each.startswith(_FILMS) for each in types) else "picture"


def _differences(
    rows: Sequence[Mapping[str, Any]], entries: Mapping[str, SheetEntry],
    batches: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[tuple[str, str]]]:  # fmt: skip
    """The parameters in which results of one batch differ, by job: those of the batch's matrix, or
    else those that differ among the results at hand."""
    groups: defaultdict[str, list[SheetEntry]] = defaultdict(list)
    for row in rows:
        if row["batch"] is not None and row["id"] in entries:
            groups[row["batch"]].append(entries[row["id"]])
    params: dict[str, list[tuple[str, str]]] = {}
    for batch, group in groups.items():
        axes: list[dict[str, Any]] = batches.get(batch, {}).get("axes") or []
        names = [str(axis["name"]) for axis in axes] or _differing(group)
        for entry in group:
            values = [(name, entry.params[name]) for name in names if name in entry.params]
            params[entry.job] = [(_short(name), in_words(v)) for name, v in values[:MOST_PARAMS]]
    return params


def _differing(group: Sequence[SheetEntry]) -> list[str]:
    names = dict.fromkeys(name for entry in group for name in entry.params)
    return [name for name in names if len({repr(e.params.get(name)) for e in group}) > 1]


def _short(name: str) -> str:
    """A parameter's name for people: `img2img.guidance_scale` → `guidance scale`."""
    return name.rpartition(".")[2].replace("_", " ")


def in_words(value: Any, most_chars: int = MOST_VALUE_CHARS) -> str:
    """A value of a parameter on one line."""
    match value:
        case None:
            text = "none"
        case bool():
            text = "yes" if value else "no"
        case float():
            text = f"{value:g}"
        case list() | tuple():
            items = cast("Sequence[Any]", value)
            text = ", ".join(in_words(item, most_chars) for item in items)
        case dict():
            pairs = cast("Mapping[Any, Any]", value)
            text = ", ".join(f"{key}: {in_words(item, most_chars)}" for key, item in pairs.items())
        case _:
            text = str(value)
    return text if len(text) <= most_chars else f"{text[: most_chars - 1]}…"


# --- keys ---


def _token(row: Mapping[str, Any]) -> str:
    return f"{format_time(row['finished_at'])}~{row['seq']}"


def _key(text: str) -> Key | None:
    if not text:
        return None
    try:
        match = _KEY.fullmatch(text)
        if match is None:
            raise ValueError(text)
        at = datetime.fromisoformat(match["time"])
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)), int(match["seq"])
    except ValueError:
        raise WrongFilter("the address names no place in the gallery; begin at its start") from None
