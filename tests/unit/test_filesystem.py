"""One flush for many files."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from dna_pipeline import filesystem

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's syncfs")


def test_the_flush_is_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    real = filesystem._libc().syncfs

    class Libc:
        def syncfs(self, fd: int) -> int:
            flushed.append(real(fd))
            return flushed[-1]

    monkeypatch.setattr(filesystem, "type_of", lambda folder: "ext4")
    monkeypatch.setattr(filesystem, "_libc", Libc)
    with filesystem.flush_of_all(tmp_path) as flush:
        assert flush is not None
        flush()
    assert flushed == [0]
    with pytest.raises(OSError) as raised:
        flush()
    assert raised.value.errno == errno.EBADF


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "overlay", ""])
def test_where_one_flush_may_not_do_there_is_none(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "type_of", lambda folder: kind)
    with filesystem.flush_of_all(tmp_path) as flush:
        assert flush is None
