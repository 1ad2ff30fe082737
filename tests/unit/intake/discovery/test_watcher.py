import logging
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from watchdog.events import FileCreatedEvent, FileMovedEvent

from dna_pipeline.base import filesystem
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery import watcher as module
from dna_pipeline.intake.discovery.watcher import Watcher
from tests.junctions import pretend


class Hints:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.warnings: list[tuple[str, str]] = []

    def __call__(self, name: str) -> None:
        self.names.append(name)

    def warn(self, name: str, text: str) -> None:
        self.warnings.append((name, text))

    def wait(self, name: str = "in") -> None:
        deadline = time.monotonic() + 8
        while name not in self.names:
            assert time.monotonic() < deadline, f"no hint for {name}"
            time.sleep(0.01)


@pytest.fixture
def hints() -> Hints:
    return Hints()


@pytest.fixture
def watch(hints: Hints) -> Iterator[Callable[..., Watcher]]:
    watchers: list[Watcher] = []

    def start(*inboxes: Inbox) -> Watcher:
        watcher = Watcher(inboxes, hints, hints.warn)
        watchers.append(watcher)
        watcher.refresh()
        hints.names.clear()
        return watcher

    yield start
    for watcher in watchers:
        watcher.stop()


@pytest.fixture(autouse=True)
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.1)


def inbox(path: Path, **options) -> Inbox:
    return Inbox(name=options.pop("name", path.name), path=path, pipeline="p", **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("mode", "kind"), [("auto", "native"), ("native", "native"), ("poll", "poll")]
)
def test_a_new_file_is_hinted_at(root: Path, hints: Hints, watch, mode: str, kind: str) -> None:
    watcher = watch(inbox(root, watch=mode))
    assert watcher.kind("in") == kind
    (root / "cat.png").write_bytes(b"x")
    hints.wait()
    assert hints.warnings == []


def test_an_inbox_below_a_folder_called_as_ours(tmp_path: Path, hints: Hints, watch) -> None:
    root = tmp_path / ".dna" / "in"
    root.mkdir(parents=True)
    assert watch(inbox(root)).kind("in") == "native"
    (root / "cat.png").write_bytes(b"x")
    hints.wait()


@pytest.mark.parametrize("mode", ["native", "poll"])
def test_subfolders_of_a_recursive_inbox(root: Path, hints: Hints, watch, mode: str) -> None:
    (root / "old").mkdir()
    (root / "old" / "loop").symlink_to(root)
    watch(inbox(root, recursive=True, watch=mode))
    (root / "old" / "cat.png").write_bytes(b"x")
    hints.wait()
    (root / "new" / "deep").mkdir(parents=True)
    time.sleep(0.3)
    hints.names.clear()
    (root / "new" / "deep" / "cat.png").write_bytes(b"x")
    hints.wait()


def test_each_inbox_is_hinted_at_by_its_name(tmp_path: Path, hints: Hints, watch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    watch(inbox(tmp_path / "a"), inbox(tmp_path / "b", watch="poll"))
    (tmp_path / "b" / "cat.png").write_bytes(b"x")
    hints.wait("b")
    assert set(hints.names) == {"b"}
    (tmp_path / "a" / "cat.png").write_bytes(b"x")
    hints.wait("a")


@pytest.mark.parametrize("act", ["finish", "overwrite"])
def test_what_makes_a_file_ready_is_hinted_at(root: Path, hints: Hints, watch, act: str) -> None:
    part = root / "cat.png.part"
    part.write_bytes(b"x")
    (root / "dog.png").write_bytes(b"x")
    watch(inbox(root))
    if act == "finish":
        part.rename(root / "cat.png")
    else:
        (root / "dog.png").write_bytes(b"y")
    hints.wait()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["native", "poll"])
