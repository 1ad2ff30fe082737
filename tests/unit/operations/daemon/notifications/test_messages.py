"""Lines that people read, and data for programs."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.clock import to_minute
from dna_pipeline.operations.daemon.notifications.messages import MessageWriter, plain

AT = datetime(2026, 11, 29, 21, 12, tzinfo=UTC)
CLOCK = to_minute(AT)[11:]
BATCH = {
    "batch": "1a2b3c4d", "inbox": "night", "name": "shots.csv", "folder": "night/shots-1a2b3c4d",
    "seconds": 12.0, "rows": 300, "wrong": 0, "skipped": 0, "completed": 298, "failed": 2,
    "cancelled": 0,
}  # fmt: skip


def row(kind: str, data: dict[str, Any] | None = None, **job: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("inbox", "name", "pipeline", "batch", "publish", "publish_name",
                           "started_at", "finished_at"))  # fmt: skip
    about = {"id": 7, "job_id": "", "at": AT, "kind": kind, "data": data or {}}
    return {**about, **empty, **job}


def job_row(kind: str, data: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "job_id": "ab" * 16, "inbox": "photos", "name": "cat.png", "pipeline": "cut",
        "publish": "done", "publish_name": "photos/cat-abababab",
        "started_at": AT - timedelta(seconds=34), "finished_at": AT,
    }  # fmt: skip
    return row(kind, data, **values | changes)


@pytest.fixture
def writer(tmp_path: Path) -> MessageWriter:
    return MessageWriter("led", tmp_path)


def line(writer: MessageWriter, event: dict[str, Any]) -> str:
    return writer.write(event).line


def test_a_completed_job(writer: MessageWriter, tmp_path: Path):
    message = writer.write(job_row("completed"))
    folder = str(tmp_path / "photos/cat-abababab")
    assert message.line == f"cat.png (photos): completed in 34.0 s, in {folder}"
    assert message.type == "job.completed"
    assert message.id == "msg_led_7"
    assert message.data["folder"] == folder


def test_a_failed_job_says_why_and_where(writer: MessageWriter, tmp_path: Path):
    event = job_row("failed", {"code": "image_unreadable", "detail": "it is torn\nand more"})
    folder = tmp_path / "photos/cat-abababab"
    assert line(writer, event) == (
        f"cat.png (photos): failed, image_unreadable: it is torn, in {folder}"
    )


def test_a_failed_job_without_a_folder_yet(writer: MessageWriter):
    event = job_row("failed", {"code": "black_image", "detail": ""}, publish="pending")
    assert line(writer, event) == "cat.png (photos): failed, black_image"


def test_a_job_that_is_gone_from_the_ledger(writer: MessageWriter):
    assert line(writer, row("completed", job_id="abc")) == "abc: completed"


def test_a_batch_names_its_folder(writer: MessageWriter, tmp_path: Path):
    folder = tmp_path / BATCH["folder"]
    assert line(writer, row("batch_ended", BATCH)) == (
        f"shots.csv (night): 298 of 300, 2 failed, ended {CLOCK}, in {folder}"
    )


def test_a_batch_names_its_contact_sheet_if_there_is_one(writer: MessageWriter, tmp_path: Path):
    sheet = tmp_path / BATCH["folder"] / "index.html"
    sheet.parent.mkdir(parents=True)
    sheet.touch()
    message = writer.write(row("batch_ended", BATCH))
    assert message.line.endswith(f", sheet: {sheet}")
    assert message.fields()["sheet"] == str(sheet)


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("queue_ended", {"completed": 298, "failed": 2, "cancelled": 0, "waiting": 1},
         f"the queue is at rest: 298 completed, 2 failed, ended {CLOCK}; 1 job still waits"),
        ("hold_begun", {"code": "disk_full", "detail": "/data has 1 MiB free", "jobs": 5},
         "5 jobs wait, disk_full: /data has 1 MiB free"),
        ("hold_ended", {"code": "disk_full", "seconds": 7500.0},
         "disk_full has ended after 2 h 5 min; the jobs go on"),
        ("pause_begun", {"scope": "queue", "name": "", "why": ""},
         "the queue is paused; `dna-pipeline resume` frees it"),
        ("pause_begun", {"scope": "pipeline", "name": "cut", "why": "pipeline 'cut' is paused"},
         "pipeline 'cut' is paused"),
        ("pause_ended", {"scope": "batch", "name": "1a2b3c4d5e", "why": ""},
         "batch 1a2b3c4d goes on"),
    ],
)  # fmt: skip
def test_other_lines(writer: MessageWriter, kind: str, data: dict[str, Any], expected: str):
    assert line(writer, row(kind, data)) == expected


def test_dropped_messages_are_counted(writer: MessageWriter):
    message = writer.dropped(40, 9, AT)
    assert message.line.startswith("40 messages were dropped")
    assert (message.type, message.data) == ("dropped", {"dropped": 40})


HOSTILE = [
    ("\x1b[31mred\x1b[0m.png", "red.png"),
    ("a\nb\r\nc\td.png", "a b c d.png"),
    ("\x1b]0;title\x07x.png", "x.png"),
    ("\x9b2Jx\x00y.png", "xy.png"),
    ("abc\u202egnp.exe", "abcgnp.exe"),
    ("a\u2028b\u2029c", "abc"),
    (os.fsdecode(b"\xff\xfe.png"), ".png"),
]


@pytest.mark.parametrize(("name", "expected"), HOSTILE)
def test_hostile_names_steer_nothing(writer: MessageWriter, name: str, expected: str):
    message = writer.write(job_row("completed", name=name, publish_name=None))
    assert plain(name) == expected
    assert message.line.isprintable()
    assert all(value.isprintable() for value in message.fields().values())
    json.dumps(message.body()).encode()


def test_a_message_stays_far_below_20_kilobytes(writer: MessageWriter):
    event = job_row("failed", {"code": "stage_failed", "detail": "ö" * 16_000}, name="x" * 5000)
    assert len(json.dumps(writer.write(event).body())) < 16_000
