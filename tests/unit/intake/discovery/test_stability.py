import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna_pipeline.base.naming import folder_of
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.discovery.stability import DOWNLOAD_WAIT_S, StabilityTracker


def stat(version: int = 0) -> FileStat:
    return FileStat(size=1, mtime_ns=version, ctime_ns=0, inode=7, device=1)


def test_a_file_settles_when_it_was_seen_unchanged_long_enough() -> None:
    tracker = StabilityTracker(2)
    tracker.observe({"a.png": stat()}, 10)
    assert not tracker.is_settled("a.png")
    assert tracker.next_settle() == 12
    tracker.observe({"a.png": stat()}, 11.9)
    assert not tracker.is_settled("a.png")
    tracker.observe({"a.png": stat()}, 12)
    assert tracker.is_settled("a.png")
    assert tracker.settled_since("a.png") == 12
    assert tracker.unchanged_since("a.png") == 10
    assert tracker.next_settle() is None


def test_a_download_settles_when_its_partial_file_is_gone() -> None:
    tracker = StabilityTracker(2)
    files = {"a.png": stat(), "b.png": stat()}
    tracker.observe(files, 10, {"a.png"})
    assert tracker.next_settle() == 12, "that of the other file"
    tracker.observe(files, 100, {"a.png"})
    assert [tracker.is_settled(path) for path in files] == [False, True]
    assert (tracker.is_downloading("a.png"), tracker.next_settle()) == (True, None)
    tracker.observe(files, 101)
    assert tracker.settled_since("a.png") == 12
    assert not tracker.is_downloading("a.png")


def test_a_download_that_ends_has_its_place_among_those_that_settle() -> None:
    tracker = StabilityTracker(50)
    tracker.observe({"a.png": stat()}, 0, {"a.png"})
    files = {"a.png": stat(), "b.png": stat()}
    tracker.observe(files, 20, {"a.png"})
    tracker.observe(files, 30)
    assert tracker.next_settle() == 50
    tracker.observe(files, 50)
    assert tracker.next_settle() == 70


def test_a_partial_file_that_was_left_holds_nothing_up_for_ever() -> None:
    tracker = StabilityTracker(2)
    for now in (0, DOWNLOAD_WAIT_S - 1):
        tracker.observe({"a.png": stat()}, now, {"a.png"})
    assert not tracker.is_settled("a.png")
    tracker.observe({"a.png": stat()}, DOWNLOAD_WAIT_S, {"a.png"})
    assert tracker.is_settled("a.png")


def test_what_we_moved_out_and_back_is_still_settled() -> None:
    tracker = StabilityTracker(2)
    for now in (0, 2):
        tracker.observe({"a": FileStat(1, 2, 3, 4, 5)}, now)
    tracker.expect_back("a")
    tracker.observe({"a": FileStat(1, 2, 9, 4, 5)}, 3)
    assert tracker.settled_since("a") == 2
    tracker.observe({"a": FileStat(1, 2, 10, 4, 5)}, 4)
    assert not tracker.is_settled("a"), "that was somebody else"


def test_what_was_written_to_in_between_is_not() -> None:
    tracker = StabilityTracker(2)
    for now in (0, 2):
        tracker.observe({"a": FileStat(1, 2, 3, 4, 5)}, now)
    tracker.expect_back("a")
    tracker.observe({"a": FileStat(1, 3, 9, 4, 5)}, 3)
    assert not tracker.is_settled("a")


def test_time_without_a_look_proves_nothing() -> None:
    tracker = StabilityTracker(2)
    tracker.observe({"a.png": stat()}, 10)
    tracker.observe({"a.png": stat(1)}, 500)
    assert not tracker.is_settled("a.png")
    assert tracker.settles_at("a.png") == 502


def test_each_part_of_the_stat_restarts() -> None:
    base = FileStat(1, 2, 3, 4, 5)
    for changed in (
        FileStat(9, 2, 3, 4, 5),
        FileStat(1, 9, 3, 4, 5),
        FileStat(1, 2, 9, 4, 5),
        FileStat(1, 2, 3, 9, 5),
        FileStat(1, 2, 3, 4, 9),
    ):
        tracker = StabilityTracker(2)
        tracker.observe({"a": base}, 0)
        tracker.observe({"a": changed}, 2)
        assert not tracker.is_settled("a")
        tracker.observe({"a": changed}, 4)
        assert tracker.is_settled("a")