def test_our_own_doings_give_no_hints(root: Path, hints: Hints, watch, mode: str) -> None:
    for name in ("cat.png", "dog.png", "gone.png"):
        (root / name).write_bytes(b"x")
    (root / "x").mkdir()
    (root / "x" / "deep.png").write_bytes(b"x")
    watch(inbox(root, watch=mode), inbox(root / "x", recursive=True, watch=mode))
    claim = root / ".dna" / "ledger" / "drop"
    claim.mkdir(parents=True)
    (root / "cat.png").read_bytes()
    (root / "cat.png").rename(claim / "cat.png")
    (claim / "cat.png").read_bytes()
    (claim / "copy.png").write_bytes(b"x")
    inner = root / "x" / ".dna" / "ledger" / "drop"
    inner.mkdir(parents=True)
    (root / "x" / "deep.png").rename(inner / "deep.png")
    shutil.rmtree(root / ".dna")
    shutil.rmtree(root / "x" / ".dna")
    (root / "gone.png").unlink()
    (root / "cat.png.part").write_bytes(b"x")
    time.sleep(1.2)  # watchdog holds a move back for half a second
    assert hints.names == []
    (root / "x" / "cat.png").write_bytes(b"x")
    hints.wait("x")


def watched_folders() -> int:
    """How many folders this process watches, as the kernel counts them."""
    count = 0
    for path in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            count += path.read_text().count("inotify wd:")
    return count


def test_claims_cost_no_watches(root: Path, hints: Hints, watch) -> None:
    def claim(number: int) -> None:
        path = root / ".dna" / "ledger" / str(number)
        path.mkdir(parents=True)
        (path / "cat.png").write_bytes(b"x")

    (root / "x").mkdir()
    claim(0)
    before = watched_folders()
    watch(inbox(root, recursive=True))
    for number in range(1, 50):
        claim(number)
    shutil.rmtree(root / ".dna")
    claim(99)
    (root / "y").mkdir()
    hints.wait()
    assert watched_folders() - before == 3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["native", "poll"])
