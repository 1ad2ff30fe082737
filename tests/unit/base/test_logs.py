import json
import logging
from pathlib import Path

import pytest
import structlog

from dna_pipeline.base import logs


@pytest.fixture
def configure(tmp_path: Path, monkeypatch):
    """To be called by the test itself: pytest's standard error is another one before."""
    monkeypatch.delenv("DNA_DEBUG_LOG_PATH", raising=False)
    root = logging.getLogger()
    level = root.level
    ours: list[logging.Handler] = []

    def configure(**options: bool) -> Path:
        logs.configure(tmp_path, **options)
        ours.extend(root.handlers)
        return tmp_path / "dna-pipeline.log"

    yield configure
    for handler in ours:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    structlog.reset_defaults()


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_facts_are_fields(configure) -> None:
    file = configure()
    structlog.get_logger().info("job.claimed", job="a1", name="caf\udce9.png", path=Path("x"))
    (line,) = lines(file)
    assert {k: line[k] for k in ("event", "job", "name", "level")} == {
        "event": "job.claimed", "job": "a1", "name": "caf\udce9.png", "level": "info",
    }  # fmt: skip
    assert "timestamp" in line


def test_names_cannot_steer_the_terminal(configure, capsys) -> None:
    configure()
    structlog.get_logger().warning("job.failed", name="\x1b[2Jcat\r\nfake.event")
    assert "\\x1b[2Jcat\\r\\nfake.event" in capsys.readouterr().err


def test_a_traceback_reaches_the_file_and_shows_no_locals(configure, capsys) -> None:
    file = configure()
    secret = "hunter" + "2"
    try:
        len(secret) / 0
    except ZeroDivisionError as error:
        structlog.get_logger().exception("inbox.failed")
        structlog.get_logger().error("inbox.failed", exc_info=error)
    for line in lines(file):
        assert "ZeroDivisionError" in line["exception"]
    shown = capsys.readouterr().err
    assert shown.count("ZeroDivisionError") == 2
    assert secret not in shown


def test_what_an_error_or_a_child_quotes_cannot_steer_the_terminal(configure, capsys) -> None:
    configure()
    try:
        raise ValueError("\x1b[2J\u202ecat\rfake")
    except ValueError:
        structlog.get_logger().exception("inbox.failed")
    logs.relay(json.dumps({"event": "\x1b[2J", "level": "warning"}))
    logs.relay(json.dumps({"event": "a", "level": "warning", "\x1b[2J": 1}))
    logs.relay(json.dumps({"event": "b", "level": "warning", "why": "\x1b[2J\u202e"}))
    shown = capsys.readouterr().err
    assert "\\x1b[2J\\x202ecat\\x0dfake" in shown
    assert all(line.isprintable() for line in shown.split("\n"))


def test_a_childs_lines_are_taken_in(configure) -> None:
    file = configure()
    logs.relay('{"event": "stage.finished", "level": "warning", "job": "a1"}')
    for line in ("Loading weights: 50%", "[1, 2]", '"text"', "5", '{"level": "info"}', ""):
        logs.relay(line)
    (line,) = lines(file)
    assert (line["event"], line["level"], line["job"]) == ("stage.finished", "warning", "a1")


def test_the_file_can_be_moved(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DNA_DEBUG_LOG_PATH", str(tmp_path / "elsewhere.log"))
    assert logs.log_file(tmp_path / "logs") == tmp_path / "elsewhere.log"


def test_a_child_writes_json_lines(capsys, monkeypatch) -> None:
    logs.configure_child()
    try:
        structlog.get_logger().info("worker.ready", device="cpu")
    finally:
        structlog.reset_defaults()
    assert json.loads(capsys.readouterr().err) == {
        "event": "worker.ready", "level": "info", "device": "cpu",
    }  # fmt: skip


def test_what_is_shown_elsewhere_keeps_the_log_from_the_terminal(configure, capsys) -> None:
    file = configure(console=False)
    structlog.get_logger().error("job.failed")
    assert capsys.readouterr() == ("", "")
    assert [line["event"] for line in lines(file)] == ["job.failed"]


def test_what_is_printed_meanwhile_goes_to_the_log_line_by_line(configure, capsys) -> None:
    file = configure(console=False)
    stream = logs.PrintsToLog()
    print("a warning\n\nof a", file=stream, end=" ")
    print("library", file=stream)
    assert [line["text"] for line in lines(file)] == ["a warning", "of a library"]
    try:
        len(file.name) / 0
    except ZeroDivisionError:
        logs.note_failure("screen.failed")
    assert "ZeroDivisionError" in lines(file)[-1]["exception"]


def test_an_error_of_the_log_itself_goes_nowhere(configure, monkeypatch) -> None:
    configure(console=False)
    stream = logs.PrintsToLog()

    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print("no space left", file=stream)

    monkeypatch.setattr(logging.getLogger(), "handlers", [Full()])
    assert stream.write("text\n") == 5


@pytest.mark.parametrize("client", ["httpx", "httpx2"])
def test_addresses_of_requests_are_not_logged(configure, client: str) -> None:
    path = configure()
    logging.getLogger(client).info("HTTP Request: POST https://hooks.example/T0/secret")
    logging.getLogger(client).warning("the address is wrong")
    (line,) = lines(path)
    assert line["event"] == "the address is wrong"
