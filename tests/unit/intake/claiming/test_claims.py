import errno
import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from dna_pipeline.base import files
from dna_pipeline.base.layout import claim_dir
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claims import (
    Busy,
    Changed,
    Lost,
    Refused,
    claim_file,
    dispose,
    hash_in_place,
    list_claims,
    make_claim_dir,
    put_back,
    snapshot,
    sync_claims,
)
from dna_pipeline.intake.discovery.scan import FileStat


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


@pytest.fixture
def target(inbox: Path) -> Path:
    return make_claim_dir(inbox, "ledger", "drop")


def put(path: Path, data: bytes = b"cat") -> FileStat:
    path.write_bytes(data)
    return FileStat.of(path.lstat())


def before_rename(monkeypatch: pytest.MonkeyPatch, act) -> None:
    """Let `act` happen between the look before the rename and the rename."""
    real = Path.rename

    def rename(self, target):
        act()
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)


def failing(code: int):
    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return fail


def test_claims_lie_hidden_in_the_inbox(inbox: Path, target: Path) -> None:
    assert target == claim_dir(inbox, "ledger", "drop") == inbox / ".dna" / "ledger" / "drop"
    assert target.is_dir()
    assert make_claim_dir(inbox, "ledger", "drop") == target


@pytest.mark.parametrize("part", [".dna", ".dna/ledger", ".dna/ledger/drop"])
def test_a_link_in_the_place_of_the_claims_is_refused(inbox: Path, tmp_path: Path, part) -> None:
    (tmp_path / "elsewhere").mkdir()
    (inbox / part).parent.mkdir(parents=True, exist_ok=True)
    (inbox / part).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused):
        make_claim_dir(inbox, "ledger", "drop")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_no_claim_without_an_inbox(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_claim_dir(tmp_path / "none", "ledger", "drop")
    assert not (tmp_path / "none").exists()


def test_take_moves_the_very_file(inbox: Path, target: Path) -> None:
    expected = put(inbox / "cat.png")
    taken = claim_file(inbox / "cat.png", target / "cat.png", expected)
    assert taken is not None
    assert taken.same_content(expected)
    assert (target / "cat.png").read_bytes() == b"cat"
    assert not (inbox / "cat.png").exists()


def test_take_of_a_name_that_is_not_utf8(inbox: Path, target: Path) -> None:
    source = inbox / os.fsdecode(b"caf\xe9.png")
    taken = claim_file(source, target / source.name, put(source))
    assert [os.fsencode(path.name) for path in target.iterdir()] == [b"caf\xe9.png"]
    assert taken is not None


def test_take_repeated_touches_nothing(inbox: Path, target: Path) -> None:
    expected = put(inbox / "cat.png")
    claim_file(inbox / "cat.png", target / "cat.png", expected)
    put(inbox / "cat.png", b"the next one")
    again = claim_file(inbox / "cat.png", target / "cat.png", expected)
    assert again is not None
    assert (target / "cat.png").read_bytes() == b"cat"
    assert (inbox / "cat.png").read_bytes() == b"the next one"


def test_take_never_overwrites_in_the_claim(inbox: Path, target: Path) -> None:
    expected = put(inbox / "cat.png")
    put(target / "cat.png", b"another")
    with pytest.raises(Refused):
        claim_file(inbox / "cat.png", target / "cat.png", expected)
    assert (target / "cat.png").read_bytes() == b"another"
    assert (inbox / "cat.png").read_bytes() == b"cat"


def test_a_file_that_is_gone_is_lost(inbox: Path, target: Path) -> None:
    expected = put(inbox / "cat.png")
    (inbox / "cat.png").unlink()
    with pytest.raises(Lost):
        claim_file(inbox / "cat.png", target / "cat.png", expected)


def test_a_file_lost_at_the_last_moment(inbox: Path, target: Path, monkeypatch) -> None:
    expected = put(inbox / "cat.png")
    before_rename(monkeypatch, (inbox / "cat.png").unlink)
    with pytest.raises(Lost):
        claim_file(inbox / "cat.png", target / "cat.png", expected)


def test_a_rename_that_says_no_such_file_but_was_done(inbox: Path, target: Path, monkeypatch):
    """NFS repeats a call whose answer was lost."""
    expected = put(inbox / "cat.png")
    before_rename(monkeypatch, lambda: (inbox / "cat.png").replace(target / "cat.png"))
    assert claim_file(inbox / "cat.png", target / "cat.png", expected) is not None


def test_of_many_that_take_one_file_one_gets_it(inbox: Path) -> None:
    expected = put(inbox / "cat.png")
    targets = [make_claim_dir(inbox, "ledger", str(number)) for number in range(8)]
    barrier = threading.Barrier(len(targets))
    outcomes: list[str] = []

    def race(target: Path) -> None:
        barrier.wait()
        try:
            claim_file(inbox / "cat.png", target / "cat.png", expected)
            outcomes.append("taken")
        except Lost:
            outcomes.append("lost")

    threads = [threading.Thread(target=race, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 7 + ["taken"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EBUSY, errno.EROFS])
def test_a_file_that_may_not_be_moved_is_busy(inbox, target, monkeypatch, code: int) -> None:
    expected = put(inbox / "cat.png")
    monkeypatch.setattr(Path, "rename", failing(code))
    with pytest.raises(Busy, match=r"cat\.png: "):
        claim_file(inbox / "cat.png", target / "cat.png", expected)
    assert (inbox / "cat.png").exists()


def test_errors_of_the_environment_stay_what_they_are(inbox, target, monkeypatch) -> None:
    expected = put(inbox / "cat.png")
    monkeypatch.setattr(Path, "rename", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        claim_file(inbox / "cat.png", target / "cat.png", expected)
    monkeypatch.setattr(Path, "rename", failing(errno.EXDEV))
    with pytest.raises(Refused, match="another file system"):
        claim_file(inbox / "cat.png", target / "cat.png", expected)


def test_links_and_folders_are_left_alone(inbox: Path, target: Path, tmp_path: Path) -> None:
    expected = put(tmp_path / "secret.png")
    (inbox / "cat.png").symlink_to(tmp_path / "secret.png")
    (inbox / "dir.png").mkdir()
    for name in ("cat.png", "dir.png"):
        with pytest.raises(Refused):
            claim_file(inbox / name, target / name, expected)
    assert (inbox / "cat.png").is_symlink()
    assert (inbox / "dir.png").is_dir()
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_swapped_in_after_the_look_is_put_back(
    inbox: Path, target: Path, tmp_path: Path, monkeypatch, kind: str
) -> None:
    secret = tmp_path / "secret.png"
    put(secret, b"secret")
    source = inbox / "cat.png"
    expected = put(source)

    def swap() -> None:
        if source.is_file() and not source.is_symlink():
            source.unlink()
            source.symlink_to(secret) if kind == "link" else source.mkdir()

    before_rename(monkeypatch, swap)
    with pytest.raises(Refused):
        claim_file(source, target / source.name, expected)
    assert source.is_symlink() if kind == "link" else source.is_dir()
    assert secret.read_bytes() == b"secret"
    assert list(target.iterdir()) == []


def test_a_file_that_changed_before_is_left_to_its_writer(inbox: Path, target: Path) -> None:
    expected = put(inbox / "cat.png")
    put(inbox / "cat.png", b"grown")
    with pytest.raises(Changed):
        claim_file(inbox / "cat.png", target / "cat.png", expected)
    assert (inbox / "cat.png").read_bytes() == b"grown"


def test_a_file_that_changed_at_the_last_moment_is_taken_and_told(
    inbox: Path, target: Path, monkeypatch
) -> None:
    expected = put(inbox / "cat.png")
    before_rename(monkeypatch, lambda: put(inbox / "cat.png", b"grown"))
    taken = claim_file(inbox / "cat.png", target / "cat.png", expected)
    assert taken is None
    assert (target / "cat.png").read_bytes() == b"grown"


def test_put_back_under_its_own_name(inbox: Path, target: Path) -> None:
    put(target / "cat.png")
    assert put_back(target / "cat.png", inbox / "x" / "cat.png") == inbox / "x" / "cat.png"
    assert (inbox / "x" / "cat.png").read_bytes() == b"cat"
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_put_back_never_overwrites(inbox: Path, target: Path, monkeypatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    for number in range(3):
        put(target / "cat.png", str(number).encode())
        put_back(target / "cat.png", inbox / "cat.png")
    assert {path.name: path.read_bytes() for path in inbox.glob("*.png")} == {
        "cat.png": b"0",
        "cat (1).png": b"1",
        "cat (2).png": b"2",
    }
    assert list(target.iterdir()) == []


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="a rename cannot refuse there")
def test_put_back_without_links_does_not_overwrite_what_comes_between(
    inbox: Path, target: Path, monkeypatch
) -> None:
    put(target / "cat.png", b"claimed")
    put(inbox / "cat.png", b"came between")
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    assert put_back(target / "cat.png", inbox / "cat.png") == inbox / "cat (1).png"
    assert (inbox / "cat.png").read_bytes() == b"came between"
    assert (inbox / "cat (1).png").read_bytes() == b"claimed"


def test_put_back_makes_the_new_name_durable_before_the_old_one_goes(
    inbox: Path, target: Path, monkeypatch
) -> None:
    put(target / "cat.png")
    names_at_flush: list[tuple[Path, bool, bool]] = []

    def note(folder: Path) -> None:
        there = [(place / "cat.png").exists() for place in (inbox, target)]
        names_at_flush.append((folder, there[0], there[1]))

    monkeypatch.setattr(claims, "fsync_dir", note)
    put_back(target / "cat.png", inbox / "cat.png")
    assert names_at_flush == [(inbox, True, True)]


def test_put_back_that_was_cut_off_is_finished(inbox: Path, target: Path) -> None:
    put(target / "cat.png")
    os.link(target / "cat.png", inbox / "cat.png")
    assert put_back(target / "cat.png", inbox / "cat.png") == inbox / "cat.png"
    assert [path.name for path in inbox.glob("*.png")] == ["cat.png"]
    assert list(target.iterdir()) == []


def test_put_back_with_a_name_that_cannot_grow(inbox: Path, target: Path) -> None:
    name = "é" * 125 + ".png"
    put(inbox / name, b"first")
    put(target / name, b"second")
    back = put_back(target / name, inbox / name)
    assert back.read_bytes() == b"second"
    assert back.name == "é" * 123 + " (1).png"
    assert (inbox / name).read_bytes() == b"first"


def test_put_back_of_a_link_moves_the_link(inbox: Path, target: Path, tmp_path: Path) -> None:
    put(tmp_path / "secret.png")
    (target / "cat.png").symlink_to(tmp_path / "secret.png")
    put_back(target / "cat.png", inbox / "cat.png")
    assert (inbox / "cat.png").readlink() == tmp_path / "secret.png"


def test_hash_in_place(inbox: Path) -> None:
    data = os.urandom(3_000_000)
    expected = put(inbox / "cat.png", data)
    hashed = hash_in_place(inbox / "cat.png")
    assert hashed.sha256 == hashlib.sha256(data).hexdigest()
    assert (hashed.size, hashed.stat) == (3_000_000, expected)


def write_while_reading(monkeypatch: pytest.MonkeyPatch, act) -> None:
    """Let `act` happen between the first and the second look at the open file."""
    real = claims._regular

    def regular(file, path):
        status = real(file, path)
        act()
        return status

    monkeypatch.setattr(claims, "_regular", regular)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    put(path.with_name("new"), b"dog")
    path.with_name("new").replace(path)


def test_hash_of_a_file_that_is_written_to(inbox: Path, monkeypatch) -> None:
    put(inbox / "cat.png")
    write_while_reading(monkeypatch, lambda: append(inbox / "cat.png"))
    with pytest.raises(Changed):
        hash_in_place(inbox / "cat.png")


@pytest.mark.parametrize("read", [hash_in_place, lambda path: snapshot(path, path.parent / "copy")])
def test_only_regular_files_are_read(inbox: Path, tmp_path: Path, read) -> None:
    put(tmp_path / "secret.png")
    (inbox / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(inbox / "pipe.png")
    (inbox / "dir.png").mkdir()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for name in ("link.png", "pipe.png", "dir.png"):
        with pytest.raises(Refused):
            read(inbox / name)
    with pytest.raises(Lost):
        read(inbox / "none.png")
    assert not (inbox / "copy").exists()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_file_that_may_not_be_read_is_busy(inbox: Path, monkeypatch) -> None:
    put(inbox / "cat.png")
    monkeypatch.setattr(os, "open", failing(errno.EACCES))
    with pytest.raises(Busy):
        hash_in_place(inbox / "cat.png")


def test_snapshot_copies_and_leaves_the_source(inbox: Path, target: Path) -> None:
    data = os.urandom(3_000_000)
    before = put(inbox / "cat.png", data)
    hashed = snapshot(inbox / "cat.png", target / "cat.png")
    assert hashed.sha256 == hashlib.sha256(data).hexdigest()
    assert (hashed.size, hashed.stat) == (3_000_000, before)
    assert (target / "cat.png").read_bytes() == data
    assert FileStat.of((inbox / "cat.png").lstat()) == before
    copy = (target / "cat.png").lstat()
    assert copy.st_ino != before.inode
    assert copy.st_nlink == 1
    assert copy.st_mtime_ns == before.mtime_ns


def test_snapshot_replaces_what_an_earlier_call_left(inbox: Path, target: Path) -> None:
    put(inbox / "cat.png", b"whole")
    put(target / "part", b"wh")
    os.link(target / "part", target / "cat.png")
    snapshot(inbox / "cat.png", target / "cat.png")
    assert (target / "cat.png").read_bytes() == b"whole"
    assert (target / "part").read_bytes() == b"wh"


def rewrite_unnoticed(path: Path) -> None:
    before = path.stat()
    time.sleep(0.02)
    put(path, b"dog")
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))


def replace_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("away"))
    path.parent.mkdir()
    put(path, b"dog")


CHANGES = [append, replace, Path.unlink, rewrite_unnoticed, replace_folder]


@pytest.mark.parametrize("act", CHANGES)
def test_snapshot_of_a_file_that_changes_leaves_no_copy(inbox, target, monkeypatch, act) -> None:
    source = inbox / "x" / "cat.png"
    source.parent.mkdir()
    put(source)
    write_while_reading(monkeypatch, lambda: act(source))
    with pytest.raises(Changed):
        snapshot(source, target / "cat.png")
    assert list(target.iterdir()) == []


def test_snapshot_on_a_full_disk_leaves_no_copy(inbox: Path, target: Path, monkeypatch) -> None:
    put(inbox / "cat.png")
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        snapshot(inbox / "cat.png", target / "cat.png")
    assert list(target.iterdir()) == []
    assert (inbox / "cat.png").read_bytes() == b"cat"


def test_syncing_goes_from_the_claim_up_and_to_the_inbox_last(inbox, monkeypatch) -> None:
    synced: list[Path] = []
    for module in (files, claims):
        monkeypatch.setattr(module, "fsync_dir", synced.append)
    one = make_claim_dir(inbox, "ledger", "1")
    sync_claims([one], [inbox / "sub"])
    above = [one.parent, inbox / ".dna", inbox]
    assert synced == [one, *above, inbox / "sub"]
    synced.clear()
    two = make_claim_dir(inbox, "ledger", "2")
    sync_claims([one, two], [inbox, inbox])
    assert set(synced[:2]) == {one, two}
    assert synced[2:] == above


def test_syncing_real_folders_some_of_which_are_gone(inbox: Path, target: Path) -> None:
    sync_claims([target], [inbox / "removed"])
    sync_claims([], [])


def test_dispose_removes_the_claim_and_what_is_empty_above(inbox: Path, target: Path) -> None:
    other = make_claim_dir(inbox, "ledger", "other")
    put(target / "cat.png")
    put(target / "cat.yaml")
    dispose(target)
    assert list_claims(inbox, "ledger") == ["other"]
    dispose(other)
    assert list(inbox.iterdir()) == []
    dispose(other)


def test_dispose_leaves_the_claims_of_another_ledger(inbox: Path, target: Path) -> None:
    other = make_claim_dir(inbox, "another", "drop")
    dispose(target)
    assert other.is_dir()
    assert not target.parent.exists()


def test_dispose_does_not_follow_links(inbox: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    put(tmp_path / "far" / "a.png")
    (target / "far").symlink_to(tmp_path / "far")
    dispose(target)
    assert (tmp_path / "far" / "a.png").exists()


@pytest.mark.slow
def test_claims_come_while_others_go(inbox: Path) -> None:
    """Removing empty folders never takes one away from under a new claim."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            while not stop.is_set():
                put(make_claim_dir(inbox, "ledger", name) / "cat.png")
                dispose(claim_dir(inbox, "ledger", name))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    stop.wait(0.5)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_list_claims(inbox: Path) -> None:
    assert list_claims(inbox, "ledger") == []
    for drop in ("b", "a"):
        make_claim_dir(inbox, "ledger", drop)
    put(inbox / ".dna" / "ledger" / "stray")
    assert list_claims(inbox, "ledger") == ["a", "b"]
    assert list_claims(inbox, "another") == []
