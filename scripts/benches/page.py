"""The page: its first view of many results, its own bytes, many people at once, and what it costs
the daemon.

`first_view`: `server_ms` is the time of the server's answer; `painted_ms` the time in Chromium,
with an empty cache, from the start of the navigation until all pictures in view are painted. The
next page is one that comes as people scroll.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from html import unescape
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from chromium import Chromium, find_chromium

from benches import options
from benches.history import INBOXES, History, data_folder
from benches.serve import (
    TIMEOUT_S,
    Server,
    forget_peak,
    mib_of,
    milliseconds,
    quantiles,
    rates_beside,
    resident_kib,
    running_job,
    serving,
)
from benches.sheet import paint
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.page.rendering import ASSETS
from dna_pipeline.ledger.sqlite import sqlite_module
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.media.thumbnails import SUFFIX, make_thumbnail
from dna_pipeline.operations.serving.gallery import PAGE, Filters, read_page
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.result_view import VIEWER
from dna_pipeline.publish.sheet.entries import thumbnail_path

LIMIT_BYTES = 1_500_000
"""Most bytes that the page's own files may have."""
QUEUED = 500
NEXT_PAGES = 10
OPENED = 5
"""Number of times that the first view is opened."""
PICTURES = 40
"""Different pictures of which the thumbnails are made."""
THINK_S = 1.0
"""Time that a person looks at one view."""
POLL_S = 1.0

_PAINTED = """addEventListener('load', async () => {
  const seen = [...document.querySelectorAll('.cells img')]
    .filter((img) => img.getBoundingClientRect().top < innerHeight);
  await Promise.all(seen.map((img) => img.decode()));
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const [navigation] = performance.getEntriesByType('navigation');
    const [first] = performance.getEntriesByName('first-contentful-paint');
    window.painted = {
      pictures: seen.length, painted_ms: performance.now(), answer_ms: navigation.responseEnd,
      first_paint_ms: first ? first.startTime : null,
    };
  }));
});"""
"""Notes when all pictures in view are on the screen."""

_NEXT_PAGE = """new Promise((resolve, reject) => {
  const count = () => document.querySelectorAll('[data-cell]').length;
  const before = count(), start = performance.now();
  const look = async () => {
    if (performance.now() - start > 30000) { reject(new Error('no further page came')); return; }
    if (count() === before) { requestAnimationFrame(look); return; }
    const seen = [...document.querySelectorAll('.cells img')].slice(before)
      .filter((img) => img.getBoundingClientRect().top < innerHeight);
    await Promise.all(seen.map((img) => img.decode()));
    resolve(performance.now() - start);
  };
  document.querySelector('.more').scrollIntoView();
  look();
})"""
"""Milliseconds from the end of the gallery to the results that follow."""

_JOBS = "[...document.querySelectorAll('[data-cell] a')].map((a) => a.pathname.split('/').pop())"


# --- the first view, and those that follow ---


