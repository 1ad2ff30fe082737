"""The desktop's program that opens things."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dna_pipeline.base import desktop


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with programs that write what they are called with."""
    for name in ("open", "xdg-open"):
        (tmp_path / name).write_text('#!/bin/sh\nprintf %s "$1" > "$(dirname "$0")/opened"\n')
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_without_a_display_there_is_none(programs: Path) -> None:
    assert desktop.opener("linux", {"PATH": str(programs)}) is None
    assert desktop.opener("linux", {"PATH": "/nowhere", "DISPLAY": ":0"}) is None


@pytest.mark.parametrize(
    ("platform", "env", "name"),
    [
        ("linux", {"DISPLAY": ":0"}, "xdg-open"),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, "xdg-open"),
        ("darwin", {}, "open"),
    ],
)
def test_each_desktop_has_its_own(
    programs: Path, platform: str, env: dict[str, str], name: str
) -> None:
    assert desktop.opener(platform, {"PATH": str(programs), **env}) == str(programs / name)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows opens files itself")
def test_it_gets_the_whole_path(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(programs)
    desktop.open_path(Path("a b"), str(programs / "xdg-open")).wait(10)
    assert (programs / "opened").read_text() == str(programs / "a b")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows opens addresses itself")
def test_an_address_is_opened_as_it_is(programs: Path) -> None:
    desktop.open_url("http://127.0.0.1:8000/results/ab", str(programs / "xdg-open")).wait(10)
    assert (programs / "opened").read_text() == "http://127.0.0.1:8000/results/ab"
