"""Talk with a child process."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from dna_pipeline.base import ipc

ECHO = """
import os, sys
from dna_pipeline.base import ipc
inbound, out = ipc.claim_stdio()
print("a library prints")
os.system("echo a program prints")
assert sys.stdin.read() == ""
for message in ipc.messages(inbound):
    out.send({"back": message})
"""


def child(tmp_path: Path, code: str) -> subprocess.Popen:
    (tmp_path / "talker.py").write_text(code)
    return ipc.spawn("talker", {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"})


def wait_for(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_only_messages_come_over_the_pipe(tmp_path: Path) -> None:
    process = child(tmp_path, ECHO)
    printed: list[str] = []
    ipc.follow_stderr(process, printed.append)
    writer = ipc.LineWriter(process.stdin)
    for message in ({"name": "caf\udce9"}, {"n": 2}):
        writer.send(message)
    writer.close()
    with process.stdout:
        assert list(ipc.messages(process.stdout)) == [
            {"back": {"name": "caf\udce9"}}, {"back": {"n": 2}},
        ]  # fmt: skip
    assert process.wait() == 0
    wait_for(lambda: len(printed) == 2)
    assert sorted(printed) == ["a library prints", "a program prints"]


def test_a_listener_that_fails_and_endless_lines_do_not_block_the_child(tmp_path: Path) -> None:
    code = "import sys\nfor _ in range(300): sys.stderr.write('x' * 1000)\n"
    code += "sys.stderr.write('\\nlast\\n')"
    process = child(tmp_path, code)
    seen: list[str] = []

    def say(line: str) -> None:
        seen.append(line)
        raise ValueError(line)

    ipc.follow_stderr(process, say)
    assert process.wait(10) == 0
    wait_for(lambda: "last" in seen)
    assert max(len(line) for line in seen) <= ipc.LINE_BYTES
    process.stdin.close()
    process.stdout.close()


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b'{"a":1}\n{"b":')
    with (tmp_path / "lines").open("rb") as file:
        assert list(ipc.messages(file)) == [{"a": 1}]


def test_messages_stay_whole_when_threads_speak_at_once(tmp_path: Path) -> None:
    with (tmp_path / "lines").open("wb") as file:
        writer = ipc.LineWriter(file)
        threads = [
            threading.Thread(target=lambda i=i: [writer.send({"i": i, "x": "y" * 500})] * 50)
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with (tmp_path / "lines").open("rb") as file:
        assert sorted(m["i"] for m in ipc.messages(file)) == [0, 1, 2, 3]


def test_a_child_is_out_of_reach_of_the_terminals_interrupt(tmp_path: Path) -> None:
    process = child(tmp_path, "import sys; sys.stdin.read()")
    assert os.getpgid(process.pid) != os.getpgid(0)
    process.stdin.close()
    process.wait(10)
    process.stdout.close()
    process.stderr.close()


def test_lines_that_came_together_are_given_together(tmp_path: Path) -> None:
    inbound, outbound = os.pipe()
    with os.fdopen(inbound, "rb") as file:
        batches = ipc.line_batches(file)
        os.write(outbound, b'{"a":1}\n{"b":2}\n{"c"')
        assert [ipc.parse(line) for line in next(batches)] == [{"a": 1}, {"b": 2}]
        os.write(outbound, b':3}\n{"cut')
        assert next(batches) == [b'{"c":3}']
        os.close(outbound)
        assert list(batches) == []


def test_a_line_longer_than_one_read_is_whole() -> None:
    inbound, outbound = os.pipe()
    with os.fdopen(inbound, "rb") as file:
        batches = ipc.line_batches(file)
        text = b"x" * (3 * ipc.CHUNK_BYTES) + b"\n" + b"y" * 10
        writer = threading.Thread(target=lambda: (os.write(outbound, text), os.close(outbound)))
        writer.start()
        assert next(batches) == [b"x" * (3 * ipc.CHUNK_BYTES)]
        assert list(batches) == []
        writer.join(10)


def test_a_line_without_end_is_refused_after_those_before_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ipc, "MESSAGE_BYTES", 100)
    (tmp_path / "lines").write_bytes(b'{"a":1}\n' + b"x" * 101)
    with (tmp_path / "lines").open("rb") as file:
        batches = ipc.line_batches(file)
        assert next(batches) == [b'{"a":1}']
        with pytest.raises(ipc.PipeError, match="a line of more than"):
            next(batches)