def measure_first_view(folder: Path, results: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of the gallery's first view and of the pages that come as people scroll.

    Raises:
        ValueError: a page that follows leaves a result out or shows one twice.
    """
    config = _studio(folder, results, thumbnails=(NEXT_PAGES + 1) * PAGE)
    expected = _jobs_of(config, min(results, (NEXT_PAGES + 1) * PAGE))
    with ExitStack() as stack:
        server = stack.enter_context(serving(config.file))
        person = stack.enter_context(closing(Person(server)))
        person.get("/results")
        first = [milliseconds(lambda: person.get("/results")) for _ in range(rounds)]
        following, jobs = _follow(person)
        _check_order(jobs, expected)
        opened, scrolled = _in_browser(server, expected)
    return {
        "results": results,
        "server_ms": quantiles(first),
        "next_page_server_ms": quantiles(following),
        **{name: round(statistics.median(each), 1) for name, each in opened.items()},
        "next_page_painted_ms": quantiles(scrolled),
    }


def _studio(folder: Path, results: int, *, thumbnails: int) -> Config:
    """A data folder with so many results, and thumbnails of the newest of them."""
    file = data_folder(folder, History(results + QUEUED, queued=QUEUED))
    config = load_config(file, {})
    pictures = [folder / f"picture{number}.png" for number in range(PICTURES)]
    for number, picture in enumerate(pictures):
        paint(picture, number)
    with closing(Readers(config)) as readers:
        hashes = list(read_page(readers, Filters(), number=thumbnails).pictures)
    made: dict[Path, bytes] = {}
    for number, sha256 in enumerate(hashes):
        source = pictures[number % PICTURES]
        if source not in made:
            make_thumbnail(source, target := folder / "thumbnail.webp")
            made[source] = target.read_bytes()
        place = thumbnail_path(config.thumbnails, sha256, SUFFIX)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(made[source])
    return config


def _jobs_of(config: Config, number: int) -> list[str]:
    """The jobs that the gallery has to show, in its order, as the ledger's rows say."""
    with closing(sqlite_module().connect(str(config.ledger_path))) as connection:
        rows: Any = connection.execute(
            "SELECT id FROM jobs WHERE finished_at IS NOT NULL "
            "ORDER BY finished_at DESC, seq DESC LIMIT ?",
            (number,),
        )
        return [row[0] for row in rows]


def _follow(person: Person) -> tuple[list[float], list[str]]:
    """Read page after page, as the page's script does; give the milliseconds and all jobs."""
    text = person.get("/results")
    jobs, times = _jobs_in(text), list[float]()
    for _ in range(NEXT_PAGES):
        if (link := re.search(r'hx-get="([^"]*)"', text)) is None:
            break
        address = unescape(link[1])
        began = time.perf_counter()
        text = person.get(address, {"HX-Request": "true"})
        times.append(1000 * (time.perf_counter() - began))
        jobs += _jobs_in(text)
    return times or [0.0], jobs


def _jobs_in(text: str) -> list[str]:
    return re.findall(r'<a href="/results/([0-9a-f]{32})', text)


def _check_order(jobs: list[str], expected: list[str]) -> None:
    if jobs != expected[: len(jobs)] or len(jobs) < len(expected):
        raise ValueError(f"the gallery shows {len(jobs)} results, not the {len(expected)} newest")


def _in_browser(server: Server, expected: list[str]) -> tuple[dict[str, list[float]], list[float]]:
    opened: dict[str, list[float]] = {}
    with _browser() as browser:
        browser.send("Network.enable")
        browser.send("Page.addScriptToEvaluateOnNewDocument", source=_PAINTED)
        for _ in range(OPENED):
            browser.send("Network.clearBrowserCache")
            browser.visit(server.address + "/results", "!!window.painted")
            for name, value in browser.run("window.painted").items():
                if value is not None:
                    opened.setdefault(name, []).append(value)
        scrolled: list[float] = []
        while len(scrolled) < NEXT_PAGES and browser.run("!!document.querySelector('.more')"):
            scrolled.append(browser.run(_NEXT_PAGE))
        _check_order(browser.run(_JOBS), expected)
    return opened, scrolled or [0.0]


@contextmanager
def _browser() -> Generator[Chromium]:
    program = find_chromium()
    if program is None:
        raise ValueError("there is no Chromium; on Debian and Ubuntu: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile, Chromium(program, Path(profile)) as browser:
        browser.show_as(1280, 900)
        yield browser


# --- bytes ---


def measure_bytes(folder: Path) -> dict[str, Any]:
    """Bytes of the page's own files: those of a view without a mesh, and of one with.

    Raises:
        ValueError: a view without a mesh loads the viewer, or all files are larger than they may
            be.
    """
    config = _studio(folder, 2 * PAGE, thumbnails=PAGE)
    job = _with_mesh(config)
    with ExitStack() as stack:
        server = stack.enter_context(serving(config.file))
        person = stack.enter_context(closing(Person(server)))
        plain, mesh = (_files_of(person, path) for path in ("/results", f"/results/{job}"))
        decoders = [
            f"/assets/x/decoders/{path.name}"
            for path in (ASSETS / "decoders").iterdir()
            if path.suffix in (".js", ".wasm")
        ]
        sizes = {name: len(person.read(name)) for name in {*plain, *mesh, *decoders}}
    if any(name.endswith(VIEWER) for name in plain):
        raise ValueError("the gallery loads the viewer of meshes, and shows none")
    total = sum(sizes.values())
    if total > LIMIT_BYTES:
        raise ValueError(f"the page's files have {total:,} bytes; {LIMIT_BYTES:,} are the most")
    return {
        "first_view": sum(sizes[name] for name in plain),
        "view_with_mesh": sum(sizes[name] for name in mesh),
        "decoders": sum(sizes[name] for name in decoders),
        "all": total,
        "limit": LIMIT_BYTES,
    }


def _with_mesh(config: Config) -> str:
    """Give the newest completed job a mesh in the ledger; the job's id."""
    with closing(sqlite_module().connect(str(config.ledger_path))) as connection:
        row: Any = connection.execute(
            "SELECT id FROM jobs WHERE status = 'completed' ORDER BY finished_at DESC LIMIT 1"
        ).fetchone()
        connection.execute(
            "UPDATE artifacts SET media_type = 'model/gltf-binary' "
            "WHERE role = 'mesh' AND job_id = ?",
            row,
        )
        connection.commit()
        return row[0]


def _files_of(person: Person, path: str) -> list[str]:
    """The page's own files that a view loads."""
    return re.findall(r'(?:src|href)="(/assets/[^"]+\.(?:js|css|svg))"', person.get(path))


# --- many people ---


class Person:
    """Somebody at a browser, with a connection that stays open."""

    def __init__(self, server: Server) -> None:
        self._connection = HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)

    def get(self, path: str, headers: dict[str, str] | None = None) -> str:
        return self.read(path, headers).decode()

    def read(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        """Read an answer. Raises `ValueError` if it is none of success."""
        self._connection.request("GET", path, headers=headers or {})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise ValueError(f"{path} answers {answer.status}: {data[:200]!r}")
        return data

    def close(self) -> None:
        self._connection.close()


def measure_people(folder: Path, results: int, people: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of the views that people look at, all at once, and memory of the server.

    Each looks at the gallery with a picture, at a result, and at the live queue, in turn, a second
    each.
    """
    config = _studio(folder, results, thumbnails=PAGE)
    times: dict[str, list[float]] = {"gallery": [], "picture": [], "result": [], "queue": []}
    updates, errors = list[float](), list[str]()
    stop = threading.Event()
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger(config.ledger_path)))
        stack.enter_context(running_job(ledger))
        server = stack.enter_context(serving(config.file))
        with closing(Person(server)) as person:
            for _ in _views(person):
                pass
        before = resident_kib(server.pid)
        forget_peak(server.pid)

        def look(number: int) -> None:
            stop.wait(THINK_S * number / people)
            try:
                with closing(Person(server)) as person:
                    while not stop.is_set():
                        _look_around(server, person, times, updates, stop)
            except (OSError, ValueError) as error:
                errors.append(str(error))

        threads = [threading.Thread(target=look, args=(n,), daemon=True) for n in range(people)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        opened, peak = resident_kib(server.pid), resident_kib(server.pid, "VmHWM")
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT_S)
    if errors:
        raise ValueError(f"{len(errors)} of {people} people got no answer: {errors[0]}")
    return {
        "people": people, "seconds": seconds, "views": sum(map(len, times.values())),
        "ms": {name: quantiles(each) for name, each in times.items() if each},
        "live_updates": len(updates), "server_mib": mib_of(opened),
        "more_mib": mib_of(opened - before), "peak_mib": mib_of(peak),
    }  # fmt: skip


def _look_around(
    server: Server, person: Person, times: dict[str, list[float]], updates: list[float],
    stop: threading.Event,
) -> None:  # fmt: skip
    """Look at each view for a while."""
    for name, took_ms in _views(person):
        times[name].append(took_ms)
        if name == "queue":
            updates += _watch(server, THINK_S)
        elif name != "picture" and stop.wait(THINK_S):
            return


def _views(person: Person) -> Iterator[tuple[str, float]]:
    """Look at a gallery, a picture and a result of it, and the queue; give the milliseconds."""
    texts: list[str] = []
    yield "gallery", milliseconds(lambda: texts.append(person.get("/results")))
    (picture,) = re.findall(r'src="(/thumbnails/[^"]+)"', texts[0])[:1]
    yield "picture", milliseconds(lambda: person.read(unescape(picture)))
    job = _jobs_in(texts[0])[0]
    yield "result", milliseconds(lambda: person.get(f"/results/{job}"))
    yield "queue", milliseconds(lambda: person.get("/"))


def _watch(server: Server, seconds: float) -> list[float]:
    """Follow the queue's live state for that time; give the times of its updates."""
    moments: list[float] = []
    deadline = time.monotonic() + seconds
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)) as connection:
        connection.request("GET", "/live")
        stream = connection.getresponse()
        assert connection.sock is not None
        while (left_s := deadline - time.monotonic()) > 0:
            connection.sock.settimeout(left_s)
            try:
                line = stream.readline()
            except TimeoutError:
                break
            if line.startswith(b"event: state"):
                moments.append(time.monotonic())
    return moments


# --- the daemon's rate ---


def measure_rate(folder: Path, seconds: float, blocks: int) -> dict[str, Any]:
    """Jobs that the daemon does in a second, with the page open in Chromium and without, by turns.

    The page shows the live queue, and asks for the gallery once a second.
    """
    with _browser() as browser:
        return rates_beside(folder, lambda server: _watched(browser, server), seconds, blocks)


@contextmanager
def _watched(browser: Chromium, server: Server) -> Generator[None]:
    browser.visit(server.address + "/", "!!document.querySelector('[data-live]')")
    poll = "fetch('/results').then((answer) => answer.text()).then(() => { self.polls += 1; })"
    browser.run(f"self.polls = 0; setInterval(() => {poll}, {1000 * POLL_S:g})")
    try:
        yield
        if not browser.run("self.polls"):
            raise ValueError("the page got no gallery while the daemon worked")
    finally:
        browser.send("Page.navigate", url="about:blank")


PARTS = ("first_view", "bytes", "people", "rate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", choices=PARTS, action="append", help="only these; again for more")
    number = options.at_least(1)
    parser.add_argument("--results", type=number, default=50_000, help="in all (%(default)s)")
    parser.add_argument("--rounds", type=number, default=200, help="of the gallery (%(default)s)")
    parser.add_argument("--people", type=number, default=50, help="at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of each block (%(default)s)")
    parser.add_argument("--blocks", type=number, default=4, help="with and without (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to build, rather than in $TMPDIR")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report; times are milliseconds of wall clock."""
    if args.results < INBOXES or args.seconds <= 0:
        raise ValueError("there must be something to measure")
    if not Path("/proc/self/status").exists():
        raise ValueError("memory is measured on Linux alone")
    measures: dict[str, Callable[[Path], dict[str, Any]]] = {
        "first_view": lambda folder: measure_first_view(folder, args.results, args.rounds),
        "bytes": measure_bytes,
        "people": lambda folder: measure_people(folder, args.results, args.people, args.seconds),
        "rate": lambda folder: measure_rate(folder, args.seconds, args.blocks),
    }
    report: dict[str, Any] = {"load": options.load()}
    with tempfile.TemporaryDirectory(prefix="dna-bench-", dir=args.folder) as folder:
        for part in args.part or PARTS:
            report[part] = measures[part](Path(folder, part))
    return report
