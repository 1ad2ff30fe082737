"""Folders that look like junctions of Windows, which no other system has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

IO_REPARSE_TAG_MOUNT_POINT = 0xA0000003


class _Entry:
    """An entry as `os.scandir` gives it for a junction: a folder, and no symbolic link."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self._entry = entry
        self.name, self.path = entry.name, entry.path
        self.is_symlink, self.is_dir, self.is_file = entry.is_symlink, entry.is_dir, entry.is_file

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        return as_junction(self._entry.stat(follow_symlinks=follow_symlinks))


def as_junction(status: os.stat_result) -> Any:
    """The same as Windows would say it of a junction."""
    fields = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
    return SimpleNamespace(**fields, st_reparse_tag=IO_REPARSE_TAG_MOUNT_POINT)


def pretend(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let all folders of that name be junctions, to all that lists or looks at folders."""
    real_scandir, real_lstat = os.scandir, Path.lstat

    @contextmanager
    def scandir(path: Any = ".") -> Iterator[Iterator[Any]]:
        with real_scandir(path) as entries:
            yield (_Entry(e) if e.name == name else e for e in entries)

    def lstat(self: Path) -> Any:
        status = real_lstat(self)
        return as_junction(status) if self.name == name else status

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "lstat", lstat)
