"""A process that forks others, so that tests start programs without paying for their imports.

To import the program takes most of the time of a short command, and models' libraries ten seconds.
The server imports them once. What it starts are real processes: each has its own memory, files and
signals, and is killed like any other. They differ in one thing: their parent is the server.

`python -m tests.fork_server` is never called by hand; `ForkServer` starts it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

import psutil

ROOT = Path(__file__).parents[1]

LIGHT = (
    "dna_pipeline.interfaces.cli.main",
    "dna_pipeline.interfaces.cli.run",
    "dna_pipeline.operations.daemon.loop",
    "dna_pipeline.execution.worker.process",
    "dna_pipeline.intake.discovery.probe",
    "dna_pipeline.base.reachability",
    "alembic.command",
    "sqlalchemy.dialects.sqlite",
)
"""What the daemon, its commands and its children import, models left out."""

HEAVY = (
    *LIGHT,
    "transformers:CLIPTextModel",
    "transformers:CLIPTokenizer",
    "diffusers:AutoencoderKL",
    "diffusers:StableDiffusionImg2ImgPipeline",
    "diffusers:UNet2DConditionModel",
    "diffusers.pipelines.stable_diffusion.safety_checker",
    "dna_pipeline.providers.stable_diffusion.provider",
    "dna_pipeline.providers.triposr.network",
    "dna_pipeline.stages.img2img.stage",
    "dna_pipeline.stages.remove_background",
    "dna_pipeline.stages.triposr.stage",
)
"""Those, and what a worker with a model of each kind imports."""

MESSAGE_BYTES = 1 << 20

CAN_SERVE = sys.platform == "linux"

LIMIT_S = 240.0
"""Time that a command has."""

FREE_VARIABLES = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING"}
"""Variables of the interpreter that a forked process may have otherwise than the server."""


@cache
def light() -> ForkServer:
    """The server of this test process for daemons, commands and workers without a model."""
    return ForkServer(LIGHT) if CAN_SERVE else NoForkServer()


@cache
def heavy() -> ForkServer:
    """The server of this test process for whatever computes with a model of torch."""
    return ForkServer(HEAVY) if CAN_SERVE else NoForkServer()


def children_of(pid: int, module: str) -> list[psutil.Process]:
    """The processes that run the module for that process, its own children or forked ones."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it may have ended meanwhile
            is_own = process.ppid() == pid and module in process.cmdline()
            if is_own or process.name() == _name_of(pid, module):
                found.append(process)
    return found


def _name_of(parent: int, module: str) -> str:
    """Name of a forked process; the kernel keeps fifteen characters."""
    return f"{parent}:{module.rpartition('.')[2]}"[:15]


def can_fork(env: Mapping[str, str]) -> bool:
    """False for an environment that acts when an interpreter starts."""
    names = {*env, *os.environ} - FREE_VARIABLES
    return all(
        env.get(name) == os.environ.get(name)
        for name in names
        if name.startswith(("PYTHON", "LC_", "LANG"))
    )


class ForkServer:
    """Starts processes. One of each kind serves a whole test process and all that it starts.

    Args:
        modules: what the server imports before it forks; `module:name` for a name that its module
            imports when it is asked for.
        prefix: a command before the interpreter's, such as one that lays down rights.
    """

    def __init__(self, modules: Sequence[str] = LIGHT, prefix: Sequence[str] = ()) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        alive, self._alive = os.pipe()
        with theirs:
            # The server's children ask it too, so it keeps this end as well.
            numbers = [theirs.fileno(), self._control.fileno(), alive]
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "tests.fork_server"],
                cwd=ROOT, pass_fds=numbers, start_new_session=True, stdin=subprocess.PIPE,
            )  # fmt: skip
        assert self._process.stdin
        with self._process.stdin as said:
            # Not as arguments, by which tests look for the processes that run these modules.
            said.write(json.dumps([numbers, modules]).encode())
        os.close(alive)
        atexit.register(self.close)

    def close(self) -> None:
        """Have the server end; what it started goes on."""
        atexit.unregister(self.close)
        os.close(self._alive)
        self._control.close()
        self._process.wait(10)

    def serve_this_process(self) -> None:
        """Have the daemon's children forked, for a daemon that runs in a fork of this process."""
        _spawn_by(self._control)

    def start(self, module: str, *arguments: str, **options: Any) -> Process:
        """Start `python -m module`, or code after `-c`; the options are those of `Process`."""
        return Process(self._control, module, arguments, **options)


def logged(server: ForkServer, log: Path, module: str, *arguments: str, **options: Any) -> Process:
    """Start a process that appends what it prints to that file."""
    with log.open("ab") as file, Path(os.devnull).open() as nothing:
        streams = [nothing.fileno(), file.fileno(), file.fileno()]
        return server.start(module, *arguments, streams=streams, **options)


