"""Models in one archive, for a machine without a network.

The archive is an uncompressed tar: weights do not shrink. Its first member lists all files with
their sizes and hashes; each model appears only after every one of its files was compared with it.
What does not stand in the list, and whatever is no plain file, is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.base.files import fsync, remove_tree_if_there, sha256_file, write_atomic
from dna_pipeline.base.naming import folded, is_reserved
from dna_pipeline.base.quantities import size
from dna_pipeline.weights.headers import Format, read_header
from dna_pipeline.weights.progress import Progress
from dna_pipeline.weights.pull import RESERVE_BYTES
from dna_pipeline.weights.staging import STAGING, Staging, hold_lock, publish, resolved

LIST_NAME = "dna-models.json"
_FORMAT = "dna-pipeline models"
_VERSION = 1
_MAX_LIST_BYTES = 4 << 20
_CHUNK = 1 << 20
_INVALID_LIST = (
    KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip
"""Errors of reading a list; the last two are those of `[[[[…` and of `1e999` as a size."""

_IMPORT = "import-"
"""Beginning of the names of staging folders."""

_ONE_FILE = "file"
"""Name in the staging folder of a model that is one file."""

MODELS = "models"
"""Folder in the data folder below which all models of an archive appear."""


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file of a packed model: its path below the model's folder, "" if the model is one file."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A model in an archive.

    Attributes:
        name: of its entry in pipeline.yaml.
        target: its place below the data folder, `models/…`.
    """

    name: str
    target: str
    licence: str | None
    files: tuple[PackedFile, ...]

    @property
    def is_file(self) -> bool:
        return self.files[0].path == ""

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def member_of(self, file: PackedFile) -> str:
        """Name of a file's member in the archive."""
        return f"{self.target}/{file.path}" if file.path else self.target

    def as_json(self) -> dict[str, Any]:
        files = [asdict(file) for file in self.files]
        return {"name": self.name, "target": self.target, "license": self.licence, "files": files}


def pack(
    name: str, target: str, licence: str | None, root: Path, hashes: Mapping[Path, str]
) -> PackedModel:
    """Describe a model for an archive, from the hashes of its files."""
    files = (
        PackedFile(
            "" if path == root else path.relative_to(root).as_posix(), path.stat().st_size, sha256
        )
        for path, sha256 in hashes.items()
    )
    return PackedModel(name, target, licence, tuple(files))


# --- writing ---


def member_name(target: str, root: Path, file: Path) -> str:
    """Name of a file's member in an archive, for a root with that target."""
    return (PurePosixPath(target) / file.relative_to(root).as_posix()).as_posix()


def check_members(members: Sequence[tuple[str, str]]) -> None:
    """Raise `TransferFailed` if `import_archive` would refuse a member by its name.

    Args:
        members: the name of the model of each, and its own.
    """
    for model, name in members:
        if not _is_path_of_models(name):
            raise TransferFailed(
                f"{model}: {name.removeprefix(MODELS + '/')!r} is no name that every system takes; "
                "rename it, here and in pipeline.yaml, and export again"
            )
    if clash := _clash([name for _, name in members]):
        models = dict.fromkeys(model for model, name in members if name in clash)
        raise TransferFailed(
            f"{' and '.join(models)}: on systems where case does not count, {clash[0]!r} and "
            f"{clash[1]!r} would have one place; rename one of them, and export again"
        )