def test_litter_of_systems_gives_no_hints(root: Path, hints: Hints, watch, mode: str) -> None:
    (root / "photos" / "@eaDir").mkdir(parents=True)
    watch(inbox(root, recursive=True, watch=mode))
    time.sleep(0.3)
    hints.names.clear()
    for name in (
        "photos/@eaDir/cat.png/SYNOPHOTO_THUMB_XL.jpg",
        "#recycle/cat.png",
        "System Volume Information/cat.png",
        "cat.png.download/cat.png",
        "cat.sync-conflict-20260101-120000-ABCDEFG.png",
        "cat (Anna's conflicted copy 2026-01-01).png",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    time.sleep(1.2)
    assert hints.names == []
    (root / "photos" / "cat.png").write_bytes(b"x")
    hints.wait()


def test_folders_of_systems_cost_no_watches(root: Path, hints: Hints, watch) -> None:
    (root / "#recycle" / "photos" / "deep").mkdir(parents=True)
    (root / "photos" / "@eaDir" / "cat.png").mkdir(parents=True)
    before = watched_folders()
    watch(inbox(root, recursive=True))
    (root / "@eaDir" / "dog.png").mkdir(parents=True)
    (root / "dog.png").write_bytes(b"x")
    hints.wait()
    assert watched_folders() - before == 2


@pytest.mark.slow
def test_a_folder_that_comes_out_of_a_bin_is_watched(root: Path, hints: Hints, watch) -> None:
    (root / "#recycle" / "photos" / "deep").mkdir(parents=True)
    watch(inbox(root, recursive=True))
    (root / "#recycle" / "photos").rename(root / "photos")
    hints.wait()
    (root / "#recycle").rename(root / "saved")
    time.sleep(1.2)
    for folder in (root / "photos" / "deep", root / "saved"):
        hints.names.clear()
        (folder / "cat.png").write_bytes(b"x")
        hints.wait()


def test_folders_that_come_and_go_fast(root: Path, hints: Hints, watch) -> None:
    """Each is told of by several events, which watchdog must not stumble over."""
    watcher = watch(inbox(root, recursive=True))
    for _ in range(100):
        (root / "a" / "b" / "c").mkdir(parents=True)
        (root / "a" / "b" / "c" / "cat.png").write_bytes(b"x")
        shutil.rmtree(root / "a")
    time.sleep(0.2)
    hints.names.clear()
    (root / "cat.png").write_bytes(b"x")
    hints.wait()
    watcher.refresh()
    assert watcher.kind("in") == "native"


@pytest.mark.parametrize("mode", ["native", "poll"])
def test_linked_folders_are_not_watched(root: Path, hints: Hints, watch, mode: str) -> None:
    far = root.with_name("far")
    far.mkdir()
    (root / "link").symlink_to(far)
    watch(inbox(root, recursive=True, watch=mode))
    (far / "cat.png").write_bytes(b"x")
    time.sleep(0.4)
    assert hints.names == []
    (root / "cat.png").write_bytes(b"x")
    hints.wait()


@pytest.mark.slow
def test_a_junction_is_not_polled(root: Path, hints: Hints, watch, monkeypatch) -> None:
    (root / "there").mkdir()
    pretend(monkeypatch, "there")
    watch(inbox(root, recursive=True, watch="poll"))
    time.sleep(0.3)
    hints.names.clear()
    (root / "there" / "cat.png").write_bytes(b"x")
    time.sleep(0.5)
    assert hints.names == []
    (root / "cat.png").write_bytes(b"x")
    hints.wait()


def test_a_folder_that_comes_later(root: Path, hints: Hints, watch) -> None:
    root.rmdir()
    watcher = watch(inbox(root))
    assert watcher.kind("in") is None
    watcher.refresh()
    assert hints.names == []
    root.mkdir()
    watcher.refresh()
    assert hints.names == ["in"], "what came before the watch gave no event"
    hints.names.clear()
    (root / "cat.png").write_bytes(b"x")
    hints.wait()
    assert hints.warnings == []


@pytest.mark.parametrize("mode", ["native", "poll"])
@pytest.mark.parametrize("way", ["removed", "moved away"])
def test_a_folder_that_is_made_anew(root: Path, hints: Hints, watch, mode: str, way: str) -> None:
    watcher = watch(inbox(root, watch=mode))
    if way == "removed":
        root.rmdir()
        hints.wait()
        time.sleep(0.2)
    else:
        root.rename(root.with_name("away"))
    root.mkdir()
    watcher.refresh()
    time.sleep(0.3)
    hints.names.clear()
    (root / "cat.png").write_bytes(b"x")
    hints.wait()
    assert watcher.kind("in") == mode


def test_a_folder_that_went_is_let_go(root: Path, hints: Hints, watch) -> None:
    watcher = watch(inbox(root))
    root.rmdir()
    watcher.refresh()
    assert watcher.kind("in") is None


def test_refreshing_what_is_well_changes_nothing(root: Path, hints: Hints, watch) -> None:
    watcher = watch(inbox(root, recursive=True))
    for _ in range(3):
        watcher.refresh()
    assert hints.names == []
    (root / "cat.png").write_bytes(b"x")
    hints.wait()


def test_an_inbox_named_by_a_link(root: Path, hints: Hints, watch) -> None:
    link = root.with_name("link")
    link.symlink_to(root)
    watch(inbox(link, name="in"))
    (root / "cat.png").write_bytes(b"x")
    hints.wait()


def test_a_hint_that_raises_ends_nothing(root: Path) -> None:
    calls: list[str] = []
    seen = threading.Event()

    def hint(name: str) -> None:
        calls.append(name)
        if len(calls) <= 2:
            raise RuntimeError("a bug of the caller's")
        if len(calls) > 2:
            seen.set()

    watcher = Watcher([inbox(root)], hint, lambda *_: None)
    watcher.refresh()
    (root / "a.png").write_bytes(b"x")
    time.sleep(0.2)
    (root / "b.png").write_bytes(b"x")
    assert seen.wait(5)
    watcher.stop()


def test_stop_ends_all_threads(root: Path, hints: Hints) -> None:
    before = set(threading.enumerate())
    other = root.with_name("other")
    other.mkdir()
    watcher = Watcher([inbox(root), inbox(other, watch="poll")], hints, hints.warn)
    watcher.refresh()
    own = set(threading.enumerate()) - before
    assert own
    assert all(thread.daemon for thread in own)
    watcher.stop()
    watcher.stop()
    assert not any(thread.is_alive() for thread in own)


def test_polling_where_watching_fails(root: Path, hints: Hints, watch, monkeypatch) -> None:
    def no_instances(self):
        raise OSError(24, "inotify instance limit reached")

    monkeypatch.setattr(Watcher, "_native", no_instances)
    asked = root.with_name("asked")
    asked.mkdir()
    watcher = watch(inbox(root), inbox(asked, watch="native"))
    watcher.refresh()
    assert watcher.kind("in") == "poll"
    assert watcher.kind("asked") is None
    failed = "watching natively fails: [Errno 24] inotify instance limit reached"
    assert hints.warnings == [
        ("in", failed),
        ("asked", failed),
        ("asked", "not watched, only scanned every 30 s"),
    ]
    (root / "cat.png").write_bytes(b"x")
    hints.wait()


@pytest.mark.parametrize("part", ["dispatcher", "reader"])
def test_an_observer_that_died_is_replaced(root: Path, hints: Hints, watch, part: str) -> None:
    watcher = watch(inbox(root))
    observer = watcher._observers["native"]
    thread = observer if part == "dispatcher" else observer._reader
    thread.stop()
    thread.join()
    watcher.refresh()
    observer.join(5)
    assert not observer.is_alive()
    watcher.refresh()
    hints.names.clear()
    (root / "cat.png").write_bytes(b"x")
    hints.wait()


@pytest.mark.slow
def test_events_that_the_kernel_threw_away_are_made_up_for(root: Path, hints: Hints, watch) -> None:
    """The reader is held back until more has happened than the kernel keeps for it."""
    deep = root.with_name("deep")
    deep.mkdir()
    watcher = watch(inbox(root), inbox(deep, recursive=True))
    reader = watcher._observers["native"]._reader
    go_on = threading.Event()
    real = reader.read_events
    reader.read_events = lambda: (go_on.wait(20), real())[1]
    (root / "first.png").write_bytes(b"x")  # lets the reader out of the read that it is in
    hints.wait()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit):  # each of them several events
        (root / f"{number % 2}.png.part").write_bytes(b"x")
    (deep / "new").mkdir()
    (deep / "new" / "cat.png").write_bytes(b"x")
    hints.names.clear()
    go_on.set()
    hints.wait("deep")
    time.sleep(0.5)
    hints.names.clear()
    (deep / "new" / "dog.png").write_bytes(b"x")
    hints.wait("deep")
    (root / "cat.png").write_bytes(b"x")
    hints.wait("in")


