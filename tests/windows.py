"""A file system that treats read-only files as Windows does, for tests on other systems."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dna_pipeline.base import files


def protect_read_only_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Refuse to remove, to replace and to open for writing what has no write bit, as Windows does.

    Gives the names of the files for which something was refused.
    """
    refused: list[str] = []

    def check(path: Any, dir_fd: int | None = None) -> None:
        try:
            status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISREG(status.st_mode) and not status.st_mode & stat.S_IWUSR:
            refused.append(Path(os.fsdecode(path)).name)
            raise PermissionError(errno.EACCES, "Access is denied", os.fsdecode(path))

    def refusing_to_remove(real: Callable[..., None]) -> Callable[..., None]:
        def remove(path: Any, *, dir_fd: int | None = None) -> None:
            check(path, dir_fd)
            real(path, dir_fd=dir_fd)

        return remove

    replace, open_ = os.replace, os.open

    def refuse_to_replace(source: Any, target: Any, **options: Any) -> None:
        check(target)
        replace(source, target, **options)

    def refuse_to_open(path: Any, flags: int, *mode: int, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            check(path)
        return open_(path, flags, *mode, **options)

    monkeypatch.setattr(os, "unlink", refusing_to_remove(os.unlink))
    monkeypatch.setattr(os, "remove", refusing_to_remove(os.remove))
    monkeypatch.setattr(os, "replace", refuse_to_replace)
    monkeypatch.setattr(os, "open", refuse_to_open)
    # Only this module takes other ways on Windows where read-only files are concerned.
    windows = SimpleNamespace(platform="win32", version_info=sys.version_info)
    monkeypatch.setattr(files, "sys", windows)
    return refused
