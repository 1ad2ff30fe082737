"""Rounds of inboxes."""

from __future__ import annotations

from dna_pipeline.operations.inbox_progress import InboxProgress


def test_a_round_counts_from_the_first_job_to_the_last():
    progress = InboxProgress()

    def step(queued: int, completed: int, failed: int = 0) -> tuple[int, int]:
        queue = {"queued": {"in": queued}, "completed": {"in": completed}, "failed": {"in": failed}}
        numbers = progress.step(queue, ["in"])["in"]
        return numbers["done"], numbers["total"]

    assert step(0, 100) == (0, 0), "what ended before belongs to no round"
    assert step(4, 100) == (0, 4)
    assert step(2, 101, 1) == (2, 4)
    assert step(5, 102, 1) == (3, 8), "more came meanwhile"
    assert step(0, 106, 2) == (8, 8)
    assert step(0, 106, 2) == (8, 8), "it stays until the next round"
    assert step(1, 108, 2) == (2, 3), "two of the new round ended between two looks"
    assert step(4, 105, 2) == (0, 4), "a retry takes back what had ended"


def test_inboxes_are_listed_without_jobs_and_jobs_without_an_inbox():
    counted = InboxProgress().step({"running": {"submit": 1}, "failed": {"gone": 3}}, ["in"])
    assert counted == {"in": {"done": 0, "total": 0}, "submit": {"done": 0, "total": 1}}
