"""The report of `dna-pipeline check` for people: errors first, a one-line summary last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dna_pipeline.base.quantities import NO_HISTORY, about, jobs_text, number_of, size
from dna_pipeline.interfaces.cli.output import clean, print_table

SHOWN = 100
"""Maximum number of wrong rows that are printed, and of right ones."""

SHOWN_FILES = 10
"""Maximum number of waiting files that are printed, and of ignored ones."""

Record = dict[str, Any]


_NOTHING = "nothing waits in the inboxes"


def print_report(report: Record, shown: int | None) -> None:
    """Print the report of `check`.

    Args:
        shown: maximum number of wrong rows, and of right ones; None: all rows and files.
    """
    wrong = [job for job in report["jobs"] if job["error"]]
    right = [job for job in report["jobs"] if not job["error"] and not job["skipped"]]
    _print_jobs("what is wrong", wrong, _fault, "wrong", shown)
    for inbox in report["inboxes"]:
        if inbox["problem"]:
            print(clean(f"inbox {inbox['name']}: {inbox['problem']}"))
    for model in report["models"]:
        if text := model["missing"] or model["mismatch"]:
            print(clean(f"model {model['name']}: {_waiting_for(model)}; {text}"))
    for file in report["extra_files"]:
        if text := file["missing"] or file["mismatch"]:
            print(clean(f"{file['name']}: {_waiting_for(file)}; {text}"))
    for remark in report["remarks"]:
        print(clean(f"note: {remark['text']}"))
    _print_jobs("would run", right, _work, "", shown)
    _print_files("waiting", report["waiting"], shown)
    _print_files("left alone", report["ignored"], shown)
    print(summary(report))


def summary(report: Record) -> str:
    """Sum the report up in one line: `1 of 300 rows is wrong; 299 jobs, about 72 s, 672 MiB`."""
    return "; ".join(_clauses(report))


def _clauses(report: Record) -> Iterator[str]:
    counts: dict[str, int] = report["counts"]
    bad = sum(inbox["problem"] is not None for inbox in report["inboxes"])
    if counts["wrong"]:
        yield _wrong_of(counts)
    elif not bad and not counts["lacking"] and not counts["mismatched"]:
        yield _nothing_wrong(report)
    if bad:
        yield f"{number_of(bad, 'inbox', 'inboxes')} cannot be used"
    if counts["jobs"]:
        time = NO_HISTORY if report["seconds"] is None else about(report["seconds"])
        yield f"{jobs_text(counts['jobs'])}, {time}, {size(max(report['disk_bytes'], 1 << 20))}"
    elif not report["waiting"]:
        yield "nothing would run" if counts["wrong"] or counts["skipped"] else _NOTHING
    yield from _of_them(counts)
    if counts["skipped"]:
        yield f"{counts['skipped']:,} done before and skipped"
    if report["waiting"]:
        yield f"{number_of(len(report['waiting']), 'file')} left waiting"
    if report["ignored"]:
        yield f"{number_of(len(report['ignored']), 'entry', 'entries')} left alone"
    if queued := report["queued"]:
        verb = "is" if queued == 1 else "are"
        yield f"{jobs_text(queued)} {verb} in the queue (`dna-pipeline status`)"


def _of_them(counts: dict[str, int]) -> Iterator[str]:
    if counts["reusing"]:
        yield f"{counts['reusing']:,} of them take results of other jobs"
    if counts["lacking"]:
        yield f"{jobs_text(counts['lacking'])} would wait for weights"
    if counts["mismatched"]:
        yield f"{jobs_text(counts['mismatched'])} would fail by a wrong file of a model"


def _nothing_wrong(report: Record) -> str:
    """Say that nothing is wrong, or with what, if models are missing that nothing needs now."""
    missing = sum(model["missing"] is not None for model in report["models"])
    wrong = sum(bool(not m["missing"] and m["mismatch"]) for m in report["models"])
    if not missing and not wrong:
        return "nothing is wrong"
    clauses = [f"{number_of(missing, 'model')} {'is' if missing == 1 else 'are'} missing"]
    if wrong:
        verb = "has a wrong file" if wrong == 1 else "have wrong files"
        clauses = [*clauses[: bool(missing)], f"{number_of(wrong, 'model')} {verb}"]
    models = "; ".join(clauses)
    has_work = report["counts"]["jobs"] or report["waiting"]
    return f"nothing is wrong with what waits; {models}" if has_work else models


def _wrong_of(counts: dict[str, int]) -> str:
    wrong, rows, files = counts["wrong"], counts["rows"], counts["files"]
    kinds = ("row", "rows") if not files else ("file", "files")
    one, many = ("row or file", "rows and files") if rows and files else kinds
    verb = "is" if wrong == 1 else "are"
    return f"{wrong:,} of {rows + files:,} {one if rows + files == 1 else many} {verb} wrong"


def _waiting_for(model: Record) -> str:
    number: int = model["jobs"]
    if not number:
        return "nothing that lies in the inboxes needs it"
    return f"{jobs_text(number)} would {'wait for it' if model['missing'] else 'fail'}"


def _print_jobs(title: str, jobs: list[Record], last: Any, kind: str, shown: int | None) -> None:
    if not jobs:
        return
    rows = [(job["inbox"], job["file"], _sidecar(job), last(job)) for job in jobs[:shown]]
    print_table(("inbox", "file", "sidecar or table", title), rows)
    if more := len(jobs) - len(rows):
        print(f"and {more:,} more{' that are ' if kind else ''}{kind}; `check --all` lists them")


def _fault(job: Record) -> str:
    return f"{job['error']}: {'; '.join(job['detail'].splitlines())}"


def _work(job: Record) -> str:
    lacks = f" (waits for the weights of {', '.join(job['lacks'])})" if job["lacks"] else ""
    wrong = f" (fails by a wrong file of {', '.join(job['mismatched'])})"
    parts = [name if part == "all" else f"{part} of {name}" for name, part in job["reuse"].items()]
    reuse = f" (takes from other jobs: {', '.join(parts)})" if parts else ""
    return f"{job['pipeline']}{reuse}{lacks}{wrong if job['mismatched'] else ''}"


def _sidecar(job: Record) -> str:
    if job["row"] is None:
        return job["sidecar"] or ""
    return f"{job['sidecar']} row {job['row']}"


def _print_files(title: str, entries: Sequence[Record], shown: int | None) -> None:
    """Print a line for each file; for the first few alone unless `shown` is None."""
    limit = None if shown is None else SHOWN_FILES
    for entry in entries[:limit]:
        print(clean(f"{title} {entry['inbox']}/{entry['file']}: {entry['reason']}"))
    if limit is not None and (more := len(entries) - limit) > 0:
        print(f"{title} and {more:,} more")
