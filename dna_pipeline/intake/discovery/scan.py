"""List the files of an inbox, with the facts that the file system has of each."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dna_pipeline.base.filesystem import is_link
from dna_pipeline.base.naming import folded, forms_of
from dna_pipeline.config.prompt_file import is_prompt_file
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.intake.discovery.downloads import ENDINGS, Downloads, is_partial
from dna_pipeline.intake.discovery.foreign import CONFLICT_COPY, is_conflict_copy, is_system_name

IMAGE_SUFFIXES = frozenset(
    """
    png apng jpg jpeg jpe jfif pjp pjpeg mpo webp gif tif tiff bmp dib avif avifs heic heics heif
    heifs hif exr
    """.split()  # noqa: SIM905
)
"""Endings of images' names. The decoder, in a process of its own, checks what such a file holds."""
YAML_SUFFIXES = frozenset({"yaml", "yml"})

_CONVERTIBLE = frozenset(
    """
    jxl jp2 j2k jpx jpf jxr hdp wdp psd psb hdr pfm svg svgz dng cr2 cr3 crw nef nrw arw sr2 srw orf
    raf rw2 pef 3fr iiq x3f raw tga dds ktx ktx2 ico icns ai eps pdf xcf kra ora clip afphoto pcx
    ppm pgm pbm pnm qoi dpx cin fits bpg sgi
    """.split()  # noqa: SIM905
)
_ARCHIVES = frozenset("zip 7z rar tar gz tgz".split())  # noqa: SIM905
_CHECKPOINT = ".mantra_checkpoint"
"""Ending of a file beside a picture that Houdini's Mantra still renders, as yet an empty frame."""

_UNFINISHED = (*ENDINGS, ".swp", ".lock", "~", "@", _CHECKPOINT)
"""Endings of unfinished files. Nuke, Photoshop, MoonRay and many others write .tmp or .part;
Blender's files end in @ while it saves; backups of editors, Nuke, Krita and Substance end in ~."""

_MACOS_SAVING = re.compile(r"\.sb-[0-9a-f]{8}-[0-9a-z]{6}$")
"""Ending of the name of a folder in which a macOS program puts a document together."""


