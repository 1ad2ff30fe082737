"""The screen when it fails: the terminal comes back, the error is said once, the work goes on."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from dna_pipeline.base import logs
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.cli import inspect, run
from dna_pipeline.interfaces.cli.live import screen as module
from dna_pipeline.interfaces.cli.live import terminal
from dna_pipeline.interfaces.cli.live.screen import LEAVE, LiveScreen
from dna_pipeline.operations.overview import Overview, make_overview
from dna_pipeline.operations.ownership import Leftovers
from dna_pipeline.operations.status import Status
from tests.overviews import busy_status

ENTER = "\x1b[?1049h"
CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {model: matte}}]}
inboxes: [{path: inbox/photos, pipeline: cut}, {path: inbox/night, pipeline: cut}]
"""


class Terminal(io.StringIO):
    """A stream that says that it is a terminal; `gone` makes it fail as one that was closed."""

    encoding = "utf-8"
    gone = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    return load_config(tmp_path / "pipeline.yaml", {})


@pytest.fixture(autouse=True)
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """The terminal, to be made standard output and standard error by `use`: pytest sets these
    anew before each test."""
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    monkeypatch.setattr(module, "is_in_foreground", lambda _: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    # Drawing a traceback with all variables takes long.
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    logs.silence()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def use(stream: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)


def broken(*_: Any) -> Any:
    raise ValueError("no room for \x1b[31m猫")


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until the thread of the screen has got there."""
    pause = threading.Event()
    for _ in range(5000):
        if is_so():
            return
        pause.wait(0.001)
    raise AssertionError("it never came to pass")


def test_a_view_that_works_has_not_ended(
    config: Config, stream: Terminal, monkeypatch: pytest.MonkeyPatch
):
    use(stream, monkeypatch)
    screen = LiveScreen(["Ctrl-C"], stream)
    with screen.shown():
        screen.update(lambda: make_overview(config, busy_status()))
        wait_for(lambda: "赤い" in stream.getvalue())
        assert not screen.has_ended
        print("lost in the log")
    assert screen.has_ended
    assert "lost in the log" not in stream.getvalue()
    assert stream.getvalue().rindex(ENTER) < stream.getvalue().rindex("\x1b[?1049l")


@pytest.mark.parametrize("part", ["draw", "overview"])
def test_a_failure_is_said_once_and_gives_the_terminal_back(
    config: Config, stream: Terminal, monkeypatch: pytest.MonkeyPatch, part: str
):
    use(stream, monkeypatch)
    failed: list[bool] = []
    screen = LiveScreen(["Ctrl-C"], stream, lambda: failed.append(sys.stdout is stream))

    def overview() -> Overview:
        return make_overview(config, busy_status())

    with screen.shown():
        screen.update(overview)
        wait_for(lambda: "赤い" in stream.getvalue())
        monkeypatch.setattr(module, "draw", broken if part == "draw" else module.draw)
        monkeypatch.setattr(module, "REDRAW_S", 0.0)
        screen.update(broken if part == "overview" else overview)
        wait_for(lambda: screen.has_ended)
        screen.update(overview)
        print("a plain line")
    screen.print_results()
    before, _, after = stream.getvalue().rpartition("\x1b[?1049l")
    assert ENTER in before
    sentence = (
        "the view failed (ValueError: no room for \\x1b[31m猫); the work goes on, in plain lines"
    )
    assert " ".join(after.split()).count(sentence) == 1
    assert "a plain line" in after
    assert failed == [True], "once, when what is printed reaches the terminal again"


def test_a_view_that_cannot_even_close_gives_the_terminal_back(
    config: Config, stream: Terminal, monkeypatch: pytest.MonkeyPatch
):
    use(stream, monkeypatch)
    monkeypatch.setattr(module, "REDRAW_S", 0.0)
    screen = LiveScreen(["Ctrl-C"], stream)
    with screen.shown():
        screen.update(lambda: make_overview(config, busy_status()))
        wait_for(lambda: "赤い" in stream.getvalue())
        monkeypatch.setattr(module.Live, "stop", broken)
        monkeypatch.setattr(module, "draw", broken)
        wait_for(lambda: screen.has_ended)
    assert LEAVE in stream.getvalue()


def test_a_terminal_that_is_gone_ends_the_view_in_silence(
    config: Config, stream: Terminal, monkeypatch: pytest.MonkeyPatch
):
    use(stream, monkeypatch)
    failed: list[bool] = []
    screen = LiveScreen(["Ctrl-C"], stream, lambda: failed.append(True))
    with screen.shown():
        stream.gone = True
        screen.update(lambda: make_overview(config, busy_status()))
        wait_for(lambda: screen.has_ended)
    assert failed == []


def test_status_goes_on_with_plain_lines(
    config: Config, stream: Terminal, monkeypatch: pytest.MonkeyPatch
):
    use(stream, monkeypatch)
    monkeypatch.setattr(terminal, "is_in_foreground", lambda _: True)
    monkeypatch.setattr(module, "draw", broken)

    def states() -> Iterator[Status]:
        """One state until the view has failed, and then three, of which two are equal."""
        fields = busy_status() | Leftovers(config.data).to_dict()
        while "the view failed" not in stream.getvalue():
            yield Status(fields)
            threading.Event().wait(0.001)
        wait_for(lambda: sys.stdout is stream)
        for rate in (1, 41, 41, 42):
            yield Status(fields | {"jobs_per_hour": rate})

    inspect._show_status(config, states(), as_json=False)
    text = stream.getvalue()
    assert text.count("the view failed (ValueError") == 1
    after = text.partition("the view failed")[2]
    assert after.count("daemon    ") == 2, "each state once, behind that in which it failed"
    assert "ValueError" not in after.partition("\n")[2].partition("\n")[2]


def test_watch_goes_on_with_its_log(
    config: Config, stream: Terminal, monkeypatch: pytest.MonkeyPatch
):
    use(stream, monkeypatch)
    monkeypatch.setattr(module, "draw", broken)
    logs.configure(config.logs, console=False)
    log = structlog.get_logger()

    def work(observe: Callable[[dict[str, Any]], None]) -> None:
        log.info("before.failure")
        observe(busy_status())
        wait_for(lambda: "the view failed" in stream.getvalue() and sys.stderr is stream)
        wait_for(lambda: len(logging.getLogger().handlers) == 2)
        observe(busy_status())
        log.info("after.failure")

    monkeypatch.setattr(run, "_stop_on_signals", lambda *_: None)
    run._watch_live(SimpleNamespace(config=config, run=work))  # type: ignore[arg-type]
    text = stream.getvalue()
    assert "before.failure" not in text
    assert text.index("the view failed") < text.index("after.failure")
    assert text.count("the view failed") == 1
    assert "Traceback" not in text, "that is in the log's file"
    assert "Traceback" in (config.logs / "dna-pipeline.log").read_text()
    for handler in logging.getLogger().handlers:
        handler.close()
