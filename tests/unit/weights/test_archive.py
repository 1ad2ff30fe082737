"""Archives of models: what an honest one holds, and what a hostile one tries."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.base.files import sha256_file
from dna_pipeline.weights.archive import LIST_NAME, PackedModel, export, import_archive, pack
from tests.hub import Silent

FILES = {"a.json": b"{}", "部分/w.safetensors": b"weights" * 1000}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "sd"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def packed(root: Path, target: str = "models/sd") -> PackedModel:
    return pack("sd", target, "MIT", root, {root / n: sha256_file(root / n) for n in FILES})


def take_in(path: Path, data: Path) -> list[str]:
    return [model.name for model in import_archive(path, data, Silent())[0]]


def visible_files(data: Path) -> list[str]:
    """Files in the data folder, but those in the hidden staging folder."""
    return sorted(
        path.relative_to(data).as_posix()
        for path in data.rglob("*")
        if path.is_file() and ".dna-pull" not in path.parts
    )


def left_files(data: Path) -> list[Path]:
    """Files in staging folders, but the lock."""
    return [path for path in data.rglob(".dna-pull/**/*") if path.is_file() and path.name != "lock"]


def test_an_archive_is_a_plain_tar_with_a_list(tmp_path: Path, root: Path):
    export(tmp_path / "m.tar", [(packed(root), root)], Silent())
    with tarfile.open(tmp_path / "m.tar", "r:") as archive:
        names = archive.getnames()
        assert names == [LIST_NAME, "models/sd/a.json", "models/sd/部分/w.safetensors"]
        listing = json.loads(archive.extractfile(LIST_NAME).read())  # type: ignore[union-attr]
    (model,) = listing["models"]
    assert model["license"] == "MIT"
    assert model["files"][0]["sha256"] == hashlib.sha256(b"{}").hexdigest()


def test_folders_and_files_come_back(tmp_path: Path, root: Path, data: Path):
    one = root / "a.json"
    file = pack("one", "models/one.onnx", None, one, {one: sha256_file(one)})
    export(tmp_path / "m.tar", [(packed(root), root), (file, one)], Silent())
    assert take_in(tmp_path / "m.tar", data) == ["sd", "one"]
    assert {n: (data / "models/sd" / n).read_bytes() for n in FILES} == FILES
    assert (data / "models/one.onnx").read_bytes() == b"{}"


def test_a_file_that_changes_while_it_is_packed_is_noticed(tmp_path: Path, root: Path):
    model = packed(root)
    for changed in (b"[]", b""):
        (root / "a.json").write_bytes(changed)
        with pytest.raises(TransferFailed, match="while it was read"):
            export(tmp_path / "m.tar", [(model, root)], Silent())
        assert [path.name for path in tmp_path.iterdir()] == ["here"]


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]


def rewritten(path: Path, change: Change) -> Path:
    """A copy of an archive with changed members."""
    with tarfile.open(path, "r:") as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    change(members)
    other = path.with_name("other.tar")
    with tarfile.open(other, "w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return other


def change_list(change: Callable[[dict[str, Any]], None]):
    def apply(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        listing = json.loads(members[0][1])
        change(listing)
        members[0] = (members[0][0], json.dumps(listing).encode())

    return apply


def replace_list(data: bytes):
    def apply(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[0] = (members[0][0], data)

    return apply


def retarget(target: str):
    def apply(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        change_list(lambda listing: listing["models"][0].update(target=target))(members)
        for member, _ in members[1:]:
            member.name = member.name.replace("models/sd", target)

    return apply


def repath(path: str):
    def apply(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        change_list(lambda listing: listing["models"][0]["files"][0].update(path=path))(members)
        members[1][0].name = f"models/sd/{path}"

    return apply


def link(kind: bytes):
    def apply(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[1][0].type = kind
        members[1][0].linkname = "/etc/passwd"
        members[1] = (members[1][0], b"")

    return apply


def add_member(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.append((tarfile.TarInfo("models/extra"), b"x"))


def damage(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[2] = (members[2][0], b"W" + members[2][1][1:])


def lengthen(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[2] = (members[2][0], members[2][1] + b"x")


def empty(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    change_list(lambda listing: listing.update(models=[]))(members)
    del members[1:]


def swap(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.append(members.pop(1))


def drop(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.pop()


def repeat(listing: dict[str, Any]) -> None:
    listing["models"].append({**listing["models"][0], "target": "models/SD"})


def nest(listing: dict[str, Any]) -> None:
    listing["models"].append({**listing["models"][0], "target": "models/sd/a.json"})


HOSTILE = {
    "up": retarget("models/../../up"),
    "above": retarget("../models/x"),
    "absolute": retarget("/tmp/x"),
    "not-models": retarget("ledger.db"),
    "models-itself": retarget("models"),
    "drive": retarget("models/C:x"),
    "backslash": retarget("models/..\\x"),
    "hidden": retarget("models/.dna-pull"),
    "path-up": repath("../../../x"),
    "path-absolute": repath("/etc/x"),
    "path-empty-part": repath("a//b"),
    "control": repath("a\nb"),
    "trailing-dot": repath("a."),
    "windows-device": retarget("models/CON"),
    "windows-device-file": repath("nul.json"),
    "symlink": link(tarfile.SYMTYPE),
    "hardlink": link(tarfile.LNKTYPE),
    "device": link(tarfile.CHRTYPE),
    "pipe": link(tarfile.FIFOTYPE),
    "folder": link(tarfile.DIRTYPE),
    "damaged": damage,
    "longer": lengthen,
    "shorter": drop,
    "twice": change_list(repeat),
    "nested": change_list(nest),
    "version": change_list(lambda listing: listing.update(version=2)),
    "no-models": change_list(lambda listing: listing.pop("models")),
    "no-model": empty,
    "huge-size": change_list(
        lambda listing: listing["models"][0]["files"][0].update(bytes=float("inf"))
    ),
    "deep-list": replace_list(b"[" * 100_000),
    "no-files": change_list(lambda listing: listing["models"][0].update(files=[])),
    "wrong-types": change_list(lambda listing: listing["models"][0].update(files=3)),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_brings_nothing(tmp_path: Path, root: Path, data: Path, change):
    export(tmp_path / "m.tar", [(packed(root), root)], Silent())
    before = set(tmp_path.rglob("*"))
    other = rewritten(tmp_path / "m.tar", change)
    with pytest.raises(TransferFailed):
        take_in(other, data)
    assert visible_files(data) == []
    assert left_files(data) == []
    outside = {path for path in tmp_path.rglob("*") if data not in (path, *path.parents)}
    assert outside == before | {other}


def test_a_foreign_member_at_the_end_is_told(tmp_path: Path, root: Path, data: Path):
    export(tmp_path / "m.tar", [(packed(root), root)], Silent())
    with pytest.raises(TransferFailed, match=r"models/extra.*does not name"):
        take_in(rewritten(tmp_path / "m.tar", add_member), data)
    assert "models/extra" not in visible_files(data)


@pytest.mark.parametrize("part", [0, 100, 2000, 4000, 9000])
def test_an_archive_that_is_cut_off_brings_nothing(
    tmp_path: Path, root: Path, data: Path, part: int
):
    export(tmp_path / "m.tar", [(packed(root), root)], Silent())
    cut = tmp_path / "cut.tar"
    cut.write_bytes((tmp_path / "m.tar").read_bytes()[:part])
    with pytest.raises(TransferFailed):
        take_in(cut, data)
    assert visible_files(data) == []


def test_what_is_no_archive_is_told(tmp_path: Path, data: Path):
    (tmp_path / "x.tar").write_bytes(b"weights" + bytes(5000))
    with pytest.raises(TransferFailed, match="is no archive"):
        take_in(tmp_path / "x.tar", data)


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("models.tar", data)
    return stream.getvalue()


@pytest.mark.parametrize("pack_up", [gzip.compress, bz2.compress, lzma.compress, zipped])
def test_a_compressed_archive_is_named_as_such(
    tmp_path: Path, root: Path, data: Path, pack_up: Callable[[bytes], bytes]
):
    export(tmp_path / "m.tar", [(packed(root), root)], Silent())
    (tmp_path / "m.tar.x").write_bytes(pack_up((tmp_path / "m.tar").read_bytes()))
    with pytest.raises(TransferFailed, match=r"is compressed .*unpack it"):
        take_in(tmp_path / "m.tar.x", data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (link(tarfile.SYMTYPE), "'models/sd/a.json' is no plain file"),
        (lengthen, "has 7,001 bytes, and 7,000 in the list"),
        (drop, "it ends before 'models/sd/部分/w.safetensors'"),
        (swap, "it holds 'models/sd/部分/w.safetensors' where its list names 'models/sd/a.json'"),
    ],
)
def test_a_member_that_deviates_from_the_list_is_described(
    tmp_path: Path, root: Path, data: Path, change: Change, words: str
):
    export(tmp_path / "m.tar", [(packed(root), root)], Silent())
    with pytest.raises(TransferFailed, match=words):
        take_in(rewritten(tmp_path / "m.tar", change), data)


def test_an_import_removes_what_killed_imports_of_other_models_left(
    tmp_path: Path, root: Path, data: Path
):
    export(tmp_path / "m.tar", [(packed(root), root)], Silent())
    for name in ("import-other", "sd15"):
        (data / "models/.dna-pull" / name).mkdir(parents=True)
        (data / "models/.dna-pull" / name / "w.bin").write_bytes(b"half")
    take_in(tmp_path / "m.tar", data)
    assert left_files(data) == [data / "models/.dna-pull/sd15/w.bin"]


def test_a_half_imported_model_of_a_killed_process_is_begun_anew(
    tmp_path: Path, root: Path, data: Path
):
    export(tmp_path / "m.tar", [(packed(root), root)], Silent())
    left = data / "models/.dna-pull/import-sd"
    left.mkdir(parents=True)
    (left / "a.json").write_bytes(b"half")
    (left / "stranger").write_bytes(b"x")
    assert take_in(tmp_path / "m.tar", data) == ["sd"]
    assert visible_files(data) == ["models/sd/a.json", "models/sd/部分/w.safetensors"]
