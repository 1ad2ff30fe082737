"""Costs of the server: time of its answers, memory of streams and uploads, and the daemon's rate.

Each ratio and each difference is of one run, on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benches import options
from benches.daemons import ROOT
from benches.history import INBOXES, History, data_folder
from dna_pipeline.config.loader import load_config
from dna_pipeline.ledger import queue, store
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger

READY_WITHIN_S = 60.0
TIMEOUT_S = 120.0
QUEUED = 2000
EVENTS = 50
"""Events that all streams get."""
POLL_S = 1.0
"""Time between two requests of a polling client."""
JOB_S = 0.05
"""Time that the one stage of a job takes while the daemon's rate is measured."""

LISTS: dict[str, dict[str, Any]] = {
    "all": {},
    "status": {"status": "completed"},
    "failed": {"status": "failed"},
    "running": {"status": "running"},
    "inbox": {"inbox": "inbox3"},
    "status_and_inbox": {"status": "failed", "inbox": "inbox3"},
    "name": {"inbox": "inbox3", "stem": "image-9"},
}

_STUDIO = f"""\
version: 1
paths: {{data: data, outbox: outbox}}
reuse: off
pipelines:
  quick: [{{stand_in: {{seconds: {JOB_S}}}}}]
inboxes: []
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server as a process of its own."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(config: Path, *command: str) -> Generator[Server]:
    """Start a server and end it when the block is left.

    Args:
        command: how the program is called; by default as people do.

    Raises:
        ValueError: the server did not start; the text is the end of its log.
    """
    port = _free_port()
    log_file = config.parent / "serve.log"
    call = command or (sys.executable, "-m", "dna_pipeline", "--config", str(config))
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*call, "serve", "--port", str(port)],
            cwd=ROOT, stdout=log, stderr=log, env=_environment(),
        )  # fmt: skip
    try:
        _wait_until(lambda: _answers(port), process, log_file)
        yield Server(process, port)
    finally:
        process.terminate()
        process.wait(30)


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "scripts"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ValueError(f"a process did not start: {log.read_text()[-500:]}")
        time.sleep(0.02)


class Client:
    """A client that keeps its connection."""

    def __init__(self, server: Server) -> None:
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        text = f"?{urlencode(query)}" if query else ""
        self._connection.request("GET", f"/api/v1{path}{text}")
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise ValueError(f"{path} answers {answer.status}: {data[:200]!r}")
        return json.loads(data)

    def close(self) -> None:
        self._connection.close()


def resident_kib(pid: int, field: str = "VmRSS") -> int:
    """Memory of a process, or its peak (`VmHWM`). Raises `ValueError` except on Linux."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as error:
        raise ValueError(f"the memory of process {pid} cannot be read: {error}") from None
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def mib_of(kib: float) -> float:
    return round(kib / 1024, 1)


# --- lists, with a large ledger, while a job runs ---


