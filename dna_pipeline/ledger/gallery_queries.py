"""Queries of the gallery: results in pages, chosen by inbox, batch, time, status and text.

A page begins after the last result of the page before it (a keyset), so that the thousandth page
costs no more than the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dna_pipeline.base.times import format_time
from dna_pipeline.ledger.queries import Queries

ENDED = ("completed", "failed", "cancelled")
"""Statuses of jobs that may have a folder in the outbox."""

MOST_WORDS = 8

_PUBLISHED = "publish = 'done' AND finished_at IS NOT NULL"
_CELL = "id, seq, inbox, name, status, batch, finished_at"
_LIKE = "LIKE ? ESCAPE '!'"

# A text in JSON is looked for as it is stored, which costs little; only where it is found, the
# values themselves are read.
_IN_TAGS = f"""tags {{stored}} AND EXISTS
    (SELECT 1 FROM json_each(tags) AS each WHERE each.atom {_LIKE})"""
_IN_META = f"""meta {{stored}} AND EXISTS
    (SELECT 1 FROM json_tree(meta) AS each WHERE each.atom {_LIKE} OR each.key {_LIKE})"""
_IN_PROMPTS = f"""stages {{stored}} AND EXISTS (SELECT 1 FROM json_each(stages) AS each
    WHERE json_extract(each.value, '$.params.prompt') {_LIKE})"""


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice of results; a value that is None chooses all.

    Attributes:
        since, before: earliest end of the job, and the time before which it ended.
        text: words, each of which must occur in the name, the tags, the meta or a prompt. The case
            of letters does not count.
    """

    inbox: str | None = None
    batch: str | None = None
    status: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    text: str = ""


Key = tuple[datetime, int]
"""Place of a result in the gallery: the end of its job, and the number of its row."""


class GalleryQueries(Queries):
    """As `Queries`, with the questions of the gallery."""

    def results(
        self, choice: Choice, limit: int, after: Key | None = None, *, is_backward: bool = False
    ) -> list[dict[str, Any]]:
        """Return results of a choice, those that ended last first.

        Args:
            after: place after which they begin; None for the newest.
            is_backward: give those before that place instead, the nearest first.
        """
        where, values = _condition(choice)
        order = "ASC" if is_backward else "DESC"
        if after is not None:
            where += f" AND (finished_at, seq) {'>' if is_backward else '<'} (?, ?)"
            values += [format_time(after[0]), after[1]]
        sql = f"""SELECT {_CELL} FROM jobs {_index(choice)} WHERE {where}
            ORDER BY finished_at {order}, seq {order} LIMIT ?"""
        return self._rows(sql, *values, limit)

    def place_of(self, job_id: str) -> Key | None:
        """Return the place of a job in the gallery; None if it has no folder in the outbox."""
        sql = f"SELECT finished_at, seq FROM jobs WHERE id = ? AND {_PUBLISHED}"
        rows = self._rows(sql, job_id)
        return (rows[0]["finished_at"], rows[0]["seq"]) if rows else None

    def inboxes_of_results(self) -> list[str]:
        """Return the names of the inboxes that have had jobs, in the order of the alphabet."""
        # Each step finds the next name in the index; a list of all would read the whole of it.
        sql = """WITH RECURSIVE found(inbox) AS (SELECT min(inbox) FROM jobs UNION ALL
            SELECT (SELECT min(jobs.inbox) FROM jobs WHERE jobs.inbox > found.inbox) FROM found
            WHERE found.inbox IS NOT NULL) SELECT inbox FROM found WHERE inbox IS NOT NULL"""
        return [row["inbox"] for row in self._rows(sql)]

    def batch_ids_from(self, start: str) -> list[str]:
        """Return the ids of a few batches that begin with a text of hexadecimal digits."""
        sql = "SELECT id FROM batches WHERE id >= ? AND id < ? LIMIT 2"
        return [row["id"] for row in self._rows(sql, start, start + "g")]

    def batch_facts(self, batch_ids: list[str]) -> dict[str, dict[str, Any]]:
        """Return name, inbox and axes of these batches, by id."""
        marks = ", ".join("?" for _ in batch_ids)
        sql = f"SELECT id, name, inbox, folder, stem, axes FROM batches WHERE id IN ({marks})"
        return {row["id"]: row for row in self._rows(sql, *batch_ids)} if batch_ids else {}


def _index(choice: Choice) -> str:
    """The index to walk. A batch has few jobs, which are sorted; else the newest come first, and
    the walk ends with the page."""
    return "INDEXED BY " + ("ix_jobs_finished" if choice.batch is None else "ix_jobs_batch")


def _condition(choice: Choice) -> tuple[str, list[Any]]:
    parts, values = [_PUBLISHED], list[Any]()
    equal = {"inbox": choice.inbox, "batch": choice.batch, "status": choice.status}
    for name, value in equal.items():
        if value is not None:
            parts.append(f"{name} = ?")
            values.append(value)
    for sign, time in ((">=", choice.since), ("<", choice.before)):
        if time is not None:
            parts.append(f"finished_at {sign} ?")
            values.append(format_time(time))
    for word in choice.text.split()[:MOST_WORDS]:
        part, more = _word(word)
        parts.append(part)
        values += more
    return " AND ".join(parts), values


def _word(word: str) -> tuple[str, list[str]]:
    """The condition that a word occurs somewhere."""
    parts, values = list[str](), list[str]()
    for form in _forms(word):
        plain, stored = _pattern(form), _pattern(json.dumps(form)[1:-1])
        parts.append(f"name {_LIKE}")
        values.append(plain)
        for condition, number in ((_IN_TAGS, 1), (_IN_META, 2), (_IN_PROMPTS, 1)):
            parts.append(condition.format(stored=_LIKE))
            values += [stored, *[plain] * number]
    return "(" + " OR ".join(f"({part})" for part in parts) + ")", values


def _forms(word: str) -> Iterator[str]:
    """The word in the forms that SQLite tells apart: it knows the case of ASCII's letters only."""
    yield word
    if not word.isascii():
        yield from {word.lower(), word.upper(), word.capitalize()} - {word}


def _pattern(text: str) -> str:
    """A pattern for LIKE that finds the text anywhere."""
    for sign in "!%_":
        text = text.replace(sign, f"!{sign}")
    return f"%{text}%"
