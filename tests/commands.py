"""Calls of `dna-pipeline`, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base import ipc
from dna_pipeline.interfaces.cli.main import main
from tests import fork_server
from tests.fork_server import ForkServer

Done = subprocess.CompletedProcess[str]


def call(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> Done:
    """Run a command in this process, and give what a process of its own would.

    To start Python and import the program takes most of the time of a short command. The daemon's
    own children, such as its worker, are processes here too. A command that ends by
    `os._exit`, or that changes a ledger while a daemon uses it, needs `call_apart`.

    Args:
        env: the whole environment, as for a process; None leaves it as it is.
        stdin: what the command reads from standard input.
    """
    streams = [io.TextIOWrapper(io.BytesIO(data), "utf-8") for data in (stdin, b"", b"")]
    with _as_in_a_process(folder, ["dna-pipeline", *arguments], env, *streams):
        code = _exit_status()
    said: list[str] = []
    for stream in streams[1:]:
        stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        said.append(_text(stream.buffer.getvalue()))
    return Done(list(arguments), code, *said)


def facts(folder: Path, *arguments: str) -> Any:
    """What a command says with `--json`."""
    return json.loads(call(folder, *arguments, "--json").stdout)


def call_apart(
    folder: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    server: Callable[[], ForkServer] = fork_server.light,
) -> Done:
    """Run a command in a process of its own, as people do.

    It is forked where that makes no difference; see `tests.fork_server`.
    """
    if env is None or fork_server.can_fork(env):
        options: dict[str, Any] = {"cwd": folder, "env": env, "stdin": stdin}
        done = fork_server.run(server(), "dna_pipeline", *arguments, **options)
    else:
        command = [sys.executable, "-m", "dna_pipeline", *arguments]
        done = subprocess.run(
            command, cwd=folder, input=stdin, capture_output=True, timeout=240, env=env
        )
    return Done(done.args, done.returncode, _text(done.stdout), _text(done.stderr))


def _text(data: bytes) -> str:
    return data.decode().replace("\r\n", "\n").replace("\r", "\n")


def _exit_status() -> int:
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _as_in_a_process(
    folder: Path,
    arguments: list[str],
    env: Mapping[str, str] | None,
    stdin: io.TextIOWrapper,
    stdout: io.TextIOWrapper,
    stderr: io.TextIOWrapper,
) -> Iterator[None]:
    """Lend the block what belongs to a process, and restore all of it afterwards."""
    saved = (sys.argv, sys.stdin, dict(os.environ))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    root = logging.getLogger()
    spawn = ipc.spawn
    logging_before = (root.handlers, root.level)
    try:
        if env is not None:
            _set_environment(env)
        sys.argv, sys.stdin = arguments, stdin
        fork_server.light().serve_this_process()
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            yield
    finally:
        sys.argv, sys.stdin, environment = saved
        ipc.spawn = spawn
        _set_environment(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if root.handlers is not logging_before[0]:
            for handler in root.handlers:
                handler.close()
        root.handlers = logging_before[0]
        root.setLevel(logging_before[1])
        structlog.reset_defaults()


def _set_environment(values: Mapping[str, str]) -> None:
    if dict(os.environ) != dict(values):
        os.environ.clear()
        os.environ.update(values)
