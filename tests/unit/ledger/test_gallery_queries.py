"""Results in pages, and what is found in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.times import format_time
from dna_pipeline.ledger.gallery_queries import Choice, GalleryQueries
from dna_pipeline.ledger.sqlite import sqlite_module
from tests.ledgers import lay_out

AT = datetime(2026, 12, 1, 12, tzinfo=UTC)
_COLUMNS = """id, drop_id, inbox, folder, name, stem, pipeline, priority, status, stages, models,
    tags, meta, attempt, crashes, interruptions, cancel_requested, batch, publish, created_at,
    finished_at"""


class Results:
    """A ledger with rows of jobs, and questions to it."""

    def __init__(self, path: Path) -> None:
        lay_out(path)
        self._connection: Any = sqlite_module().connect(str(path), isolation_level=None)
        self.queries = GalleryQueries(path)
        self._number = 0

    def add(
        self, name: str = "a.png", *, inbox: str = "in", status: str = "completed",
        batch: str | None = None, tags: Any = (), meta: Any = None, prompt: str = "",
        after_s: float = 0, publish: str | None = "done",
    ) -> str:  # fmt: skip
        self._number += 1
        job = f"{self._number:032x}"
        stages = [{"id": "img2img", "type": "img2img", "params": {"prompt": prompt, "steps": 3}}]
        at = format_time(AT + timedelta(seconds=after_s))
        values = [
            job, "d", inbox, "", name, name, "p", 0, status, json.dumps(stages), "",
            json.dumps(list(tags)), json.dumps(meta or {}), 1, 0, 0, 0, batch, publish, at, at,
        ]  # fmt: skip
        marks = ", ".join("?" for _ in values)
        self._connection.execute(f"INSERT INTO jobs ({_COLUMNS}) VALUES ({marks})", values)
        return job

    def names(self, choice: Choice | None = None, **facts: Any) -> list[str]:
        chosen = Choice(**facts) if choice is None else choice
        return [row["name"] for row in self.queries.results(chosen, 100)]

    def close(self) -> None:
        self._connection.close()
        self.queries.close()


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with closing(Results(tmp_path / "ledger.db")) as results:
        yield results


def test_pages_follow_one_another_though_many_jobs_end_at_one_time(results: Results):
    ids = [results.add(f"{n}.png", after_s=n // 10) for n in range(25)]
    seen: list[str] = []
    after = None
    while page := results.queries.results(Choice(), 4, after):
        seen += [row["id"] for row in page]
        after = page[-1]["finished_at"], page[-1]["seq"]
    assert seen == ids[::-1]
    back = results.queries.results(Choice(), 2, after, is_backward=True)
    assert [row["id"] for row in back] == ids[1:3]


def test_a_job_without_a_folder_is_no_result(results: Results):
    results.add(publish="pending")
    job = results.add("running.png", status="running", publish=None)
    assert results.names() == []
    assert results.queries.place_of(job) is None


def test_results_are_chosen_by_what_the_ledger_knows(results: Results):
    results.add("a", inbox="one", batch="b1", after_s=-1)
    results.add("b", inbox="two", status="failed")
    results.add("c", inbox="two", after_s=1)
    assert results.names(inbox="two") == ["c", "b"]
    assert results.names(inbox="two", status="failed") == ["b"]
    assert results.names(batch="b1") == ["a"]
    assert results.names(since=AT, before=AT + timedelta(seconds=1)) == ["b"]
    assert results.queries.inboxes_of_results() == ["one", "two"]


@pytest.mark.parametrize(
    "text",
    ["chair", "CHAIR legs", "ashwood", "tÄgel", "tägel 7", "shot-12", "Müller", "MÜLLER", "oak",
     "100%", 'a"b', "client", "猫"],
)  # fmt: skip
def test_each_word_is_found_in_name_tags_meta_or_prompt(results: Results, text: str):
    results.add(
        "Chair_legs.png", tags=["Ashwood", "Tägel"], prompt='an oak, 100% a"b 猫',
        meta={"shot": {"name": "shot-12", "by": ["müller"]}, "client": 7},
    )  # fmt: skip
    results.add("other.png", tags=["x"], prompt="nothing", meta={"a": 1})
    assert results.names(text=text) == ["Chair_legs.png"]


@pytest.mark.parametrize(
    "text",
    ["chair oak", "chair%", "chai_", "img2img", "steps", "params", "!", "\\u00e4", "''", "["],
)
def test_what_only_the_stored_text_has_is_not_found(results: Results, text: str):
    results.add("chair.png", tags=["Tägel"], meta={"a": [1]}, prompt="a pine")
    assert results.names(text=text) == []
