"""`dna-pipeline service`: starts the daemon with the machine."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dna_pipeline.base.errors import ServiceFailed
from dna_pipeline.interfaces.cli.fitting import print_titled
from dna_pipeline.interfaces.cli.output import JsonOption, clean, config_file, print_json, say
from dna_pipeline.interfaces.cli.serve import (
    HostOption,
    PortOption,
    TokenOption,
    require_packages,
)

if TYPE_CHECKING:
    from dna_pipeline.operations.service.system import ServiceStatus

service = typer.Typer(
    name="service",
    help="Start the daemon with the machine: install, status, remove.",
    no_args_is_help=True,
)

SystemOption = Annotated[
    bool,
    typer.Option(
        "--system", help="A service of the machine, not of yours; needs root (as root: always so)."
    ),
]

_TITLES = {
    "pid": "process", "since": "since", "says": "says", "restarts": "restarts", "result": "result",
    "lingers": "lingers", "log": "log",
}  # fmt: skip


@service.command()
def install(
    context: typer.Context,
    system: SystemOption = False,
    run_as: Annotated[
        str | None,
        typer.Option(
            "--run-as",
            metavar="NAME",
            help="With --system: who the daemon runs as; default: the owner of the folder.",
        ),
    ] = None,
    with_server: Annotated[
        bool, typer.Option("--serve", help="Run the HTTP server of `serve` beside the daemon.")
    ] = False,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    token_file: TokenOption = None,
    only_print: Annotated[
        bool, typer.Option("--print", "--dry-run", help="Print what would be written; do nothing.")
    ] = False,
) -> None:
    """Have the daemon of this pipeline.yaml run from now on, and again after a restart.

    On Linux by systemd, on a Mac by launchd, on Windows by the Task Scheduler. Calling it again
    after an update or a move of Python brings the service up to date.
    """
    from dna_pipeline.operations.service import manage

    file, who = config_file(context), manage.caller()
    options = _server_options(host, port, token_file) if with_server else []
    if only_print:
        would_be = manage.preview(file, who, is_system=system, run_as=run_as, options=options)
        say(f"would be written to {would_be.place}:")
        print(would_be.text, end="")
        return
    with _failures():
        done = manage.install(file, who, is_system=system, run_as=run_as, options=options)
    if done.file is not None:
        print(f"{'wrote' if done.has_changed else 'unchanged:'} {clean(done.file)}")
    print(f"installed: {clean(done.name)}; `dna-pipeline service status` shows it")
    for text in (*done.remarks, *done.problems):
        say(text)
    if done.problems:
        raise typer.Exit(1)


def _server_options(host: str, port: int, token_file: Path | None) -> list[str]:
    """Options of `watch` that have it run the server. Raises `ConfigError`."""
    require_packages()
    options = ["--serve", "--host", host, "--port", str(port)]
    return options if token_file is None else [*options, "--token-file", str(token_file.absolute())]


@service.command()
def status(
    context: typer.Context, system: SystemOption = False, as_json: JsonOption = False
) -> None:
    """Show whether the service is installed, and runs. Exit status 1 if it does not run."""
    from dna_pipeline.operations.service import manage

    with _failures():
        current = manage.status(config_file(context), manage.caller(), is_system=system)
    if as_json:
        print_json(current.to_dict())
    else:
        _print_status(current)
    if not current.is_active:
        raise typer.Exit(1)


def _print_status(status: ServiceStatus) -> None:
    for remark in status.remarks:
        say(remark)
    if not status.is_installed:
        print("not installed; `dna-pipeline service install` does that")
        return
    lines = [("service", status.name), ("file", status.file), ("state", status.state)]
    if status.is_enabled is not None:
        lines.append(("enabled", "yes" if status.is_enabled else "no, it starts only by hand"))
    for key, title in _TITLES.items():
        value = status.details.get(key)
        if value is not None:
            lines.append((title, {True: "yes", False: "no"}.get(value, value)))
    print_titled(((title, clean(value)) for title, value in lines if value), 10)


@service.command()
def remove(context: typer.Context, system: SystemOption = False) -> None:
    """Stop the service and remove it. Files in inboxes, outbox and data folder stay as they are."""
    from dna_pipeline.operations.service import manage

    with _failures():
        name = manage.remove(config_file(context), manage.caller(), is_system=system)
    print("not installed" if name is None else f"removed: {clean(name)}")


@contextmanager
def _failures() -> Generator[None]:
    """Print why the service manager did not do it, and end with exit status 1."""
    try:
        yield
    except ServiceFailed as error:
        say(f"dna-pipeline: {error}")
        raise typer.Exit(1) from None