def test_a_settled_file_that_changes_is_unsettled_again() -> None:
    tracker = StabilityTracker(2)
    for now in (0, 2):
        tracker.observe({"a": stat()}, now)
    tracker.observe({"a": stat(1)}, 3)
    assert tracker.settled_since("a") is None
    assert tracker.next_settle() == 5


def test_no_settle_time_needs_one_look() -> None:
    tracker = StabilityTracker(0)
    tracker.observe({"a": stat()}, 5)
    assert tracker.is_settled("a")
    assert tracker.next_settle() is None


def test_unknown_files() -> None:
    tracker = StabilityTracker(2)
    assert tracker.settled_since("a") is None
    assert tracker.settles_at("a") is None
    assert tracker.unchanged_since("a") is None
    assert tracker.folder_changed_at("") == -math.inf
    assert tracker.next_settle() is None


def test_a_file_that_vanished_begins_anew() -> None:
    tracker = StabilityTracker(2)
    for now in (0, 2):
        tracker.observe({"a": stat()}, now)
    tracker.observe({}, 3)
    assert tracker.unchanged_since("a") is None
    tracker.observe({"a": stat()}, 4)
    assert not tracker.is_settled("a")


def test_folders_change_when_something_comes_changes_or_vanishes() -> None:
    tracker = StabilityTracker(2)
    files = {"a": stat(), "x/b": stat()}
    tracker.observe(files, 1)
    tracker.observe(files, 2)
    assert (tracker.folder_changed_at(""), tracker.folder_changed_at("x")) == (1, 1)
    tracker.observe({"a": stat(1), "x/b": stat()}, 3)
    assert (tracker.folder_changed_at(""), tracker.folder_changed_at("x")) == (3, 1)
    tracker.observe({"a": stat(1), "x/b": stat(), "x/c": stat()}, 4)
    assert (tracker.folder_changed_at(""), tracker.folder_changed_at("x")) == (3, 4)
    tracker.observe({"x/b": stat(), "x/c": stat()}, 5)
    assert (tracker.folder_changed_at(""), tracker.folder_changed_at("x")) == (5, 4)


def test_what_we_took_is_no_change() -> None:
    tracker = StabilityTracker(2)
    tracker.observe({"a": stat(), "b": stat()}, 1)
    tracker.forget("a")
    tracker.observe({"b": stat()}, 3)
    assert tracker.folder_changed_at("") == 1
    tracker.observe({"a": stat(), "b": stat()}, 4)
    assert tracker.folder_changed_at("") == 4
    assert not tracker.is_settled("a")
    tracker.forget("never seen")


def test_dated_folders_do_not_pile_up() -> None:
    tracker = StabilityTracker(2)
    for day in range(3000):
        tracker.observe({f"{day}/a": stat(), "kept/b": stat()}, day)
    assert tracker.folder_changed_at("5") == -math.inf
    assert tracker.folder_changed_at("kept") == 0
    assert tracker.folder_changed_at("2999") == 2999


@pytest.mark.slow
def test_many_files_that_settle_together_take_no_time() -> None:
    tracker = StabilityTracker(2)
    files = {f"{number}.png": stat() for number in range(80_000)}
    began = time.thread_time()
    tracker.observe(files, 0)
    tracker.observe(files, 2)
    assert all(tracker.is_settled(path) for path in files)
    assert time.thread_time() - began < 1.5


def test_folder_of() -> None:
    assert (folder_of("a.png"), folder_of("x/y/a.png")) == ("", "x/y")


Looks = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.dictionaries(st.sampled_from(["a", "b", "x/c"]), st.integers(0, 1)),
    ),
    max_size=12,
)


@pytest.mark.slow
@given(looks=Looks, settle=st.integers(0, 6))
def test_settled_means_seen_the_same_at_every_look_over_the_whole_time(looks, settle) -> None:
    tracker = StabilityTracker(settle)
    seen: list[tuple[int, dict[str, int]]] = []
    now = 0
    for step, versions in looks:
        now += step
        seen.append((now, versions))
        tracker.observe({path: stat(version) for path, version in versions.items()}, now)
    ends = []
    for path in ["a", "b", "x/c"]:
        since = None
        for at, versions in reversed(seen):
            if path not in versions or versions[path] != seen[-1][1].get(path):
                break
            since = at
        assert tracker.unchanged_since(path) == since
        settled = since is not None and now - since >= settle
        assert tracker.is_settled(path) == settled
        if since is not None and not settled:
            ends.append(since + settle)
    assert tracker.next_settle() == min(ends, default=None)
