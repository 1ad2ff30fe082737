"""The entries by which servers of a data folder are found."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dna_pipeline.operations.serving.addresses import ServerAddress, announced, newest, running

SERVER = """
import sys
from pathlib import Path
from dna_pipeline.operations.serving.addresses import announced
with announced(Path(sys.argv[1]), sys.argv[2], has_token=True):
    print("runs", flush=True)
    sys.stdin.read()
"""


def start(data: Path, url: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(data), url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "runs\n"
    return child


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    child = start(tmp_path, "https://studio:8000")
    yield child
    child.kill()
    child.communicate()


def names(data: Path) -> list[str]:
    return sorted(path.suffix for path in data.glob("server.*"))


def test_where_none_ran(tmp_path: Path) -> None:
    assert running(tmp_path / "none") == []
    assert newest(tmp_path) is None


def test_the_entry_goes_with_the_server(tmp_path: Path) -> None:
    with announced(tmp_path / "data", "http://127.0.0.1:8000/", has_token=False):
        assert newest(tmp_path / "data") == ServerAddress(
            "http://127.0.0.1:8000", os.getpid(), platform.node(),
            running(tmp_path / "data")[0].started, has_token=False,
        )  # fmt: skip
        assert names(tmp_path / "data") == [".json", ".lock"]
    assert names(tmp_path / "data") == []


def test_the_last_of_several_comes_first(tmp_path: Path) -> None:
    with announced(tmp_path, "http://127.0.0.1:1", has_token=False):
        with announced(tmp_path, "http://127.0.0.1:2", has_token=True):
            assert [each.url[-1] for each in running(tmp_path)] == ["2", "1"]
        found = newest(tmp_path)
    assert found is not None
    assert found.result("0123abcd") == "http://127.0.0.1:1/results/0123abcd"


@pytest.mark.slow
def test_a_server_of_another_process(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    (found,) = running(tmp_path)
    assert (found.url, found.pid, found.has_token) == ("https://studio:8000", other.pid, True)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert names(tmp_path) == [".json", ".lock"]
    assert running(tmp_path) == []
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "entry",
    [b"", b"[]", b"{}", b'{"url": 1, "pid": 1, "host": "a", "started": "", "token": 0}',
     b'{"url": "file:///etc", "pid": 1, "host": "a", "started": "", "token": false}'],
)  # fmt: skip
def test_an_entry_that_nobody_wrote_so(tmp_path: Path, entry: bytes) -> None:
    with announced(tmp_path, "http://127.0.0.1:8000", has_token=False):
        (place,) = tmp_path.glob("server.*.json")
        place.write_bytes(entry)
        assert running(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "is_found"),
    [("http://127.0.0.1:8000", False), ("http://[::1]:8000", False), ("http://localhost", False),
     ("http://10.0.0.2:8000", True), ("https://studio:8000", True)],
)  # fmt: skip
def test_a_server_of_another_machine(tmp_path: Path, url: str, is_found: bool) -> None:
    with announced(tmp_path, url, has_token=False):
        (place,) = tmp_path.glob("server.*.json")
        place.write_text(json.dumps(json.loads(place.read_text()) | {"host": "elsewhere"}))
        assert bool(running(tmp_path)) == is_found


def test_files_of_others_stay(tmp_path: Path) -> None:
    for name in ("server.json", "server.key.json", "server..lock", "server.0a.pem"):
        (tmp_path / name).write_text("{}")
    assert running(tmp_path) == []
    assert len(names(tmp_path)) == 4


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the folder's place")
    with announced(tmp_path / "data", "http://127.0.0.1:8000", has_token=False):
        assert (tmp_path / "data").read_text().startswith("a file")
