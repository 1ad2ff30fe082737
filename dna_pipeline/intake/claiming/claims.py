"""Claims of files: only the steps in the file system.

The caller commits to the ledger between these steps, in the order that `architecture.md` gives.
Each step can be repeated after a crash. No step follows a symbolic link, overwrites a file, or
leaves the source bytes without a name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import IO, NoReturn

from dna_pipeline.base import files
from dna_pipeline.base.errors import DnaError
from dna_pipeline.base.files import (
    fsync,
    fsync_dir,
    fsync_tree,
    remove_empty,
    remove_file,
    remove_tree_if_there,
)
from dna_pipeline.base.filesystem import is_link, rename_to_free
from dna_pipeline.base.layout import CLAIMS, claim_root, folders_in
from dna_pipeline.base.naming import free_names
from dna_pipeline.intake.discovery.scan import FileStat

_BUSY = frozenset({errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY, errno.EROFS})
_NO_LINKS = _BUSY | {errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EXDEV}
_SYNC_THREADS = 8
_CHUNK_BYTES = 1 << 20


class ClaimError(DnaError):
    """A file could not be claimed. Nothing was lost; the next scan shows what is there now."""


class Lost(ClaimError):
    """The file is gone: someone else took, moved or removed it."""


class Busy(ClaimError):
    """The file may not be moved or read at present: in use, no permission, read-only."""


class Refused(ClaimError):
    """A link, a special file or another file system: never claimed, left or put back as it is."""


class Changed(ClaimError):
    """The file was written to or replaced since the last look."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """SHA-256 (hexadecimal) and size in bytes of a file that was read; status of the *source*."""

    sha256: str
    size: int
    stat: FileStat


def make_claim_root(inbox: Path, ledger_id: str) -> None:
    """Create the folder of a ledger's claims unless it exists. Raises as `make_claim_dir`."""
    for folder in _folders_above(inbox, ledger_id):
        _make_real_dir(folder)


@lru_cache
def _folders_above(inbox: Path, ledger_id: str) -> tuple[Path, Path]:
    """The folders of the inbox above a ledger's claims. They are kept, since each claim needs them
    and a `Path` takes longer to make than the file system to answer."""
    return inbox / CLAIMS, claim_root(inbox, ledger_id)


def make_claim_dir(inbox: Path, ledger_id: str, drop_id: str) -> Path:
    """Create the folder of a claim unless it exists.

    Raises:
        Refused: a file or a symbolic link lies in the place of one of its folders.
    """
    above = _folders_above(inbox, ledger_id)
    path = above[-1] / drop_id
    for _ in range(100):
        # `dispose` in another thread or daemon may remove an empty parent in between, and again
        # at the next try if several of them are busy.
        with suppress(FileNotFoundError):
            for folder in above:
                _check_real_dir(folder)
            _make_real_dir(path)
            return path
        with suppress(FileNotFoundError):
            make_claim_root(inbox, ledger_id)
        if not inbox.is_dir():
            break
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _make_real_dir(folder: Path) -> None:
    try:
        folder.mkdir()
    except FileExistsError:
        _check_real_dir(folder)


def _check_real_dir(folder: Path) -> None:
    status = folder.lstat()
    if is_link(status) or not stat.S_ISDIR(status.st_mode):
        raise Refused(f"{folder} is in the way: it should be a plain folder")


def list_claims(inbox: Path, ledger_id: str) -> list[str]:
    """Return the ids of a ledger's drops that have a claim in the inbox, sorted."""
    return folders_in(claim_root(inbox, ledger_id))


def claim_file(source: Path, target: Path, expected: FileStat) -> FileStat | None:
    """Rename a file to its place in its claim.

    For an image this rename is the claim itself: if two processes try, one succeeds. A call that
    is repeated after its success finds the file in the claim and touches nothing.

    Args:
        expected: the file's status in the scan.

    Returns:
        Its status in the claim; None if it was written to since the scan, so that it must settle in
        the claim before it is hashed.

    Raises:
        Lost, Busy: the file was not moved. Changed: it is not as expected, and was left alone.
        Refused: a symbolic link, not a regular file, or on another file system.
    """
    if (there := _lstat(target)) is not None:
        if FileStat.of(there).same_file(expected):
            return _if_unchanged(there, expected)
        raise Refused(f"{target} holds another file already")
    _check_unchanged(source, expected)
    try:
        source.rename(target)
    except FileNotFoundError:
        there = _lstat(target)
        if there is None or not FileStat.of(there).same_file(expected):
            raise Lost(str(source)) from None
    except OSError as error:
        _raise_claim_error(error, source)
    there = target.lstat()
    if not stat.S_ISREG(there.st_mode):
        back = put_back(target, source)
        raise Refused(f"{back} is not a regular file")
    return _if_unchanged(there, expected)


def _check_unchanged(source: Path, expected: FileStat) -> None:
    """Refuse a file that changed since the scan, so that its writer keeps it.

    A scan of many files is old when the last of them is claimed. This check only saves a rename;
    the check after the rename decides.
    """
    there = _lstat(source)
    if there is None:
        raise Lost(str(source))
    if not stat.S_ISREG(there.st_mode):
        raise Refused(f"{source} is not a regular file")
    if not FileStat.of(there).same_content(expected):
        raise Changed(str(source))