def measure_lists(folder: Path, jobs: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of `GET /jobs?limit=100`, with each filter."""
    file = data_folder(folder, History(jobs, queued=min(QUEUED, jobs // 20)))
    config = load_config(file, {})
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(serving(file))
        client = stack.enter_context(closing(Client(server)))
        ledger = stack.enter_context(closing(Ledger(config.ledger_path)))
        stack.enter_context(running_job(ledger))
        for query in LISTS.values():
            client.get("/jobs", query | {"limit": 100})
        for _ in range(rounds):
            for name, query in LISTS.items():
                took = milliseconds(lambda q=query: client.get("/jobs", q | {"limit": 100}))
                times.setdefault(name, []).append(took)
            times.setdefault("status_page", []).append(milliseconds(lambda: client.get("/status")))
    return {"jobs": jobs, "ms": {name: quantiles(each) for name, each in times.items()}}


@contextmanager
def running_job(ledger: Ledger) -> Generator[None]:
    """Have a job run as far as the ledger sees: events of its progress, ten a second."""
    job = ledger.transact(queue.claim_next)
    if job is None:
        raise ValueError("no job waits that could run")
    stop = threading.Event()

    def run() -> None:
        step = 0
        while not stop.wait(0.1):
            step += 1
            data = {"stage": "restyle", "step": step, "steps": 1000, "fraction": step / 1000}
            ledger.transact(lambda s, d=data: store.add_event(s, job.id, "progress", d))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def milliseconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


def quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
    }


# --- streams ---


def measure_streams(folder: Path, number: int) -> dict[str, Any]:
    """Memory and processor time of open event streams, all of which get some events."""
    file = data_folder(folder, History(100, queued=10))
    config = load_config(file, {})
    with ExitStack() as stack:
        server = stack.enter_context(serving(file))
        stack.enter_context(closing(Client(server))).get("/jobs")
        warm = [_stream(stack, server) for _ in range(4)]
        _read_all(warm, b": ")
        before = resident_kib(server.pid)
        streams = [_stream(stack, server) for _ in range(number)]
        _read_all(streams, b": ")
        opened = resident_kib(server.pid)
        ledger = stack.enter_context(closing(Ledger(config.ledger_path)))
        began, used = time.monotonic(), _cpu_s(server.pid)
        for step in range(EVENTS):
            ledger.transact(
                lambda s, n=step: store.add_common_event(s, "progress", {"step": n, "steps": 100})
            )
            time.sleep(0.02)
        _read_all(streams, b'"step": %d,' % (EVENTS - 1))
        seconds, used = time.monotonic() - began, _cpu_s(server.pid) - used
        after = resident_kib(server.pid)
    return {
        "streams": number, "events": EVENTS, "more_mib": mib_of(opened - before),
        "more_mib_after_events": mib_of(after - before), "seconds": round(seconds, 2),
        "cpu_s": round(used, 2),
    }  # fmt: skip


def _stream(stack: ExitStack, server: Server) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S)
    stack.callback(stream.close)
    stream.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return stream


def _read_all(streams: list[socket.socket], until: bytes) -> None:
    """Read each stream up to that text."""
    for stream in streams:
        text = b""
        while until not in text:
            data = stream.recv(1 << 16)
            if not data:
                raise ValueError("a stream has ended")
            text = text[-len(until) :] + data


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")


# --- an upload ---


def measure_upload(folder: Path, mib: int) -> dict[str, Any]:
    """Memory that the server's process takes for one large upload."""
    file = data_folder(folder, History(0))
    picture = folder / "large.bmp"
    _write_bmp(picture, mib)
    with serving(file) as server:
        for _ in range(2):
            _upload(server, folder / "small.bmp", _write_bmp(folder / "small.bmp", 1))
        before = resident_kib(server.pid)
        forget_peak(server.pid)
        took = milliseconds(lambda: _upload(server, picture, mib))
        peak = resident_kib(server.pid, "VmHWM")
        after = resident_kib(server.pid)
    return {
        "mib": mib, "seconds": round(took / 1000, 2), "peak_mib": mib_of(peak - before),
        "more_mib_after": mib_of(after - before),
    }  # fmt: skip


def _write_bmp(path: Path, mib: int) -> int:
    """Write a BMP of about that size, of which no byte need be computed."""
    side = int((mib * (1 << 20) / 3) ** 0.5) // 4 * 4
    size = 3 * side * side
    head = b"BM" + (54 + size).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    head += (40).to_bytes(4, "little") + side.to_bytes(4, "little") * 2
    head += (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)
    with path.open("wb") as file:
        file.write(head)
        for row in range(side):
            file.write(bytes([row % 256]) * (3 * side))
    return mib


def _upload(server: Server, picture: Path, _: int) -> None:
    """Send a file while it is read."""
    start = (
        b'--bench\r\nContent-Disposition: form-data; name="image"; filename="large.bmp"\r\n'
        b"Content-Type: image/bmp\r\n\r\n"
    )
    end = b"\r\n--bench--\r\n"

    def body() -> Iterator[bytes]:
        yield start
        with picture.open("rb") as file:
            while chunk := file.read(1 << 18):
                yield chunk
        yield end

    length = len(start) + picture.stat().st_size + len(end)
    headers = {
        "Content-Type": "multipart/form-data; boundary=bench", "Content-Length": str(length),
    }  # fmt: skip
    connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    with closing(connection):
        connection.request("POST", "/api/v1/drops", body(), headers)
        answer = connection.getresponse()
        if answer.status != 201:
            raise ValueError(f"the upload was refused: {answer.read()[:300]!r}")
        answer.read()


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


# --- the daemon's rate ---


def measure_rate(folder: Path, clients: int, seconds: float, blocks: int) -> dict[str, Any]:
    """Jobs that the daemon does in a second, with polling clients and without, by turns."""
    rates = rates_beside(folder, lambda server: _polling(server, clients), seconds, blocks)
    return {"clients": clients, **rates}


def rates_beside(
    folder: Path, beside: Callable[[Server], AbstractContextManager[None]], seconds: float,
    blocks: int,
) -> dict[str, Any]:  # fmt: skip
    """Jobs that the daemon does in a second, with something beside it and without, by turns.

    Args:
        beside: runs beside the daemon while its block runs.
        seconds: of each block.
        blocks: number of those with and of those without.
    """
    folder.mkdir()
    file = folder / "pipeline.yaml"
    file.write_text(_STUDIO)
    stand_in = (sys.executable, "-m", "stand_in", "do", "--config", str(file))
    image = _small_picture(folder)
    number = int(2 * blocks * seconds / JOB_S) + 50
    subprocess.run(
        [*stand_in, "submit", *[str(image)] * number],
        check=True, capture_output=True, env=_environment(), cwd=ROOT,
    )  # fmt: skip
    rates: dict[str, list[float]] = {"without": [], "with": []}
    with ExitStack() as stack:
        server = stack.enter_context(serving(file, *stand_in))
        stack.enter_context(_daemon(folder, file))
        queries = stack.enter_context(closing(Queries(folder / "data" / "ledger.db")))
        while _completed(queries) < 10:
            time.sleep(0.1)
        for _ in range(blocks):
            rates["without"].append(_rate(queries, seconds))
            with beside(server):
                rates["with"].append(_rate(queries, seconds))
    means = {name: round(statistics.mean(each), 2) for name, each in rates.items()}
    return {"jobs_per_s": means, "ratio": round(means["with"] / means["without"], 3)}


@contextmanager
def _daemon(folder: Path, file: Path) -> Generator[None]:
    log_file = folder / "daemon.log"
    with log_file.open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "stand_in", str(file)],
            stdout=log, stderr=log, env=_environment(), cwd=ROOT,
        )  # fmt: skip
    try:
        _wait_until(lambda: (folder / "outbox/status.json").exists(), daemon, log_file)
        yield
    finally:
        daemon.terminate()
        daemon.wait(30)