def test_many_deep_folders_made_at_once_with_a_file_in_each(
    root: Path, hints: Hints, watch
) -> None:
    """As `mkdir -p a/b/c && cp x a/b/c/` does: each file is hinted at once it is there."""
    watch(inbox(root, recursive=True))
    for number in range(20):
        folder = root / str(number) / "b" / "c"
        folder.mkdir(parents=True)
        (folder / "cat.png.part").write_bytes(b"x")
        time.sleep(0.02 * (number % 3))
        hints.names.clear()
        (folder / "cat.png").write_bytes(b"x")
        hints.wait()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["native", "poll"])
def test_a_tree_that_is_moved_in_is_watched_to_its_leaves(
    root: Path, hints: Hints, watch, mode: str
) -> None:
    tree = root.with_name("tree")
    (tree / "b" / "c").mkdir(parents=True)
    (tree / "b" / "c" / "cat.png").write_bytes(b"x")
    watch(inbox(root, recursive=True, watch=mode))
    tree.rename(root / "a")
    hints.wait()
    time.sleep(1.2)  # watchdog holds a move back for half a second
    hints.names.clear()
    (root / "a" / "b" / "c" / "dog.png").write_bytes(b"x")
    hints.wait()


def test_ending_a_watch_logs_no_error(root: Path, hints: Hints, watch, caplog) -> None:
    """An emitter may be stopped between its look at the flag and its read, and says so."""
    watcher = watch(inbox(root))
    (emitter,) = watcher._observers["native"].emitters
    watcher.stop()
    emitter.queue_events(0)
    assert caplog.text == ""
    logging.getLogger("watchdog.observers.inotify").error("what is wrong indeed")
    assert "what is wrong indeed" in caplog.text


