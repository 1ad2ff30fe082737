"""`dna-pipeline watch`, `run` and `submit`: the commands that create jobs and run them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.quantities import about, jobs_text, number_of
from dna_pipeline.interfaces.cli.output import (
    JsonOption,
    clean,
    clean_on,
    config_file,
    load_to_write,
    print_json,
    say,
)
from dna_pipeline.interfaces.cli.serve import (
    HostOption,
    PortOption,
    TokenOption,
    require_packages,
)
from dna_pipeline.interfaces.cli.words import failure_text, hold_reason, short_path
from dna_pipeline.operations.lookup import require_utf8_names

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.operations.daemon.loop import Daemon
    from dna_pipeline.operations.daemon.server_process import ServerProcess
    from dna_pipeline.operations.submit import Submission


WAITS_SHOWN = 3
"""Maximum number of files that one message of waiting names."""


def watch(
    context: typer.Context,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print the log in place of the view of a terminal.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="As --plain, but of the log only warnings and errors.")
    ] = False,
    with_server: Annotated[
        bool, typer.Option("--serve", help="Run the HTTP server of `serve` beside it.")
    ] = False,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    token_file: TokenOption = None,
) -> None:
    """Watch the inboxes and work, until SIGTERM or Ctrl-C.

    On a terminal, daemon and queue are shown as they work; elsewhere the log is printed.
    """
    from dna_pipeline.interfaces.cli.live.terminal import can_show

    is_live = not (plain or quiet) and can_show(sys.stdout)
    server = _server_process(context, host, port, token_file) if with_server else None
    daemon = _daemon(context, server, console=not is_live or not sys.stderr.isatty(), quiet=quiet)
    if is_live:
        _watch_live(daemon)
    else:
        daemon.run()
    _leave_stuck_threads(daemon)


def _watch_live(daemon: Daemon) -> None:
    """Work, and show it on the terminal; at the end, list what ended meanwhile."""
    from dna_pipeline.base.logs import log_file, show_on_console
    from dna_pipeline.interfaces.cli.live.screen import LiveScreen
    from dna_pipeline.operations.overview import make_overview

    config = daemon.config
    log = clean_on(short_path(log_file(config.logs)))
    # Where standard error is no terminal, the log is there already.
    failed = show_on_console if sys.stderr.isatty() else lambda: None
    footer = ["Ctrl-C stops at a safe point", f"log: {log}"]
    screen = LiveScreen(footer, sys.stdout, failed)
    remark = "stopping at a safe point; Ctrl-C again ends at once"
    _stop_on_signals(daemon, partial(screen.end, remark))
    with screen.shown():
        # An edited pipeline.yaml may take the place of the first one.
        daemon.run(
            observe=lambda fields: screen.update(partial(make_overview, daemon.config, fields))
        )
    screen.print_results()


def _server_process(
    context: typer.Context, host: str, port: int, token_file: Path | None
) -> ServerProcess:
    """The server that runs beside the daemon. Raises `ConfigError` if it is not installed."""
    from dna_pipeline.operations.daemon.server_process import ServerProcess

    require_packages()
    settings = {
        "config": str(config_file(context).absolute()),
        "host": host,
        "port": port,
        "token_file": None if token_file is None else str(token_file.absolute()),
    }
    # By its name, since the daemon must not load what the server needs.
    return ServerProcess("dna_pipeline.interfaces.web.child", settings)


def _daemon(
    context: typer.Context,
    server: ServerProcess | None = None,
    *,
    console: bool = True,
    quiet: bool = False,
    table: tuple[Path, str | None] | None = None,
) -> Daemon:
    """Make the daemon of `watch` or `run`, with its log, and let signals stop it.

    Args:
        server: the HTTP server that runs beside it.
        console: show the log on standard error, too.
        quiet: show only warnings and errors of it there.
        table: a table and its rows, as written, that are done in the place of all else.
    """
    from dna_pipeline.base.logs import configure
    from dna_pipeline.operations.daemon.loop import Daemon

    require_utf8_names()
    config = load_to_write(context)
    chosen = None
    if table is not None:
        from dna_pipeline.operations.table_runs import choose_rows

        chosen = choose_rows(config, *table)
    configure(config.logs, console=console, quiet=quiet)
    daemon = Daemon(config, server=server, table=chosen)
    _stop_on_signals(daemon)
    return daemon


def _leave_stuck_threads(daemon: Daemon, status: int = 0) -> None:
    """End the process without waiting for threads that a dead disk blocks."""
    if daemon.is_stuck:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _stop_on_signals(daemon: Daemon, stopping: Callable[[], None] = lambda: None) -> None:
    """Let the first signal stop the daemon in order, and a second one kill it at once.

    Args:
        stopping: called at the first one, in the signal's handler.
    """

    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(_number: int, _: Any) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        stopping()
        daemon.stop()

    for number in numbers:
        signal.signal(number, stop)


def run(
    context: typer.Context,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE", help="Do rows of this table, and nothing else; no file is moved."
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS",
            help="Which rows of it: 7, 101-200, 101-, -200 or 1-10,15; default: all. In CSV, the "
            "names of the columns are row 1; in JSON Lines a row is a line.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take in what waits, work until nothing is runnable, and report."""
    from dna_pipeline.base.times import utcnow
    from dna_pipeline.operations.status import last_event, run_report

    if table is None and rows is not None:
        raise ConfigError("--rows: says which rows of a table; name it with --table")
    daemon = _daemon(context, table=None if table is None else (table, rows))
    before, since = last_event(daemon.config), utcnow()
    if table is None:
        daemon.run(until_idle=True, report_waits=_say_waits)
    else:
        _run_rows(daemon, prints=not (as_json or sys.stdout.isatty()))
    report = run_report(daemon.config, before, since, daemon.waiting)
    has_failed = bool(report["failed"]) or any(batch["wrong"] for batch in report["batches"])
    if table is not None:
        from dna_pipeline.operations.table_runs import table_report

        report["table"] = table_report(daemon)
        has_failed = not report["table"]["all_completed"]
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    _leave_stuck_threads(daemon, int(has_failed))
    if has_failed:
        raise typer.Exit(1)