def export(target: Path, models: Sequence[tuple[PackedModel, Path]], progress: Progress) -> None:
    """Write models, each from the folder or file with it, to a new archive.

    The archive appears by one rename. Durable on return.

    Raises:
        TransferFailed: `target` exists, its disk is too small, or a file changed meanwhile.
    """
    if target.exists() or target.is_symlink():
        raise TransferFailed(f"{target} is there already and stays as it is; name a new file")
    check_space(target.parent, sum(model.bytes for model, _ in models))
    listing = {
        "format": _FORMAT, "version": _VERSION, "models": [model.as_json() for model, _ in models],
    }  # fmt: skip

    def write(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            data = json.dumps(listing, indent=1).encode()
            archive.addfile(_member(LIST_NAME, len(data)), io.BytesIO(data))
            for model, root in models:
                for file in model.files:
                    progress.show_file(f"{model.name} {file.path}".rstrip())
                    path = root / file.path if file.path else root
                    _add_file(archive, model.member_of(file), path, file, progress)

        if target.exists():
            raise TransferFailed(f"{target} was made meanwhile and stays as it is")

    write_atomic(target, write)


def check_space(folder: Path, need: int) -> None:
    """Raise `TransferFailed` if the folder's disk cannot hold that many bytes."""
    if not need:
        return
    free = shutil.disk_usage(folder).free
    if need + RESERVE_BYTES > free:
        raise TransferFailed(f"{size(need)} do not fit: the disk of {folder} has {size(free)} free")


def _member(name: str, number: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = number
    member.mode = 0o644
    return member


def _add_file(
    archive: tarfile.TarFile, name: str, path: Path, file: PackedFile, progress: Progress
) -> None:
    with path.open("rb") as stream:
        reader = _HashingReader(stream, progress)
        try:
            archive.addfile(_member(name, file.bytes), cast("IO[bytes]", reader))
        except OSError as error:
            if error.errno is not None:
                raise
            raise TransferFailed(f"{path} became shorter while it was read") from None
    if reader.sha256 != file.sha256:
        raise TransferFailed(f"{path} changed while it was read; no archive was written")


class _HashingReader:
    """A stream that hashes what is read from it."""

    def __init__(self, stream: IO[bytes], progress: Progress) -> None:
        self._stream = stream
        self._progress = progress
        self._digest = hashlib.sha256()

    def read(self, number: int = -1, /) -> bytes:
        data = self._stream.read(number)
        self._digest.update(data)
        self._progress.advance(len(data))
        return data

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


# --- reading ---


def import_archive(
    path: Path, data: Path, progress: Progress
) -> tuple[list[PackedModel], list[PackedModel]]:
    """Take all models of an archive into `<data>/models`.

    A model whose files are there already, with the same bytes, is left as it is.

    Returns:
        The models that appeared, and those that were there.

    Raises:
        TransferFailed: the archive is not one of `export`, is damaged, or holds something that
            its list does not name; a model's place holds other files; the disk is too small.
    """
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            models = _read_list(archive, path)
            with hold_lock(root := resolved(data / MODELS) / STAGING):
                _remove_left(root)
                present = [model for model in models if _is_present(model, data)]
                new = [model for model in models if model not in present]
                check_space(data / MODELS, sum(model.bytes for model in new))
                progress.begin(sum(model.bytes for model in models))
                _Import(archive, path, data, progress).take_in(models, present)
    except tarfile.TarError as error:
        raise TransferFailed(_no_archive(path, error)) from None
    return new, present


def _remove_left(root: Path) -> None:
    """Remove what imports of killed processes left, since no import goes on from it."""
    for folder in root.glob(f"{_IMPORT}*"):
        remove_tree_if_there(folder)


def _no_archive(path: Path, error: tarfile.TarError) -> str:
    header = read_header(path)
    if header.format is Format.ARCHIVE and header.note != "tar":
        return f"{path} is compressed ({header.note}): unpack it, and import the .tar"
    return f"{path} is no archive of models, or is cut off ({error})"


def _read_list(archive: tarfile.TarFile, path: Path) -> list[PackedModel]:
    member = archive.next()
    if member is None or member.name != LIST_NAME or not member.isreg():
        raise TransferFailed(f"{path} is no archive of `dna-pipeline models export`")
    if member.size > _MAX_LIST_BYTES:
        raise TransferFailed(f"{path}: its list of files is too large")
    stream = archive.extractfile(member)
    try:
        listing = json.loads(stream.read() if stream else b"")
        if listing["format"] != _FORMAT or listing["version"] != _VERSION:
            raise TransferFailed(f"{path} was written by another version of dna-pipeline")
        models = [_packed_model(entry) for entry in listing["models"]]
    except _INVALID_LIST as error:
        raise TransferFailed(f"{path}: its list of files is not valid ({error})") from None
    if not models:
        raise TransferFailed(f"{path} holds no model")
    _check_names(path, [model.member_of(file) for model in models for file in model.files])
    return models


def _packed_model(entry: dict[str, Any]) -> PackedModel:
    files = tuple(
        PackedFile(str(file["path"]), int(file["bytes"]), str(file["sha256"]))
        for file in entry["files"]
    )
    if not files or (len(files) > 1 and any(file.path == "" for file in files)):
        raise ValueError("a model without files")
    licence = entry.get("license")
    return PackedModel(
        str(entry["name"]), str(entry["target"]), None if licence is None else str(licence), files
    )


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Raise unless all names lie below `models/`, each once on every file system."""
    for name in names:
        if not _is_path_of_models(name):
            raise TransferFailed(f"{path}: {name!r} is no path below {MODELS}/; nothing was taken")
    if _clash(names):
        raise TransferFailed(f"{path} lists a file twice; nothing was taken")


def _is_path_of_models(name: str) -> bool:
    """True if a name is a path below `models/` on every system."""
    parts = name.split("/")
    return parts[0] == MODELS and len(parts) > 1 and all(_is_plain(part) for part in parts)


def _clash(names: Sequence[str]) -> tuple[str, str] | None:
    """Two names that are one, or of which one is a folder of the other, on some file system."""
    first: dict[str, str] = {}
    for name in names:
        if (key := folded(name)) in first:
            return first[key], name
        first[key] = name
    for key, name in first.items():
        for folder in PurePosixPath(key).parents:
            if str(folder) in first:
                return first[str(folder)], name
    return None


def _is_plain(part: str) -> bool:
    """True if a part of a path is a visible name on every system."""
    is_shown = part.isprintable() and not part.startswith(".") and part == part.rstrip(" .")
    return bool(part) and is_shown and not is_reserved(part) and not set(part) & set('\\:*?"<>|')


def _is_present(model: PackedModel, data: Path) -> bool:
    """True if the model is there with the same bytes. Raises `TransferFailed` for other files."""
    target = resolved(data / model.target)
    if not target.exists():
        return False
    for file in model.files:
        place = target / file.path if file.path else target
        if not place.is_file() or place.stat().st_size != file.bytes:
            break
        if sha256_file(place) != file.sha256:
            break
    else:
        return True
    raise TransferFailed(
        f"{target} holds other files than the archive's {model.name}; nothing was changed. Move it "
        "to another name, and import again"
    )


@dataclass(frozen=True, slots=True)
class _Import:
    """An archive that is read member after member."""

    archive: tarfile.TarFile
    path: Path
    data: Path
    progress: Progress

    def take_in(self, models: Sequence[PackedModel], present: Sequence[PackedModel]) -> None:
        """Read all models, and let those appear that are not present."""
        for model in models:
            name = PurePosixPath(model.target).name
            staging = Staging(resolved(self.data / model.target), f"{_IMPORT}{name}")
            staging.remove()
            try:
                self._read_model(model, None if model in present else staging)
                if model not in present:
                    names = [file.path or _ONE_FILE for file in model.files]
                    publish(staging, names, is_file=model.is_file, again="import again")
            except BaseException:
                staging.remove()
                raise
        if (extra := self.archive.next()) is not None:
            raise TransferFailed(f"{self.path} holds {extra.name!r}, which its list does not name")

    def _read_model(self, model: PackedModel, staging: Staging | None) -> None:
        """Read the members of one model into a staging folder, or pass over them."""
        for file in model.files:
            self.progress.show_file(f"{model.name} {file.path}".rstrip())
            member = self._next(model.member_of(file), file)
            if staging is None:
                self.progress.resume(file.bytes)
            else:
                self._extract(member, staging.path_of(file.path or _ONE_FILE), file)

    def _next(self, name: str, file: PackedFile) -> tarfile.TarInfo:
        """The next member, which has to be the plain file that the list names next."""
        member = self.archive.next()
        if member is None:
            why = f"it ends before {name!r}, which its list names"
        elif member.name != name:
            why = f"it holds {member.name!r} where its list names {name!r}"
        elif not member.isreg():
            why = f"{name!r} is no plain file"
        elif member.size != file.bytes:
            why = f"{name!r} has {member.size:,} bytes, and {file.bytes:,} in the list"
        else:
            return member
        raise TransferFailed(f"{self.path}: {why}")

    def _extract(self, member: tarfile.TarInfo, place: Path, file: PackedFile) -> None:
        """Write one member to its staging folder, durable, and compare it with the list."""
        stream = self.archive.extractfile(member)
        assert stream is not None
        reader = _HashingReader(stream, self.progress)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as writer:
            shutil.copyfileobj(reader, writer, _CHUNK)
            writer.flush()
            fsync(writer.fileno())
        if reader.sha256 != file.sha256:
            place.unlink()
            raise TransferFailed(
                f"{self.path}: {member.name} is damaged: expected SHA-256 {file.sha256}, "
                f"{file.bytes:,} bytes; received {reader.sha256}, {member.size:,} bytes. Copy the "
                "archive again"
            )