EXHAUSTED = """
import sys, time
from pathlib import Path
from dna_pipeline.intake.discovery import watcher as module
from dna_pipeline.config.schema import Inbox
module.POLL_S = 0.1
root = Path(sys.argv[1])
limit = Path("/proc/sys/user/max_inotify_watches")

def check(inbox, file):
    hints, warnings = [], []
    watcher = module.Watcher([inbox], hints.append, lambda name, text: warnings.append(text))
    watcher.refresh()
    hints.clear()
    file.write_bytes(b"x")
    deadline = time.monotonic() + 8
    while not hints and time.monotonic() < deadline:
        time.sleep(0.01)
    print(watcher.kind("in"), hints[:1], warnings)
    watcher.stop()

limit.write_text("3")
check(Inbox("in", root, "p", recursive=True), root / "5" / "cat.png")
limit.write_text("0")
check(Inbox("in", root, "p"), root / "cat.png")
"""


@pytest.mark.slow
def test_polling_where_the_system_has_no_watches_left(
    root: Path, lacking: Callable[[str], None]
) -> None:
    namespace = ["unshare", "--user", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False).returncode:
        lacking("no user namespaces here")
    for number in range(6):
        (root / str(number)).mkdir()
    done = subprocess.run(
        [*namespace, sys.executable, "-c", EXHAUSTED, str(root)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "poll ['in'] [\"the system's limit of watches is reached; raise it (doctor says how)\"]",
        "poll ['in'] ['watching natively fails: [Errno 28] inotify watch limit reached']",
    ]


TABLE = r"""
/dev/vda / ext4 rw 0 0
proc /proc proc rw 0 0
server:/x /mnt/nas nfs4 rw 0 0
//server/y /mnt/my\040share cifs rw 0 0
tmpfs /mnt/nas/local tmpfs rw 0 0
tmpfs /mnt/nas/local xfs rw 0 0
short line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/in", "ext4"),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/in", "nfs4"),
        ("/mnt/nasty", "ext4"),
        ("/mnt/my share/in", "cifs"),
        ("/mnt/nas/local/in", "xfs"),
    ],
)
def test_file_systems(path: str, kind: str) -> None:
    assert filesystem.find_type(path, TABLE) == kind


def test_network_mounts_are_polled(root: Path, hints: Hints, watch, monkeypatch) -> None:
    monkeypatch.setattr(filesystem, "find_type", lambda path, table: "cifs")
    other = root.with_name("other")
    other.mkdir()
    watcher = watch(inbox(root), inbox(other, watch="native"))
    assert (watcher.kind("in"), watcher.kind("other")) == ("poll", "native")


def test_events_are_judged_by_where_the_file_is_now(tmp_path: Path) -> None:
    hints: list[int] = []
    handler = module._Handler(str(tmp_path), lambda: hints.append(1))
    out = str(tmp_path / "cat.png")
    claimed = str(tmp_path / ".dna" / "l" / "d" / "cat.png")
    handler.dispatch(FileMovedEvent(out, claimed))
    assert hints == []
    handler.dispatch(FileMovedEvent(claimed, out))
    handler.dispatch(FileCreatedEvent(out.encode()))
    assert len(hints) == 2