def run(
    server: ForkServer, module: str, *arguments: str, stdin: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a process to its end, as `subprocess.run` does; give what it printed."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin)
        files[0].seek(0)
        streams = [file.fileno() for file in files]
        process = server.start(module, *arguments, streams=streams, **options)
        try:
            code = process.wait(LIMIT_S)
        finally:
            process.kill()
        for file in files[1:]:
            file.seek(0)
        return subprocess.CompletedProcess(process.args, code, files[1].read(), files[2].read())


class Process:
    """A process that a server forked. It has those parts of `subprocess.Popen` that are used here.

    Args:
        streams: descriptors for standard input, output and error; None makes pipes of all three.
        env: the whole environment; None leaves it as it is.
    """

    def __init__(
        self,
        control: socket.socket,
        module: str,
        arguments: Sequence[str] = (),
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        streams: Sequence[int] | None = None,
    ) -> None:
        self.args = [sys.executable, "-m", module, *arguments]
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        self.returncode: int | None = None
        self._lock = threading.Lock()
        pipes = None if streams is not None else [os.pipe() for _ in range(3)]
        given = streams if pipes is None else [pipes[0][0], pipes[1][1], pipes[2][1]]
        assert given is not None
        request = {
            "parent": os.getpid(),
            "module": module,
            "arguments": list(arguments),
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(control, [json.dumps(request).encode()], [theirs.fileno(), *given])
        if pipes is not None:
            for number in given:
                os.close(number)
            self.stdin = os.fdopen(pipes[0][1], "wb")
            self.stdout = os.fdopen(pipes[1][0], "rb")
            self.stderr = os.fdopen(pipes[2][0], "rb")
        self.pid = int(self._status.recv(32))

    def __del__(self) -> None:
        if hasattr(self, "_status"):
            self._status.close()

    def poll(self) -> int | None:
        return self._end(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._end(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def _end(self, timeout: float | None) -> int | None:
        # In steps, so that a thread that waits without a limit does not keep another from asking.
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self.returncode is not None:
                    return self.returncode
                left = 0.2 if deadline is None else min(0.2, max(0, deadline - time.monotonic()))
                if select.select([self._status], [], [], left)[0]:
                    end = self._status.recv(32)
                    assert end, "the fork server has ended"
                    self.returncode = int(end)
                    self._status.close()
                    return self.returncode
            if deadline is not None and time.monotonic() >= deadline:
                return None
            time.sleep(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class NoForkServer(ForkServer):
    """Starts new interpreters, where the system lacks the sockets that a fork server needs."""

    def __init__(self) -> None:
        pass

    def serve_this_process(self) -> None:
        pass

    def start(self, module: str, *arguments: str, **options: Any) -> Any:
        """Start `python -m module`, or code after `-c`; the options are those of `Process`."""
        command = [sys.executable, *([] if module == "-c" else ["-m"]), module, *arguments]
        streams = options.pop("streams", None) or [subprocess.PIPE] * 3
        names = zip(("stdin", "stdout", "stderr"), streams, strict=True)
        return subprocess.Popen(command, **options, **dict(names))


# --- in the server ---


def serve(control: socket.socket, for_children: socket.socket, alive: int) -> None:
    """Fork a process for each request, until the test process ends."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, alive, woken], [], [])
        if alive in ready:
            return
        if woken in ready:
            os.read(woken, 1 << 12)
            _report_ends(running)
        if control in ready:
            message, numbers, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 4)
            status = socket.socket(fileno=numbers[0])
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for one in (control, status, *running.values()):
                    one.close()
                for number in (alive, woken, wake):
                    os.close(number)
                _become(json.loads(message), numbers[1:], for_children)
            for number in numbers[1:]:
                os.close(number)
            running[pid] = status
            with suppress(OSError):
                status.send(str(pid).encode())


def _report_ends(running: dict[int, socket.socket]) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(ended[0]) as status, suppress(OSError):
                status.send(str(os.waitstatus_to_exitcode(ended[1])).encode())


def _become(request: dict[str, Any], streams: list[int], control: socket.socket) -> None:
    """Be what `python -m module` would be; does not return."""
    code = 1
    try:
        os.setsid()
        _name_itself(request)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for target, number in enumerate(streams):
            os.dup2(number, target)
            os.close(number)
        _set_environment(request["env"])
        os.chdir(request["cwd"])
        _open_streams()
        _spawn_by(control)
        sys.argv = [request["module"], *request["arguments"]]
        # The module was imported before it is run.
        warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
        if request["module"] == "-c":
            code_text = sys.argv.pop(1)
            sys.modules["__main__"] = main_module = types.ModuleType("__main__")
            exec(compile(code_text, "<string>", "exec"), vars(main_module))
        else:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def _name_itself(request: dict[str, Any]) -> None:
    """Set the name that `children_of` looks for."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(_name_of(request["parent"], request["module"]))


def _leave(code: int) -> None:
    """End as the interpreter does: after its threads, with what `atexit` was given."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _set_environment(env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = new = [path for path in paths if path not in sys.path]
    importlib.invalidate_caches()
    if any(Path(path, "sitecustomize.py").is_file() for path in new):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")  # as an interpreter does when it starts
    # It reads the environment when it is imported.
    from dna_pipeline.base import failpoints

    importlib.reload(failpoints)


def _open_streams() -> None:
    """Open standard streams as an interpreter does that finds no terminal."""
    encoding, _, error = os.environ.get("PYTHONIOENCODING", "").partition(":")
    errors = {"stdin": "surrogateescape", "stdout": "strict", "stderr": "backslashreplace"}
    if encoding:
        errors |= dict.fromkeys(("stdin", "stdout"), error or "strict")
    for number, (name, handler) in enumerate(errors.items()):
        raw = io.FileIO(number, "w" if number else "r", closefd=False)
        buffer = io.BufferedWriter(raw) if number else io.BufferedReader(raw)
        is_error = name == "stderr"
        stream = io.TextIOWrapper(buffer, encoding or "utf-8", handler, line_buffering=is_error)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _spawn_by(control: socket.socket) -> None:
    """Have this process's own children forked too."""
    from dna_pipeline.base import ipc

    def spawn(module: str, env: dict[str, str] | None = None) -> Process:
        return Process(control, module, env=os.environ | (env or {}))

    ipc.spawn = spawn  # type: ignore[assignment]


def main() -> None:
    (theirs, ours, alive), modules = json.loads(sys.stdin.buffer.read())
    for name in modules:
        module, _, attribute = name.partition(":")
        getattr(importlib.import_module(module), attribute or "__name__")
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=theirs), socket.socket(fileno=ours), alive)


if __name__ == "__main__":
    main()
