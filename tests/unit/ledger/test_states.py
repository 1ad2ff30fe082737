"""The table of a job's states: it is drawn in the docs, and nothing else writes the state."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dna_pipeline.ledger import queue, states
from dna_pipeline.ledger.states import ENDS, OPEN, TRANSITIONS

ROOT = Path(__file__).parents[3]
STATES = (*OPEN, *ENDS)


def test_the_docs_draw_the_same_table() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = text.split("| transition | from | to | when |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines()[2:]]
    drawn = {name: (set(a.split(", ")), set(b.split(", "))) for name, a, b in rows}
    assert drawn == {name: (set(t.sources), set(t.targets)) for name, t in TRANSITIONS.items()}


@pytest.mark.parametrize("name", TRANSITIONS)
@pytest.mark.parametrize("before", STATES)
def test_a_job_moves_only_as_the_table_allows(book, name: str, before: str) -> None:
    sources, targets = TRANSITIONS[name]
    for target in targets:
        job_id = book.add()
        book.set(job_id, status=before)
        moved = book.ledger.transact(
            lambda s, i=job_id, t=target: states.move(s, name, i, status=t, stage="x")
        )
        assert moved == (before in sources)
        job = book.job(job_id)
        assert (job.status, job.stage) == ((target, "x") if moved else (before, None))


def test_a_transition_to_another_state_is_an_error(book) -> None:
    job_id = book.add()
    with pytest.raises(ValueError, match="leads to queued or failed, not to 'running'"):
        book.ledger.transact(lambda s: states.move(s, "replace", job_id, status="running"))
    assert book.job(job_id).status == "queued"


@pytest.mark.parametrize("before", STATES)
def test_the_claim_is_the_transition_that_starts_a_job(book, before: str) -> None:
    sources, (target,) = TRANSITIONS["start"]
    job_id = book.add()
    book.set(job_id, status=before)
    claimed = book.ledger.transact(queue.claim_next)
    assert (claimed is not None) == (before in sources)
    assert book.job(job_id).status == (target if claimed else before)


def test_nothing_else_writes_the_state() -> None:
    writes = re.compile(r"SET status|values\([^)]*status=(?!target)|^\s*(?!self)\w+\.status = ")
    found = [
        (path.relative_to(ROOT).as_posix(), line)
        for path in (ROOT / "dna_pipeline").rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if writes.search(line) and "BatchRow" not in line
    ]
    assert found == [("dna_pipeline/ledger/queue.py", found[0][1])], found
    assert "UPDATE jobs SET status = 'running'" in found[0][1]
