"""The watch of pipeline.yaml, with a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.operations.daemon.config_watch import ConfigWatch


@dataclass
class Desk:
    """A file, its watch, and a loader that takes any text but one with `wrong` in it."""

    file: Path
    loads: int = 0
    now: float = 0.0
    found: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        self.watch = ConfigWatch(self.file, self.load)

    def load(self, file: Path) -> Any:
        self.loads += 1
        try:
            text = file.read_text()
        except OSError:
            raise ConfigError("there is no such file") from None
        if "wrong" in text:
            raise ConfigError(f"line 1: {text}")
        return text

    def wait(self, seconds: int) -> Any:
        """Let time pass, with a look each second; give what was taken last."""
        newest = None
        for _ in range(seconds):
            self.now += 1
            self.watch.step(self.now)
            newest = self.watch.take() or newest
        return newest


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "pipeline.yaml").write_text("first")
    return Desk(tmp_path / "pipeline.yaml")


def test_an_edit_is_loaded_once_when_it_has_settled(desk: Desk):
    assert desk.wait(10) == "first"
    desk.file.write_text("second one")
    assert desk.wait(2) is None
    assert desk.wait(1) == "second one"
    assert desk.wait(20) is None
    assert desk.loads == 2


def test_a_file_that_is_being_written_is_not_loaded(desk: Desk):
    desk.wait(10)
    for number in range(6):
        desk.file.write_text("half " * number)
        assert desk.wait(1) is None
    assert desk.loads == 1


def test_a_wrong_file_is_reported_only_after_a_while(desk: Desk):
    desk.wait(10)
    desk.file.write_text("wrong, half written")
    desk.wait(8)
    assert desk.watch.problem == ""
    desk.wait(2)
    assert desk.watch.problem == "line 1: wrong, half written"
    desk.wait(20)
    assert desk.loads == 2


def test_a_wrong_file_that_is_mended_at_once_is_not_reported(desk: Desk):
    desk.wait(10)
    desk.file.write_text("wrong, half written")
    desk.wait(5)
    desk.file.write_text("whole")
    assert desk.wait(4) == "whole"
    assert desk.watch.problem == ""


def test_a_mended_file_has_no_problem_any_more(desk: Desk):
    desk.file.write_text("wrong")
    desk.wait(12)
    assert desk.watch.problem
    desk.file.write_text("right again")
    assert desk.wait(4) == "right again"
    assert desk.watch.problem == ""


def test_a_file_that_is_gone_and_comes_back_by_a_rename(desk: Desk):
    desk.wait(10)
    other = desk.file.with_name("other")
    desk.file.rename(other)
    desk.wait(4)
    assert desk.watch.problem == ""
    other.write_text("new text")
    other.rename(desk.file)
    assert desk.wait(4) == "new text"
    desk.file.unlink()
    desk.wait(12)
    assert desk.watch.problem == "there is no such file"


def test_an_edit_between_the_start_and_the_first_look_is_found(desk: Desk):
    desk.file.write_text("changed before the first look")
    assert desk.wait(4) == "changed before the first look"


def test_a_loader_that_fails_leaves_a_trace_and_the_next_edit_is_noticed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    def fail(file: Path) -> Any:
        raise RuntimeError("no thread can be started")

    assert desk.wait(10) == "first"
    with monkeypatch.context() as patch:
        patch.setattr(desk.watch, "_load", fail)
        desk.file.write_text("second one")
        assert desk.wait(20) is None
    assert "no thread can be started" in desk.watch.problem
    desk.file.write_text("the third one")
    assert desk.wait(5) == "the third one"
    assert desk.watch.problem == ""
