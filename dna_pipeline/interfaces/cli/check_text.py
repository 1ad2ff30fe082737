"""What `dna-pipeline check` found, for people: the wrong first, and all of it in one line last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dna_pipeline.interfaces.cli.output import NO_HISTORY, about, clean, jobs_text, print_table
from dna_pipeline.interfaces.cli.words import number_of, size

SHOWN = 100
"""So many wrong rows, and so many right ones, are printed of thousands."""

SHOWN_FILES = 10
"""So many files are listed that wait, or that are left alone."""

Facts = dict[str, Any]


_NOTHING = "nothing waits in the inboxes"


def print_facts(facts: Facts, shown: int | None) -> None:
    """Print what `check` found.

    Args:
        shown: how many wrong and how many right rows at the most; None: all.
    """
    wrong = [job for job in facts["jobs"] if job["error"]]
    right = [job for job in facts["jobs"] if not job["error"] and not job["skipped"]]
    _print_jobs("what is wrong", wrong, _fault, "wrong", shown)
    for inbox in facts["inboxes"]:
        if inbox["problem"]:
            print(clean(f"inbox {inbox['name']}: {inbox['problem']}"))
    for model in facts["models"]:
        if model["missing"]:
            print(clean(f"model {model['name']}: {model['missing']}; {_waiting_for(model)}"))
    for remark in facts["remarks"]:
        print(clean(f"note: {remark['text']}"))
    _print_jobs("would run", right, _work, "", shown)
    _print_files("waiting", facts["waiting"], shown)
    _print_files("left alone", facts["ignored"], shown)
    print(summary(facts))


def summary(facts: Facts) -> str:
    """All of it in one line, like `1 of 300 rows is wrong; 299 jobs, about 72 s, 672 MiB`."""
    return "; ".join(_clauses(facts))


def _clauses(facts: Facts) -> Iterator[str]:
    counts: dict[str, int] = facts["counts"]
    bad = sum(inbox["problem"] is not None for inbox in facts["inboxes"])
    if counts["wrong"]:
        yield _wrong_of(counts)
    elif not bad and not counts["lacking"]:
        yield "nothing is wrong"
    if bad:
        yield f"{number_of(bad, 'inbox', 'inboxes')} cannot be used"
    if counts["jobs"]:
        time = NO_HISTORY if facts["seconds"] is None else about(facts["seconds"])
        yield f"{jobs_text(counts['jobs'])}, {time}, {size(max(facts['disk_bytes'], 1 << 20))}"
    elif not facts["waiting"]:
        yield "nothing would run" if counts["wrong"] or counts["skipped"] else _NOTHING
    if counts["lacking"]:
        yield f"{jobs_text(counts['lacking'])} would wait for weights"
    if counts["skipped"]:
        yield f"{counts['skipped']:,} done before and skipped"
    if facts["waiting"]:
        yield f"{number_of(len(facts['waiting']), 'file')} left waiting"
    if facts["ignored"]:
        yield f"{number_of(len(facts['ignored']), 'entry', 'entries')} left alone"


def _wrong_of(counts: dict[str, int]) -> str:
    wrong, rows, files = counts["wrong"], counts["rows"], counts["files"]
    kinds = ("row", "rows") if not files else ("file", "files")
    one, many = ("row or file", "rows and files") if rows and files else kinds
    verb = "is" if wrong == 1 else "are"
    return f"{wrong:,} of {rows + files:,} {one if rows + files == 1 else many} {verb} wrong"


def _waiting_for(model: Facts) -> str:
    number: int = model["jobs"]
    if not number:
        return "nothing that lies in the inboxes needs it"
    return f"{jobs_text(number)} would wait for it"


def _print_jobs(title: str, jobs: list[Facts], last: Any, kind: str, shown: int | None) -> None:
    if not jobs:
        return
    rows = [(job["inbox"], job["file"], _sidecar(job), last(job)) for job in jobs[:shown]]
    print_table(("inbox", "file", "sidecar or table", title), rows)
    if more := len(jobs) - len(rows):
        print(f"and {more:,} more{' that are ' if kind else ''}{kind}; `check --all` lists them")


def _fault(job: Facts) -> str:
    return f"{job['error']}: {'; '.join(job['detail'].splitlines())}"


def _work(job: Facts) -> str:
    lacks = f" (waits for the weights of {', '.join(job['lacks'])})" if job["lacks"] else ""
    return f"{job['pipeline']}{lacks}"


def _sidecar(job: Facts) -> str:
    if job["row"] is None:
        return job["sidecar"] or ""
    return f"{job['sidecar']} row {job['row']}"


def _print_files(title: str, entries: Sequence[Facts], shown: int | None) -> None:
    """A line for each, or for the first few of many."""
    limit = None if shown is None else SHOWN_FILES
    for entry in entries[:limit]:
        print(clean(f"{title} {entry['inbox']}/{entry['file']}: {entry['reason']}"))
    if limit is not None and (more := len(entries) - limit) > 0:
        print(f"{title} and {more:,} more")
