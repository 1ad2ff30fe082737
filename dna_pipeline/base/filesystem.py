"""Facts about file systems from the operating system, one flush for many files, and a rename that
replaces nothing."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_FLUSHED_WHOLE = frozenset("ext2 ext3 ext4 xfs btrfs f2fs tmpfs".split())  # noqa: SIM905
"""File systems whose `syncfs` does for every file and folder what fsync does for one."""

_NAME_SURROGATE = 0x2000_0000
"""Bit of a Windows reparse tag of a file or folder that stands for another one."""


def is_link(status: os.stat_result) -> bool:
    """True if the lstat is of a symbolic link, or of a junction or volume mount point on Windows.

    Python does not treat Windows' junctions as symbolic links: they look like plain folders, and
    may lead out of their parent folder, or in circles.
    """
    tag: int = getattr(status, "st_reparse_tag", 0)
    return stat.S_ISLNK(status.st_mode) or bool(tag & _NAME_SURROGATE)


_LOCAL = _FLUSHED_WHOLE | frozenset(
    """
    bcachefs devtmpfs exfat fuseblk hfsplus iso9660 jfs ntfs3 overlay ramfs reiserfs rootfs
    squashfs udf vfat zfs
    """.split()  # noqa: SIM905
)
"""File systems that wait for no other machine and no other program."""

NETWORK = frozenset(
    """
    9p afpfs afs ceph cifs drvfs fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs fuse.vmhgfs-fuse
    lustre ncpfs nfs nfs4 prl_fs smb3 smbfs vboxsf virtiofs vmhgfs webdav
    """.split()  # noqa: SIM905
)
"""File systems that other machines change too, of which no event comes here."""

IN_MEMORY = frozenset({"ramfs", "tmpfs"})
"""File systems whose files are gone after a restart of the machine."""

_DISK_FAULTS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
    | {errno.ENOENT, errno.ENOTDIR, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.ESTALE}
    | {errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
)
"""Errors of a disk that is full, read-only or away, and of a process that has no more room."""

_MAX_LINKS = 40

_NO_EXCLUSIVE_RENAME = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of systems and file systems that cannot rename and refuse to replace in one step."""


def is_disk_fault(error: Exception) -> bool:
    """True if the error says nothing of the file at which it happened: others there fail too."""
    if not isinstance(error, OSError):
        return False
    return isinstance(error, TimeoutError) or error.errno in _DISK_FAULTS


def type_of(folder: Path) -> str:
    """Type of the file system that holds the folder; "" if the system does not say."""
    return find_type(os.path.realpath(folder), _mount_table())


def _mount_table() -> str:
    try:
        return Path("/proc/self/mounts").read_text(errors="surrogateescape")
    except OSError:
        return ""


def may_hang(folder: Path) -> bool:
    """True if an access to the folder, or to a link on the way to it, may wait for ever.

    Reads the mount table and links on local disks, and touches nothing else.
    """
    if not (table := _mount_table()):
        return False
    todo, done, links = _parts(os.path.abspath(folder)), "/", 0  # noqa: PTH100  resolves nothing
    while todo:
        part = todo.pop()
        step = os.path.dirname(done) if part == ".." else os.path.join(done, part)  # noqa: PTH118, PTH120
        if (kind := find_type(step, table)) and kind not in _LOCAL:
            return True
        try:
            target = os.readlink(step)  # noqa: PTH115
        except OSError:  # no link, or missing
            done = step
            continue
        links += 1
        if links > _MAX_LINKS:
            return False
        done = "/" if target.startswith("/") else done
        todo += _parts(target)
    return False


def _parts(path: str) -> list[str]:
    """Names in a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def find_type(path: str, table: str) -> str:
    """Type of the file system that holds `path`, from the text of /proc/self/mounts."""
    kind, length = "", -1
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= length:
            kind, length = fields[2], len(mount)
    return kind


@contextmanager
def shared_flush(folder: Path) -> Generator[Callable[[], None] | None]:
    """Yield a function that flushes the folder's file system, with all writes since this call.

    One such flush costs about as much as the fsync of a few files. Yields None if the file system
    has no reliable flush. The function raises OSError if anything could not be written.
    """
    if sys.platform != "linux" or type_of(folder) not in _FLUSHED_WHOLE:
        yield None
        return
    # The kernel reports an error only to descriptors that were open when it happened, so the
    # folder is opened before the writes.
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield lambda: _syncfs(fd)
    finally:
        os.close(fd)


def _syncfs(fd: int) -> None:
    # Imported here, since only a daemon and what writes claims flush whole file systems.
    import ctypes

    if _libc().syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def rename_to_free(source: Path, target: Path) -> None:
    """Rename a file, a link or a folder, but never over another.

    What comes to the name at the same moment is replaced only by file systems that cannot rename
    and refuse to replace in one step, as NFS cannot.

    Raises:
        FileExistsError: `target` exists.
    """
    if _rename_exclusively(source, target):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)  # Windows itself replaces nothing


def _rename_exclusively(source: Path, target: Path) -> bool:
    """Rename in one step that replaces nothing; False if that cannot be done here."""
    import ctypes

    old, new = os.fsencode(source), os.fsencode(target)
    name, arguments = {
        "linux": ("renameat2", (-100, old, -100, new, 1)),  # AT_FDCWD, RENAME_NOREPLACE
        "darwin": ("renamex_np", (old, new, 4)),  # RENAME_EXCL
    }.get(sys.platform, ("", ()))
    rename = getattr(_libc(), name, None) if name else None
    if rename is None:
        return False
    if rename(*arguments) == 0:
        return True
    if (number := ctypes.get_errno()) in _NO_EXCLUSIVE_RENAME:
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


@cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