def _if_unchanged(there: os.stat_result, expected: FileStat) -> FileStat | None:
    now = FileStat.of(there)
    return now if now.same_content(expected) else None


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _raise_claim_error(error: OSError, source: Path) -> NoReturn:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        raise Lost(str(source)) from None
    if error.errno in _BUSY:
        raise Busy(f"{source}: {error.strerror}") from None
    if error.errno == errno.ELOOP:
        raise Refused(f"{source} is a symbolic link") from None
    if error.errno in {errno.EISDIR, errno.ENXIO}:
        raise Refused(f"{source} is not a regular file") from None
    if error.errno == errno.EXDEV:
        raise Refused(f"{source} is on another file system than the inbox") from None
    raise error


def put_back(claimed: Path, original: Path) -> Path:
    """Give a claimed file back to the inbox, and return its path there.

    If its name is in use by now, the file becomes `name (1).png` and so on. Nothing is ever
    overwritten: a hard link fails if the name exists, a rename would not.
    """
    status = claimed.lstat()
    original.parent.mkdir(parents=True, exist_ok=True)
    places = (original.with_name(name) for name in free_names(original.name))
    return next(place for place in places if _place(claimed, place, status))


def _place(claimed: Path, place: Path, status: os.stat_result) -> bool:
    """Move a claimed file to `place`, durably; False if something else is there.

    Finishes a call that a crash cut off between the link and the removal.
    """
    try:
        os.link(claimed, place, follow_symlinks=False)
    except FileExistsError:
        if not os.path.samestat(place.lstat(), status):
            return False
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        try:
            rename_to_free(claimed, place)
        except FileExistsError:
            return False
        fsync_dir(place.parent)
        return True
    fsync_dir(place.parent)  # before the other name goes, or a power cut might leave none
    remove_file(claimed)
    if not status.st_mode & stat.S_IWUSR:  # removing one name lifted the protection of both
        place.chmod(stat.S_IMODE(status.st_mode))
    return True


def hash_in_place(path: Path) -> Hashed:
    """Hash a file that nobody should write to.

    Raises:
        Changed: it was written to meanwhile. Lost, Busy, Refused: as for `claim_file`.
    """
    with open_to_read(path) as file:
        before = _regular(file, path)
        digest = hashlib.sha256()
        # A large buffer takes longer to make than a small image takes to hash.
        buffer = memoryview(bytearray(min(before.size, _CHUNK_BYTES) or 1))
        while number := file.readinto(buffer):
            digest.update(buffer[:number])
        _check_still(file, before, path)
    return Hashed(digest.hexdigest(), before.size, before)


def snapshot(source: Path, target: Path, *, durable: bool = True) -> Hashed:
    """Copy a file while hashing it; the source is not touched.

    The copy shares no blocks with the source, since writers overwrite in place. A file that an
    earlier call left at `target` is replaced.

    Args:
        durable: False if the caller itself flushes the copy to the disk in time.

    Raises:
        Changed: the source was written to or replaced meanwhile; there is no copy then.
        Lost, Busy, Refused: as for `claim_file`.
    """
    with open_to_read(source) as reader:
        before = _regular(reader, source)
        remove_file(target, missing_ok=True)
        try:
            with target.open("xb") as writer:
                digest = _copy(reader, writer)
                if durable:
                    fsync(writer.fileno())
            _check_still(reader, before, source)
            there = _lstat(source)
            if there is None or not FileStat.of(there).same_content(before):
                raise Changed(str(source))
            os.utime(target, ns=(before.mtime_ns, before.mtime_ns))
        except BaseException:
            remove_file(target, missing_ok=True)
            raise
    return Hashed(digest, before.size, before)


def open_to_read(path: Path) -> FileIO:
    """Open a file to read it, never through a link. Raises `Lost`, `Busy` or `Refused`."""
    try:
        return files.open_to_read(path)
    except OSError as error:
        _raise_claim_error(error, path)


def _regular(file: FileIO, path: Path) -> FileStat:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{path} is not a regular file")
    return FileStat.of(status)


def _check_still(file: FileIO, before: FileStat, path: Path) -> None:
    if FileStat.of(os.fstat(file.fileno())) != before:
        raise Changed(str(path))


def _copy(reader: FileIO, writer: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := reader.read(_CHUNK_BYTES):
        digest.update(chunk)
        writer.write(chunk)
    writer.flush()
    return digest.hexdigest()


def sync_claims(claims: Iterable[Path], inbox_folders: Iterable[Path]) -> None:
    """Flush the claims (new entries), then the folders that the files came from (removed entries).

    In this order a power cut never loses the only name of a file.

    Args:
        inbox_folders: the folders that the files came from.
    """
    claims = list(claims)
    # The disk joins flushes that come at the same time into one: ten times as fast as one by one.
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(_sync_claim, claims))
    above = [claim.parents[level] for level in range(3) for claim in claims]
    for folder in dict.fromkeys([*above, *inbox_folders]):
        _sync(folder)


def _sync_claim(claim: Path) -> None:
    """Flush a claim with its files, since whoever dropped them need not have flushed them."""
    with suppress(FileNotFoundError, PermissionError):
        return fsync_tree(claim)
    return _sync(claim)  # a file that may not be opened fails later, when it is read


def _sync(folder: Path) -> None:
    # Someone may have removed a subfolder after its last file was claimed.
    with suppress(FileNotFoundError):
        fsync_dir(folder)


def dispose(claim: Path) -> None:
    """Remove a claim with all its files, durably, and each empty folder above it up to `.dna`."""
    remove_tree_if_there(claim)
    lowest_left = remove_empty(claim.parent, claim.parents[2])
    with suppress(FileNotFoundError):
        fsync_dir(lowest_left)