def _small_picture(folder: Path) -> Path:
    path = folder / "picture.bmp"
    _write_bmp(path, 1)
    return path


def _completed(queries: Queries) -> int:
    return sum(number for status, _, number in queries.counts() if status == "completed")


def _rate(queries: Queries, seconds: float) -> float:
    before, began = _completed(queries), time.monotonic()
    time.sleep(seconds)
    return (_completed(queries) - before) / (time.monotonic() - began)


@contextmanager
def _polling(server: Server, clients: int) -> Generator[None]:
    stop = threading.Event()

    def poll(number: int) -> None:
        with closing(Client(server)) as client:
            stop.wait(POLL_S * number / clients)
            while not stop.is_set():
                client.get("/jobs", {"limit": 100})
                client.get("/status")
                stop.wait(POLL_S)

    threads = [threading.Thread(target=poll, args=(n,), daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


PARTS = ("lists", "streams", "upload", "rate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", choices=PARTS, action="append", help="only these; again for more")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="in the ledger (%(default)s)")
    parser.add_argument("--rounds", type=int, default=300, help="of each list (%(default)s)")
    parser.add_argument("--streams", type=int, default=500, help="open at once (%(default)s)")
    parser.add_argument("--mib", type=int, default=100, help="of the upload (%(default)s)")
    parser.add_argument("--clients", type=int, default=10, help="that poll (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of each block (%(default)s)")
    parser.add_argument("--blocks", type=int, default=4, help="with and without (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to build, rather than in $TMPDIR")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report; times are milliseconds of wall clock."""
    if args.jobs < INBOXES or min(args.rounds, args.streams, args.mib, args.clients) < 1:
        raise ValueError("there must be something to measure")
    if not Path("/proc/self/status").exists():
        raise ValueError("memory is measured on Linux alone")
    measures: dict[str, Callable[[Path], dict[str, Any]]] = {
        "lists": lambda folder: measure_lists(folder, args.jobs, args.rounds),
        "streams": lambda folder: measure_streams(folder, args.streams),
        "upload": lambda folder: measure_upload(folder, args.mib),
        "rate": lambda folder: measure_rate(folder, args.clients, args.seconds, args.blocks),
    }
    report: dict[str, Any] = {"load": options.load()}
    with tempfile.TemporaryDirectory(prefix="dna-bench-", dir=args.folder) as folder:
        for part in args.part or PARTS:
            report[part] = measures[part](Path(folder, part))
    return report
