"""Durable operations on files: hashes, atomic writes, publishing renames.

A file that is written here appears whole or not at all: it gets a temporary name in the same
folder, then fsync, one rename, and fsync of the folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import IO, Any, TypeVar, cast

_TEMPORARY = re.compile(r"\.\d+-[0-9a-f]{16}\.tmp")
_FICLONE = 0x40049409
_BLOCK_BYTES = 1 << 20
# Without O_NONBLOCK, a pipe in the file's place would be waited for without end.
_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
_NO_FULL_FLUSH = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY})
"""Errors of file systems without F_FULLFSYNC: SMB and NTFS, WebDAV, ZFS."""

INTERMEDIATE = "intermediate"
"""Role of a file that is made for the next stage alone. No result has it; a failure folder has, so
that a retry need not make it again."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a stage made.

    Attributes:
        path: its present place; it keeps its file name in the result folder.
        role: image, matte, mesh, preview, turntable, texture, material or marks; `INTERMEDIATE` for
            a file that only the next stage reads.
        media_type: as registered with IANA.
        facts: further entries of the manifest about the file, as plain JSON values.
    """

    path: Path
    role: str
    media_type: str
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


def open_to_read(path: Path) -> FileIO:
    """Open a file to read, but no link, and not waiting for the other end of a pipe.

    Raises:
        OSError: ELOOP for a link, where the system can tell.
    """
    return FileIO(path, opener=lambda name, _: os.open(name, _READ))


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_inputs(files: Iterable[tuple[str, str]]) -> str:
    """SHA-256 of a job's inputs together, from the role and the SHA-256 of each; that of the image
    itself if it is the only one."""
    hashes = list(files)
    if len(hashes) == 1:
        return hashes[0][1]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def fsync(fd: int) -> None:
    """Make an open file durable. Every flush of the program goes through here.

    On macOS, fsync leaves the bytes in the drive's own cache, which a power cut empties;
    F_FULLFSYNC does not. File systems without F_FULLFSYNC get the plain fsync.
    """
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in _NO_FULL_FLUSH:
                raise
        else:
            return
    os.fsync(fd)


def fsync_dir(path: Path) -> None:
    """Make renames in that folder durable, if the system has a call for it.

    Windows has none, and some network file systems refuse the call; both are passed over.
    """
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def fsync_tree(root: Path) -> None:
    """Make every file and folder below `root` durable, leaves first; links are not followed."""
    for folder, _, names in os.walk(root, topdown=False, onerror=_raise):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                _fsync_file(path)
        fsync_dir(Path(folder))


def _raise(error: OSError) -> None:
    raise error


def _fsync_file(path: Path) -> None:
    """Make one file durable; its protection against writing stays as it is."""
    fd, restore = _open_to_flush(path)
    try:
        fsync(fd)
    finally:
        os.close(fd)
        restore()


def _open_to_flush(path: Path) -> tuple[int, Callable[[], None]]:
    """Open a file to flush it. Returns the descriptor and a function that protects the file again.

    Windows flushes only files that are open for writing, and opens no read-only file for writing.
    """
    if sys.platform != "win32":
        return os.open(path, os.O_RDONLY), _nothing
    try:
        return os.open(path, os.O_RDWR), _nothing
    except PermissionError:
        if (restore := unprotect(path)) is None:
            raise
    try:
        return os.open(path, os.O_RDWR), restore
    except BaseException:
        restore()
        raise


def _nothing() -> None:
    pass


# --- protected files ---


def unprotect(path: Path) -> Callable[[], None] | None:
    """Let a file be written to, replaced and removed. Returns a function that undoes this.

    Windows refuses to remove or replace a file with the read-only attribute; macOS refuses it if
    Finder's "Locked" is set. Returns None if the file has neither and is writable, and for links,
    which have no protection of their own.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return None
    flags = int(getattr(status, "st_flags", 0))
    locks = flags & (stat.UF_IMMUTABLE | stat.UF_APPEND)
    mode = stat.S_IMODE(status.st_mode)
    if not locks and mode & stat.S_IWUSR:
        return None
    if locks:
        _set_flags(path, flags & ~locks)
    path.chmod(mode | stat.S_IWUSR)

    def restore() -> None:
        path.chmod(mode)
        if locks:
            _set_flags(path, flags)

    return restore


def _set_flags(path: Path, flags: int) -> None:
    change: Callable[[Path, int], None] = getattr(os, "chflags")  # noqa: B009  not on every system
    change(path, flags)


def _despite_protection(path: Path, action: Callable[[], T]) -> T:
    """Run an action that the protection of the file at `path` may refuse.

    Raises as the action does; the file then has its protection again.
    """
    try:
        return action()
    except PermissionError:
        if (restore := _try_to_unprotect(path)) is None:
            raise
    try:
        return action()
    except BaseException:
        restore()
        raise


def _try_to_unprotect(path: Path) -> Callable[[], None] | None:
    """`unprotect`, with None if it fails: the caller's first error says more."""
    with suppress(OSError):
        return unprotect(path)
    return None