def _run_rows(daemon: Daemon, *, prints: bool) -> None:
    """Do the rows of the daemon's table, with lines of progress if `prints`."""
    from dna_pipeline.interfaces.cli.farms import ProgressLines
    from dna_pipeline.operations.table_runs import TableProgress

    progress = TableProgress(daemon, ProgressLines().show if prints else lambda _: None)
    daemon.run(until_idle=True, report_waits=_say_waits, observe=progress.observe)
    progress.close()


def _say_waits(waits: list[dict[str, Any]]) -> None:
    """Say which files are waited for, why, and for how long at the most."""
    for wait in waits[:WAITS_SHOWN]:
        limit = "" if wait["seconds"] is None else f" (for {about(wait['seconds'])} at the most)"
        say(f"waiting for {wait['inbox']}/{wait['file']}: {wait['reason']}{limit}")
    if (more := len(waits) - WAITS_SHOWN) > 0:
        say(f"waiting for {number_of(more, 'more file')}")


def _print_report(report: dict[str, Any]) -> None:
    from dna_pipeline.operations.overview import left_alone_lines

    for job in report["jobs"]:
        why = f" ({job['code']})" if job["code"] else ""
        print(f"{job['status']:9}  {clean(job['name'])}{why}  {clean(job['folder'])}")
        if job["status"] == "failed":
            cause = failure_text(job["message"], job["detail"], job["hint"])
            print(f"{'cause':>9}  {clean(cause)}")
        for warning in job["warning_texts"]:
            print(f"{'warning':>9}  {clean(warning)}")
    print(
        f"{report['completed']} completed, {report['failed']} failed, "
        f"{report['cancelled']} cancelled"
    )
    for batch in report["batches"]:
        if batch["wrong"]:
            rows = f"{batch['wrong']:,} of {batch['rows']:,} rows of {batch['name']}"
            print(clean(f"wrong: {rows}; {batch['folder']}/batch.csv says what"))
    for hold in report["holds"]:
        number = "the whole queue" if hold["jobs"] is None else jobs_text(hold["jobs"])
        print(f"held: {number}, {clean(hold_reason(hold['code'], hold['detail']))}")
    for entry in report["waiting"]:
        where = f"{entry['inbox']}/{entry['file']}" if entry["file"] else entry["inbox"]
        print(f"waiting: {clean(where)}: {clean(entry['reason'])}")
    for line in left_alone_lines(report):
        print(f"left alone: {clean(line)}")
    if "table" in report:
        from dna_pipeline.interfaces.cli.farms import print_table

        print_table(report["table"])


def submit(
    context: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE…", help="Image files; `-` reads one from standard input."),
    ],
    pipeline: Annotated[
        str | None, typer.Option(help="Which pipeline; default: the first.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="STAGE.PARAM=V", help="A parameter.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The mask of all these images, white is repainted."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Wait for their end, and print lines like `Progress: 37%` meanwhile."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy images and queue them; prints their jobs' ids."""
    from dna_pipeline.operations.daemon.lock import is_held
    from dna_pipeline.operations.submit import submit_all

    config = load_to_write(context)
    if wait and not is_held(config.data):
        text = f"--wait: no daemon runs on {config.data}, so nothing would do the jobs"
        raise ConfigError(f"{text}; start `dna-pipeline watch` first, or leave out --wait")
    parameters = settings or []
    submissions = [(image, _submission(image, parameters, mask)) for image in images]
    if mask is not None and not mask.is_file():
        raise ConfigError(f"--mask {mask}: there is no such file")
    jobs, problems = submit_all(config, submissions, pipeline, parameters)
    if as_json:
        print_json([{"job": job} for job in jobs])
    elif jobs:
        print("\n".join(jobs), flush=True)
        is_run = is_held(config.data)
        say("the running daemon does them" if is_run else "`dna-pipeline watch` or `run` does them")
    has_failed = wait and bool(jobs) and not _all_completed(config, jobs, prints=not as_json)
    if problems:
        raise ConfigError("\n".join(problems))
    if has_failed:
        raise typer.Exit(1)


def _all_completed(config: Config, jobs: list[str], *, prints: bool) -> bool:
    """Wait for the end of jobs and say how they ended; True if all are completed."""
    from dna_pipeline.interfaces.cli.farms import print_outcomes, wait_for

    outcomes = wait_for(config, jobs, prints=prints)
    print_outcomes(outcomes)
    return set(outcomes) == {"completed"}


def _submission(image: str, settings: list[str], mask: Path | None) -> Submission:
    from dna_pipeline.operations.submit import Submission

    if image == "-":
        return Submission("stdin", sys.stdin.buffer, mask)
    if Path(image).is_dir():
        some = Path(image, "*.png")
        raise ConfigError(
            f"{image}: is a folder; name the images in it (`dna-pipeline submit {some}`), or copy "
            "them into the folder of an inbox"
        )
    if not Path(image).is_file():
        mend = '; put a value with blanks in quotes: --set img2img.prompt="a chair"'
        raise ConfigError(f"{image}: there is no such file{mend if settings else ''}")
    return Submission(Path(image).name, Path(image), mask)
