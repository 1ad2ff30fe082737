"""The commands on batches; no daemon, no models."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dna_pipeline.base.errors import BlackImage
from dna_pipeline.interfaces.cli.main import main
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.tables import Batch, Job
from dna_pipeline.operations.retry import Retrier
from tests.integration.conftest import Site
from tests.integration.test_cli import picture


@dataclass(frozen=True)
class Done:
    """How a call ended, and what it wrote."""

    returncode: int | str | None
    stdout: str
    stderr: str


class Program:
    """The commands as they are called, but in this process: many calls, each cheap."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(folder)
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["dna-pipeline", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return Done(end.value.code, *self._capsys.readouterr())

    def facts(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)


@pytest.fixture
def call(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Program:
    return Program(site.root, monkeypatch, capsys)


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """Two batches of three and a job that is in none; of the first batch one job failed."""
    site = make_site(source_roots=["library"])
    (site.root / "library").mkdir()
    for name in ("all", "more"):
        for number in range(3):
            path = picture(site.root / f"library/{name}{number}.png")
            path.write_bytes(path.read_bytes() + path.name.encode())
        site.put(f"{name}.yaml", f'images: "{name}*.png"\n')
        site.settle()
    site.put("alone.png", "alone")
    site.settle()
    job = site.claim_next()
    assert job.name == "all0.png"
    site.ledger.transact(lambda s: queue.fail(s, job.id, BlackImage().failure()))
    site.publish()
    return site


def batch(site: Site, stem: str) -> str:
    return next(found.id for found in site.rows(Batch) if found.stem == stem)


def spellings(site: Site, stem: str) -> list[str]:
    """All that a batch may be called by."""
    whole = batch(site, stem)
    folder = f"{stem}-{whole[:8]}"
    return [whole, whole[:8], whole[:8].upper(), folder, f"in/{folder}", f"in/{folder}/"]


def of_batches(site: Site) -> dict[str, Counter[str]]:
    """How many jobs are in each state, by the batch's stem; "" for those in none."""
    stems = {found.id: found.stem for found in site.rows(Batch)}
    found: dict[str, Counter[str]] = {}
    for job in site.jobs():
        told = f"{job.status} ({job.hold})" if job.hold else job.status
        found.setdefault(stems.get(job.batch or "", ""), Counter())[told] += 1
    return found


@pytest.mark.slow
def test_jobs_of_a_batch_by_whatever_name(site: Site, call: Program) -> None:
    for name in spellings(site, "more"):
        listed = call.facts("jobs", "--batch", name)
        assert [job["name"] for job in listed] == ["more2.png", "more1.png", "more0.png"]
    failed = call.facts("jobs", "--batch", batch(site, "all")[:8], "--status", "failed")
    assert [job["name"] for job in failed] == ["all0.png"]


@pytest.mark.slow
def test_cancel_a_batch(site: Site, call: Program) -> None:
    done = call("cancel", "--batch", batch(site, "all")[:8])
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["cancelled", "cancelled"]
    assert of_batches(site) == {
        "all": {"failed": 1, "cancelled": 2}, "more": {"queued": 3}, "": {"queued": 1},
    }  # fmt: skip
    again = call.facts("cancel", "--batch", batch(site, "more"))
    assert [entry["was"] for entry in again] == ["queued"] * 3


@pytest.mark.slow
def test_retry_what_failed_of_a_batch(site: Site, call: Program) -> None:
    call("cancel", "--batch", batch(site, "more")[:8])
    site.publish()
    name = f"all-{batch(site, 'all')[:8]}"
    done = call("retry", "--failed", "--batch", name)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert of_batches(site)["all"] == {"queued": 3}
    assert of_batches(site)["more"] == {"cancelled": 3}
    assert len(call.facts("retry", "--failed", "--batch", batch(site, "more"))) == 3
    assert of_batches(site)["more"] == {"queued": 3}
    nothing = call("retry", "--failed", "--batch", name)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "nothing of that batch failed" in nothing.stderr


@pytest.mark.slow
def test_retry_all_that_failed(site: Site, call: Program) -> None:
    """What was cancelled stays so, unless it is of a batch that is named."""
    call("cancel", "--batch", batch(site, "more"))
    for job in [site.claim_next() for _ in range(2)]:
        site.ledger.transact(lambda s, i=job.id: queue.fail(s, i, BlackImage("all").failure()))
    site.publish()
    failed = [job.id for job in site.jobs() if job.status == "failed"]
    assert len(failed) == 3
    assert call.facts("retry", "--failed", "--inbox", "submit") == []
    done = call("retry", "--failed", "--inbox", "in")
    assert done.stdout.splitlines() == [f"{job_id[:8]} queued" for job_id in failed]
    assert done.stderr == "3 jobs cancelled: left so; `retry JOB…` queues them again\n"
    nothing = call("retry", "--failed")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr.startswith("no job has failed\n3 jobs cancelled")


@pytest.mark.slow
def test_retry_of_very_many(site: Site, call: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is begun at once, and none needs more of memory than its id until then."""
    before = site.jobs()[0]
    columns = [column.name for column in Job.__table__.columns if column.name not in ("seq", "id")]
    names = ", ".join(columns)
    many = (
        f"INSERT INTO jobs (id, {names}) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
        f"SELECT i + 1 FROM n WHERE i < 100000) SELECT printf('%032x', i), {names} FROM n, jobs "
        f"WHERE id = '{before.id}'"
    )
    site.ledger.transact(lambda s: s.execute(text(many)))
    assert before.status == "failed"
    peak: list[int] = []

    def stop(_: Retrier, job_id: str, prober: object) -> None:
        peak.append(tracemalloc.get_traced_memory()[1])
        raise KeyboardInterrupt

    monkeypatch.setattr(Retrier, "retry", stop)
    tracemalloc.start()
    try:
        call("retry", "--failed")
    finally:
        tracemalloc.stop()
    assert len(peak) == 1
    assert peak[0] < 100 << 20


@pytest.mark.slow
def test_pause_and_resume_a_batch(site: Site, call: Program) -> None:
    for name in spellings(site, "all")[1:4]:
        done = call("pause", "--batch", name)
        assert done.returncode == 0, done.stderr
        assert "resume --batch" in done.stderr
        assert of_batches(site) == {
            "all": {"failed": 1, "queued (paused)": 2}, "more": {"queued": 3}, "": {"queued": 1},
        }  # fmt: skip
        assert site.ledger.transact(queue.next_runnable) is not None
        told = call.facts("status")
        assert ["is paused" in str(b["paused"]) for b in told["batches"]] == [False, True]
        assert [(hold["code"], hold["jobs"]) for hold in told["holds"]] == [("paused", 2)]
        assert call("resume", "--batch", name).returncode == 0
        assert of_batches(site)["all"] == {"failed": 1, "queued": 2}
    call("pause", "--batch", batch(site, "all"))
    call("pause", "--batch", batch(site, "more"))
    call("resume", "--batch", batch(site, "all"))
    assert of_batches(site)["more"] == {"queued (paused)": 3}
    call("resume")
    assert call.facts("status")["holds"] == []


@pytest.mark.slow
def test_status_shows_batches_that_are_not_done(site: Site, call: Program) -> None:
    site.accounts().write()
    names = {stem: f"in/{stem}-{batch(site, stem)[:8]}" for stem in ("all", "more")}
    told = {b["folder"]: (b["rows"], b["jobs"]) for b in call.facts("status")["batches"]}
    assert told == {
        names["all"]: (3, {"failed": 1, "queued": 2}), names["more"]: (3, {"queued": 3}),
    }  # fmt: skip
    lines = call("status").stdout.splitlines()
    (line,) = [line for line in lines if names["all"] in line and line.startswith("batch")]
    assert line.endswith("1 failed, 2 queued")
    for _ in range(3):
        site.run_next()
    while site.ledger.transact(queue.next_runnable) is not None:
        site.run_next()
    site.accounts().write()
    assert call.facts("status")["batches"] == []
    # One that is done can still be named.
    assert len(call.facts("jobs", "--batch", names["more"])) == 3


WRONG_CALLS = {
    "jobs --batch 00zz": "no batch's id begins with '00zz'",
    "jobs --batch=": "begin with ''",
    "jobs --batch -": "begin with ''",
    "cancel": "name jobs, or one batch with --batch",
    "cancel {job} --batch {batch}": "name jobs, or one batch with --batch",
    "cancel --batch 00zz": "no batch's id begins with '00zz'",
    "retry": "name jobs, or one batch with --batch",
    "retry {job} --failed": "`retry --failed --batch B`",
    "retry --inbox in": "`retry --failed --inbox I`",
    "retry {job} --failed --inbox in": "`retry --failed --inbox I`",
    "retry --failed --inbox none": "no inbox is called 'none'; there are: in",
    "retry --batch {batch}": "`retry --failed --batch B`",
    "retry {job} --failed --batch {batch}": "name jobs, or one batch with --batch",
    "retry --failed --batch 00zz": "no batch's id begins with '00zz'",
    "pause --batch 00zz": "no batch's id begins with '00zz'",
    "resume --batch {job}": "no batch's id begins with",
    "resume --batch all": "no batch's id begins with",
}


@pytest.mark.slow
def test_wrong_calls_say_what_is_right(site: Site, call: Program) -> None:
    before = of_batches(site)
    names = {"job": site.jobs()[0].id[:12], "batch": batch(site, "all")[:12]}
    for written, sentence in WRONG_CALLS.items():
        done = call(*written.format(**names).split(" "))
        assert (done.returncode, done.stdout) == (2, ""), written
        assert sentence in done.stderr, written
        assert "Traceback" not in done.stderr
    assert of_batches(site) == before
    assert call.facts("status")["holds"] == []
