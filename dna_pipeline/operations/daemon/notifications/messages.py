"""Messages: an event of the ledger as one line for people and as data for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dna_pipeline.base.clock import to_minute
from dna_pipeline.base.layout import SHEET_PAGE
from dna_pipeline.base.naming import printable
from dna_pipeline.base.quantities import duration, jobs_text, number_of
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.base.times import format_time
from dna_pipeline.config.message_fields import FIELDS
from dna_pipeline.config.receivers import KINDS

LINE_CHARS = 800
NAME_CHARS = 120
DETAIL_CHARS = 300
TEXT_CHARS = 2000
"""Longest texts: a message stays far below the 20 kB of Standard Webhooks."""

_TYPES = {kind: name for name, kind in KINDS.items()}
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles, links
    r"|\x1b[@-_]?"
)
_DIRECTION = re.compile("[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")

Row = Mapping[str, Any]
"""An event with its job, as `ledger/report_queries.py: ReportQueries.events_with_jobs` returns
it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to a receiver.

    Attributes:
        id: the same for all attempts, also after a restart.
        type: `job.failed`, `batch.ended` and so on; `dropped` and `test` come unasked.
        line: one line for people, without control characters.
        data: values of the message for programs; JSON can hold them.
    """

    id: str
    type: str
    at: datetime
    line: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])

    def body(self) -> dict[str, Any]:
        """Give the message as Standard Webhooks lays it down."""
        data = {"line": self.line, **self.data}
        return {"type": self.type, "timestamp": format_time(self.at), "data": data}

    def fields(self) -> dict[str, str]:
        """Give the values of the fields of templates, each on one line."""
        own = {"line": self.line, "type": self.type, "id": self.id, "time": format_time(self.at)}
        values = {name: self.data.get(name) for name in FIELDS}
        return {name: plain("" if v is None else str(v)) for name, v in (values | own).items()}


def plain(text: str, limit: int = TEXT_CHARS) -> str:
    """Give text on one line that cannot steer a terminal: without control characters and sequences,
    and without signs that change the direction of text."""
    text = _DIRECTION.sub("", _ANSI.sub("", text))
    text = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class MessageWriter:
    """Writes the messages of one ledger's events.

    Args:
        outbox: the folder of results, whose paths messages name.
    """

    def __init__(self, ledger_id: str, outbox: Path, look: Look = look_directly) -> None:
        self._ledger_id = ledger_id
        self._outbox = outbox
        self._look = look

    def write(self, row: Row) -> Message:
        """Write the message of an event."""
        values = dict(self._values(row))
        line = _LINES[row["kind"]]({**values, "clock": to_minute(row["at"])[11:]})
        data = {key: value for key, value in values.items() if value is not None}
        return Message(
            id=f"msg_{self._ledger_id}_{row['id']}",
            type=_TYPES[row["kind"]],
            at=row["at"],
            line=plain(line, LINE_CHARS),
            data=data,
        )

    def dropped(self, number: int, cursor: int, at: datetime) -> Message:
        """Write the message about so many that were dropped, up to the event of that number."""
        what = number_of(number, "message was", "messages were")
        line = f"{what} dropped, since this receiver took none for 7 days; `jobs` lists all jobs"
        return Message(f"msg_{self._ledger_id}_dropped_{cursor}", "dropped", at, line,
                       {"dropped": number})  # fmt: skip

    def test(self, host: str, number: str, at: datetime) -> Message:
        """Write a message that tries a receiver."""
        line = plain(f"a test message of dna-pipeline on {host}; results are in {self._outbox}")
        return Message(f"msg_{self._ledger_id}_test_{number}", "test", at, line)

    def _values(self, row: Row) -> Iterator[tuple[str, Any]]:
        """Give the data of a message: that of the event, and of its job or batch."""
        if row["kind"] in ("completed", "failed"):
            yield from self._job_values(row)
            return
        for key, value in row["data"].items():
            yield key, _text(value) if isinstance(value, str) else value
        if row["kind"] == "batch_ended":
            yield from self._place(row["data"]["folder"])

    def _job_values(self, row: Row) -> Iterator[tuple[str, Any]]:
        yield "job", row["job_id"]
        for key in ("inbox", "name", "pipeline", "batch"):
            yield key, None if row[key] is None else _text(row[key], NAME_CHARS * 2)
        if row["kind"] == "completed":
            yield "seconds", _seconds(row["started_at"], row["finished_at"])
        else:
            yield "code", row["data"].get("code")
            yield "detail", _text(row["data"].get("detail") or "")
        if row["publish"] == "done" and row["publish_name"]:
            yield "folder", _text(str(self._outbox / row["publish_name"]))

    def _place(self, name: str) -> Iterator[tuple[str, Any]]:
        """Give the folder of a batch, and its contact sheet if there is one now."""
        folder = self._outbox / name
        yield "folder", _text(str(folder))
        if not self._look(self._outbox).is_silent and (folder / SHEET_PAGE).is_file():
            yield "sheet", _text(str(folder / SHEET_PAGE))


def _text(value: str, limit: int = TEXT_CHARS) -> str:
    """Give text that JSON in UTF-8 can hold, cut off where it is long."""
    text = printable(value) if not value.isascii() else value
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return round(max((end - start).total_seconds(), 0.0), 1)


# --- lines ---


def _completed(values: Row) -> str:
    time = "" if (seconds := values.get("seconds")) is None else f" in {duration(seconds)}"
    folder = f", in {values['folder']}" if values.get("folder") else ""
    return f"{_name(values)}: completed{time}{folder}"


def _failed(values: Row) -> str:
    detail = plain(values["detail"].split("\n")[0], DETAIL_CHARS)
    why = f": {detail}" if detail else ""
    folder = f", in {values['folder']}" if values.get("folder") else ""
    return f"{_name(values)}: failed, {values['code']}{why}{folder}"


def _batch_ended(values: Row) -> str:
    done = values["completed"] + values["skipped"]
    parts = [f"{done:,} of {values['rows']:,}"]
    parts += [
        f"{values[key]:,} {word}"
        for key, word in (
            ("failed", "failed"), ("wrong", "wrong"), ("cancelled", "cancelled"),
            ("skipped", "done before"),
        )
        if values[key]
    ]  # fmt: skip
    parts.append(f"ended {values['clock']}")
    sheet = values.get("sheet")
    parts.append(f"sheet: {sheet}" if sheet else f"in {values['folder']}")
    return f"{_name(values)}: {', '.join(parts)}"


def _queue_ended(values: Row) -> str:
    parts = [f"{values['completed']:,} completed"]
    parts += [f"{values[key]:,} {key}" for key in ("failed", "cancelled") if values[key]]
    parts.append(f"ended {values['clock']}")
    number = values["waiting"]
    rest = f"; {jobs_text(number)} still {'waits' if number == 1 else 'wait'}" if number else ""
    return f"the queue is at rest: {', '.join(parts)}{rest}"


def _hold_begun(values: Row) -> str:
    verb = "waits" if values["jobs"] == 1 else "wait"
    return f"{jobs_text(values['jobs'])} {verb}, {values['code']}: {values['detail']}"


def _hold_ended(values: Row) -> str:
    return f"{values['code']} has ended after {duration(values['seconds'])}; the jobs go on"


def _pause_begun(values: Row) -> str:
    if values["scope"] == "queue":
        return "the queue is paused; `dna-pipeline resume` frees it"
    return values["why"]


def _pause_ended(values: Row) -> str:
    if values["scope"] == "queue":
        return "the queue goes on"
    name = values["name"][:8] if values["scope"] == "batch" else repr(values["name"])
    return f"{values['scope']} {name} goes on"


_LINES = {
    "completed": _completed,
    "failed": _failed,
    "batch_ended": _batch_ended,
    "queue_ended": _queue_ended,
    "hold_begun": _hold_begun,
    "hold_ended": _hold_ended,
    "pause_begun": _pause_begun,
    "pause_ended": _pause_ended,
}


def _name(values: Row) -> str:
    """Give the name of an image or a table, and its inbox."""
    name = plain(values.get("name") or values.get("job") or "", NAME_CHARS)
    inbox = values.get("inbox")
    return f"{name} ({plain(inbox, NAME_CHARS)})" if inbox else name