def remove_file(path: Path, *, missing_ok: bool = False) -> None:
    """Remove a file, read-only or not."""
    _despite_protection(path, lambda: path.unlink(missing_ok=missing_ok))


def replace_file(source: Path, target: Path) -> None:
    """Rename `source` to `target` and replace a file there, read-only or not."""
    _despite_protection(target, lambda: source.replace(target))


def remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    """Remove a folder of this program with its contents, read-only files too.

    Links are not followed.
    """

    def again(function: Callable[[str], object], name: str, error: BaseException) -> None:
        try:
            if not isinstance(error, PermissionError) or function not in (os.unlink, os.rmdir):
                raise error
            unprotect(Path(name))
            function(name)
        except OSError:
            if not ignore_errors:
                raise

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=again)
    else:
        shutil.rmtree(folder, onerror=lambda function, name, info: again(function, name, info[1]))


def remove_tree_if_there(folder: Path) -> None:
    """`remove_tree` that does nothing if the folder is gone already."""
    with suppress(FileNotFoundError):
        remove_tree(folder)


def remove_empty(folder: Path, top: Path) -> Path:
    """Remove a folder and those above it, below `top`, as far as they are empty; return the lowest
    that is left. One that another process removed counts as removed."""
    while folder != top:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            break
        folder = folder.parent
    return folder


def is_same_file(one: Path, other: Path) -> bool:
    """True if both are plain files with the same bytes."""
    if not all(path.is_file() and not path.is_symlink() for path in (one, other)):
        return False
    return one.stat().st_size == other.stat().st_size and sha256_file(one) == sha256_file(other)


def is_start_of(file: Path, whole: Path) -> bool:
    """True if a file holds the same bytes as another, or the first of them."""
    with file.open("rb") as part, whole.open("rb") as other:
        while block := part.read(_BLOCK_BYTES):
            if other.read(len(block)) != block:
                return False
    return True


# --- atomic writes ---


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a new file, then move it to `path` by one rename. Durable on return."""
    with _replacing(path) as temporary, temporary.open("xb") as file:
        write(file)
        file.flush()
        fsync(file.fileno())


@contextmanager
def _replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path, and move the new file there to `path`; an error removes it."""
    temporary = path.with_name(temporary_name())
    try:
        yield temporary
        replace_file(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def is_temporary(name: str) -> bool:
    """True if `write_atomic` gives such a name to a file that is not yet whole."""
    return _TEMPORARY.fullmatch(name) is not None


def temporary_name() -> str:
    """A name for a file that is still being written; `remove_temporaries` recognises it."""
    return f".{os.getpid()}-{secrets.token_hex(8)}.tmp"


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files that `write_atomic` and `copy_whole` left when their process was
    killed. Looks directly in that folder only."""
    for path in folder.glob(".*.tmp"):
        if is_temporary(path.name):
            path.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if the file is missing, cannot be read or holds no such object."""
    try:
        value: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def write_bytes(path: Path, data: bytes) -> None:
    """`write_atomic` for bytes in memory."""
    write_atomic(path, lambda file: file.write(data))


def copy_file(source: Path, target: Path) -> None:
    """Copy the bytes, sharing the blocks if the file system can (never as a hard link).

    With a hard link, a program that still holds the source open could write into the copy. A copy
    that fails is removed. The copy has the times and the mode of the source, but not its
    protection: the copy of a read-only or locked original can be flushed, renamed and removed.

    Raises:
        FileExistsError: `target` exists; it stays as it is.
    """
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            if not _clone(reader.fileno(), writer.fileno()):
                shutil.copyfileobj(reader, writer, _BLOCK_BYTES)
            writer.flush()
            fsync(writer.fileno())
        except BaseException:
            writer.close()
            target.unlink(missing_ok=True)
            raise
    with suppress(OSError):  # not every file system can store times and modes
        shutil.copystat(source, target)
    with suppress(OSError):
        unprotect(target)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that nobody writes to any more a second name, or copy it where the file system
    has no hard links, or `target` is on another one. Raises as `copy_file`."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        copy_file(source, target)


def copy_whole(source: Path, target: Path) -> None:
    """`copy_file` whose copy appears at `target` by one rename and replaces a file there."""
    with _replacing(target) as temporary:
        copy_file(source, temporary)


def copy_anew(source: str | Path, target: str | Path) -> None:
    """`copy_file` that first removes the file of an earlier call, which may have been cut off."""
    remove_file(Path(target), missing_ok=True)
    copy_file(Path(source), Path(target))


def _clone(reader: int, writer: int) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError:
        return False
    return True


def rename_new(source: Path, target: Path) -> None:
    """Rename a folder to a name that must be free. Durable on return.

    A bare rename silently replaces an empty folder, so this function checks the name first.

    Raises:
        FileExistsError: `target` exists.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)
    fsync_dir(target.parent)