class FileStat(NamedTuple):
    """The part of a file's `stat` that distinguishes one state of the file from another.

    A tuple, since each scan makes and compares one for each file: both take a fraction of the time
    that a dataclass needs.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStat:
        return cls(
            status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
        )

    def as_json(self) -> dict[str, int]:
        """Plain values, by the names of the fields."""
        return self._asdict()

    def same_file(self, other: FileStat) -> bool:
        """True if both are of the same file, whatever its content."""
        return (self.inode, self.device) == (other.inode, other.device)

    def same_content(self, other: FileStat) -> bool:
        """True if both are of the same file, with no write in between.

        The ctime is not compared, since a rename changes it.
        """
        return self.same_file(other) and (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


@dataclass(frozen=True, slots=True)
class Scan:
    """Listing of an inbox. Paths are relative to the inbox, with forward slashes.

    Attributes:
        files: images, YAMLs and tables that may be claimed. Names that are not UTF-8 contain
            surrogates.
        ignored: files and folders that are not claimed, each with the reason; without those that
            every scan passes over and those that the inbox's `ignore` names.
        downloading: the files whose download is still under way, judged by names.
    """

    files: dict[str, FileStat]
    ignored: dict[str, str]
    downloading: frozenset[str] = frozenset()


def scan(
    inbox: Inbox, referenced: Iterable[str] = (), before: Mapping[str, FileStat] | None = None
) -> Scan:
    """List the inbox once. No symbolic link is followed, except in the path of the inbox itself.

    Args:
        referenced: paths that job files and tables name (`Pairing.referenced`). The scan looks for
            them also in subfolders of an inbox that is not recursive and in folders of systems,
            regardless of the inbox's `include`, and also if they are conflict copies.
        before: the files of the previous scan; entries that are the same share its memory.

    Raises:
        OSError: the inbox is not there or cannot be read.
    """
    walk = _Walk(inbox, inbox.path.stat().st_dev, before or {})
    walk.folder("")
    for relative in referenced:
        if relative not in walk.files:
            walk.look_up(relative)
    downloading = walk.finish()
    return Scan(walk.files, walk.ignored, downloading)


def look_up(inbox: Inbox, paths: Iterable[str]) -> dict[str, FileStat]:
    """Find the images at some paths, by the rules of `scan`, without listing the inbox. An image
    that a scan would not find is left out. Raises OSError as `scan`."""
    walk = _Walk(inbox, inbox.path.stat().st_dev, {})
    for relative in paths:
        walk.look_up(relative)
    downloading = walk.finish()
    return {path: stat for path, stat in walk.files.items() if path not in downloading}


def is_image_name(relative: str) -> bool:
    """True for the name of an image of a supported kind."""
    return _suffix(relative) in IMAGE_SUFFIXES


def is_yaml_name(relative: str) -> bool:
    """True for the name of a sidecar or a job file."""
    return _suffix(relative) in YAML_SUFFIXES


def is_sidecar_name(relative: str) -> bool:
    """True for the name of a YAML or a prompt file."""
    return is_yaml_name(relative) or is_prompt_file(relative)


def is_passed_over(name: str) -> bool:
    """True for the name (not path) of a file or folder that every scan passes over.

    Such files and folders are hidden (rsync's and our own `.dna` among them), unfinished, or belong
    to a system.
    """
    return _is_never_taken(name) or is_system_name(name)


def is_noise(name: str) -> bool:
    """True for the name of a file or folder whose changes are no reason to scan an inbox."""
    return is_passed_over(name) or is_conflict_copy(name)


def _is_never_taken(name: str) -> bool:
    """True for a hidden or unfinished file or folder: not claimed even if a job file names it."""
    if name.startswith((".", "~")):
        return True
    folded = name.lower()
    if folded.endswith(_UNFINISHED):
        return True
    return ".sb-" in folded and _MACOS_SAVING.search(folded) is not None


def _not_understood(relative: str) -> str:
    """Reason why a file of no known kind is not claimed, and what its owner may have meant.

    Only the name is used: reading files that are not claimed would fetch the placeholders of cloud
    drives, and could hang on a share that does not answer. Advice that depends on the content is
    therefore given as a condition.
    """
    stem, suffix = relative.rpartition(".")[0], _suffix(relative)
    what = "a kind of file that is not understood"
    if suffix == "txt" and is_yaml_name(stem):
        return f"{what}; a YAML's name ends in .yaml, not in .txt"
    if suffix in _CONVERTIBLE:
        return (
            f"{what}; save it as PNG or JPEG; if it is one already, or another image that is read, "
            "rename it, so that its name ends so"
        )
    if suffix in _ARCHIVES:
        return f"{what}; unpack it, and drop the images that it holds"
    if "." not in relative.rpartition("/")[2]:
        return f"{what}, since its name has no ending; an image's ends in .png, .jpg or the like"
    return what


def _suffix(path: str) -> str:
    _, dot, suffix = path.rpartition(".")
    return suffix.lower() if dot else ""


class _Walk:
    """One scan: the files and ignored files that it found so far."""

    def __init__(self, inbox: Inbox, device: int, before: Mapping[str, FileStat]) -> None:
        self.files: dict[str, FileStat] = {}
        self.ignored: dict[str, str] = {}
        self._partials: dict[str, list[str]] = {}
        """Names of partial downloads and checkpoints, by their folder's prefix ("" or "sub/")."""
        self._inbox = inbox
        self._root = os.fspath(inbox.path)
        self._device = device
        self._before = before

    def folder(self, prefix: str) -> None:
        """Read the folder `prefix` ("" or "sub/") and, in a recursive inbox, all folders below."""
        below = [prefix]
        while below:
            prefix = below.pop()
            try:
                below.extend(self._entries(prefix))
            except OSError as error:
                if not prefix:
                    raise
                self.ignored[prefix[:-1]] = f"a folder that cannot be read: {error.strerror}"

    def _entries(self, prefix: str) -> Iterator[str]:
        """Note the entries of a folder; yields the subfolders to read next."""
        ignore = self._inbox.ignore
        partials: list[str] = []
        with os.scandir(self._path(prefix)) as entries:
            for entry in entries:
                relative = prefix + entry.name
                if is_passed_over(entry.name):
                    if _is_beside_its_file(entry.name):
                        partials.append(entry.name)
                    continue
                if ignore and _matches(relative, ignore):
                    continue
                try:
                    reason = self._take(entry, relative)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    reason = f"cannot be looked at: {error.strerror}"
                if reason:
                    self.ignored[relative] = reason
                elif relative not in self.files:
                    yield relative + "/"
        self._partials[prefix] = partials

    def _take(self, entry: os.DirEntry[str], relative: str) -> str:
        """Note a file. Returns why the entry is ignored; "" if it is noted or a folder to read."""
        if is_conflict_copy(entry.name):
            return CONFLICT_COPY
        if entry.is_symlink():
            return "a symbolic link"
        if entry.is_dir(follow_symlinks=False):
            return self._not_read(entry)
        if not entry.is_file(follow_symlinks=False):
            return "not a regular file"
        include = self._inbox.include
        if is_image_name(relative):
            if include and not _matches(relative, include):
                return "not among what this inbox includes"
        elif not (is_yaml_name(relative) or is_table_name(relative) or self._is_prompt(relative)):
            return _not_understood(relative)
        self._note(relative, _lstat(entry))
        return ""

    def _is_prompt(self, relative: str) -> bool:
        return self._inbox.prompt_files and is_prompt_file(relative)

    def _not_read(self, entry: os.DirEntry[str]) -> str:
        if not self._inbox.recursive:
            return "a subfolder, and this inbox is not recursive"
        status = _lstat(entry)
        if is_link(status):
            return "a folder that is a link (junction)"
        # A claim is a rename, and a rename works only within one file system.
        if not self._inbox.keeps and status.st_dev != self._device:
            return "a folder on another file system than the inbox"
        return ""

    def look_up(self, relative: str) -> None:
        """Note the image at that path if it is one and no folder in the path is a link; accents may
        be written in another form there."""
        for form in forms_of(relative):
            if self._look_up(form):
                return

    def _look_up(self, relative: str) -> bool:
        """Note the image at exactly that path; False if nothing is there."""
        parts = relative.split("/")
        if any(_is_never_taken(part) for part in parts) or not is_image_name(relative):
            return True
        if self._inbox.ignore and _matches(relative, self._inbox.ignore):
            return True
        path = self._inbox.path
        try:
            for folder in parts[:-1]:
                path /= folder
                status = path.lstat()
                if is_link(status) or not stat.S_ISDIR(status.st_mode):
                    self.ignored.setdefault(relative, "not reached through folders alone")
                    return True
            status = (path / parts[-1]).lstat()
            self._list_partials(relative)
        except (OSError, ValueError):
            return False
        if reason := self._refused(status):
            self.ignored.setdefault(relative, reason)
            return True
        self._note(relative, status)
        self.ignored.pop(relative, None)
        return True

    def _refused(self, status: os.stat_result) -> str:
        """Reason why a file that a job file names cannot be claimed, by its lstat; "" if none."""
        if is_link(status):
            return "a symbolic link"
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if not self._inbox.keeps and status.st_dev != self._device:
            return "on another file system than the inbox"
        return ""

    def _list_partials(self, relative: str) -> None:
        prefix = relative[: relative.rfind("/") + 1]
        if prefix not in self._partials:
            names = os.listdir(self._path(prefix))  # noqa: PTH208  names are enough
            self._partials[prefix] = list(filter(_is_beside_its_file, names))

    def finish(self) -> frozenset[str]:
        """Ignore pictures that Houdini still renders; returns the files that are downloading."""
        partials = {prefix: names for prefix, names in self._partials.items() if names}
        for prefix, names in partials.items():
            for name in names:
                rendered = prefix + name.removesuffix(_CHECKPOINT)
                if name.endswith(_CHECKPOINT) and self.files.pop(rendered, None):
                    reason = f"Houdini is rendering it, since {_CHECKPOINT} is beside"
                    self.ignored[rendered] = reason
        downloads = {prefix: Downloads(filter(is_partial, n)) for prefix, n in partials.items()}
        return frozenset(self._downloading(downloads)) if downloads else frozenset()

    def _downloading(self, downloads: Mapping[str, Downloads]) -> Iterator[str]:
        for path, status in self.files.items():
            start = path.rfind("/") + 1
            here = downloads.get(path[:start])
            if here is not None and here.holds(path[start:], status.size):
                yield path

    def _path(self, prefix: str) -> str:
        return os.path.join(self._root, prefix)  # noqa: PTH118

    def _note(self, relative: str, status: os.stat_result) -> None:
        now = FileStat.of(status)
        before = self._before.get(relative, now)
        self.files[relative] = before if before == now else now


def _is_beside_its_file(name: str) -> bool:
    """True for the name of a partial download or checkpoint, which lies beside its final file."""
    return is_partial(name) or name.endswith(_CHECKPOINT)


def _lstat(entry: os.DirEntry[str]) -> os.stat_result:
    if sys.platform == "win32":  # a directory entry has neither inode nor device there
        return Path(entry.path).lstat()
    return entry.stat(follow_symlinks=False)


def _matches(relative: str, globs: tuple[str, ...]) -> bool:
    """True if a glob fits the path, or the name alone; case does not matter."""
    pattern = _compiled(globs)
    path = folded(relative)
    return bool(pattern.fullmatch(path) or pattern.fullmatch(path.rpartition("/")[2]))


@lru_cache(maxsize=256)
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str]:
    plain = [folded(glob).removeprefix("./").rstrip("/") for glob in globs]
    plain += [glob.removeprefix("**/") for glob in plain if glob.startswith("**/")]
    return re.compile("|".join(translate(glob) for glob in plain))
