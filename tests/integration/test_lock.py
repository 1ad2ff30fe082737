import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dna_pipeline.base.errors import Locked
from dna_pipeline.base.reachability import look_directly
from dna_pipeline.operations.daemon.lock import (
    KeptInboxes,
    hold_kept,
    hold_lock,
    holder,
    is_held,
    keeper,
)

HOLDER = """
import sys
from pathlib import Path
from dna_pipeline.operations.daemon.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold_elsewhere(data: Path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "held\n"
    return child


@pytest.fixture
def other(tmp_path: Path):
    child = hold_elsewhere(tmp_path)
    yield child
    child.kill()
    child.communicate()


@pytest.mark.slow
def test_the_second_is_told_who_holds_it(tmp_path: Path, other) -> None:
    assert is_held(tmp_path)
    with pytest.raises(Locked, match=f"process {other.pid} on .*, since 20"), hold_lock(tmp_path):
        raise AssertionError("held twice")
    assert holder(tmp_path)["pid"] == other.pid


@pytest.mark.slow
def test_a_killed_holder_holds_nothing(tmp_path: Path, other) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert not is_held(tmp_path)
    with hold_lock(tmp_path):
        assert holder(tmp_path)["pid"] == os.getpid()
    assert not is_held(tmp_path)


def test_a_folder_that_was_never_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "none")
    assert holder(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_asking_does_not_keep_a_daemon_from_starting(tmp_path: Path) -> None:
    with hold_lock(tmp_path):
        pass
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            is_held(tmp_path)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with hold_lock(tmp_path):
                pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_a_holder_that_said_nothing(tmp_path: Path, other) -> None:
    (tmp_path / "daemon.json").write_text("{")
    with pytest.raises(Locked, match="it did not say which"), hold_lock(tmp_path):
        raise AssertionError("held twice")


def test_the_lock_is_let_go_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_lock(tmp_path):
        raise ZeroDivisionError
    assert not is_held(tmp_path)
    assert json.loads((tmp_path / "daemon.json").read_text())["pid"] == os.getpid()


KEEPER = """
import sys
from pathlib import Path
from dna_pipeline.operations.daemon.lock import hold_kept
with hold_kept([("kept", Path(sys.argv[1]))], Path("/their/data")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_an_inbox_that_keeps_its_files_has_one_daemon(tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    inbox.mkdir()
    (tmp_path / "link").symlink_to(inbox)
    child = subprocess.Popen(
        [sys.executable, "-c", KEEPER, str(inbox)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "held\n"
    said = rf"inbox mine .*process {child.pid}, data folder /their/data"
    with (
        pytest.raises(Locked, match=said),
        hold_kept([("mine", tmp_path / "link")], tmp_path),
    ):
        raise AssertionError("held twice")
    with hold_kept([("other", tmp_path), ("away", tmp_path / "none")], tmp_path):
        pass
    child.kill()
    child.communicate()
    with hold_kept([("mine", inbox)], tmp_path):
        pass
    assert list(inbox.iterdir()) == [], "nothing is ever written into it"


def test_where_daemons_cannot_find_one_another_none_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "nowhere"))
    with hold_kept([("mine", tmp_path)], tmp_path), hold_kept([("mine", tmp_path)], tmp_path):
        pass


def test_the_inboxes_that_are_locked_may_change(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("a", "b", "c")}
    for place in places.values():
        place.mkdir()
    mine, theirs = (KeptInboxes(tmp_path / name, look_directly) for name in ("mine", "theirs"))
    mine.hold([("a", places["a"]), ("b", places["b"])])
    theirs.hold([("c", places["c"])])
    with pytest.raises(Locked, match="inbox c"):
        mine.hold([("b", places["b"]), ("c", places["c"])])
    assert keeper(places["a"], tmp_path / "theirs") is not None, "as before, since it failed"
    mine.hold([("b", places["b"])])
    theirs.hold([("a", places["a"]), ("c", places["c"])])
    with pytest.raises(Locked, match="inbox b"):
        theirs.hold([("b", places["b"])])
    mine.close()
    theirs.hold([("b", places["b"])])
    theirs.close()


def test_an_inbox_that_comes_back_is_locked_by_the_first_daemon_that_looks(tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    mine, theirs = (KeptInboxes(tmp_path / name, look_directly) for name in ("mine", "theirs"))
    for kept in (mine, theirs):
        kept.hold([("in", inbox)])
        assert kept.look(inbox).state == "missing"
    inbox.mkdir()
    assert mine.look(inbox).is_there
    assert mine.look(inbox).is_there, "it has the lock already"
    with ThreadPoolExecutor(1) as pool:
        reach = pool.submit(theirs.look, inbox).result()
    assert reach.is_silent
    assert f"watched by another daemon already: process {os.getpid()}" in reach.why
    assert theirs.look(tmp_path).is_there, "no inbox"
    mine.close()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(theirs.look, inbox).result().is_there
    theirs.close()
    mine.hold([("in", inbox)])
    mine.close()
