"""The folder of a contact sheet."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.publish.sheet.entries import SheetEntry, SheetFile
from dna_pipeline.publish.sheet.folder import VIEWER, SheetFolder
from dna_pipeline.publish.sheet.pages import Sheet

AT = datetime(2026, 12, 1, 22, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> SheetFolder:
    (tmp_path / "out" / "b").mkdir(parents=True)
    return SheetFolder(tmp_path / "out" / "b", tmp_path / "out", tmp_path / "thumbnails")


def result(folder: SheetFolder, number: int, *, mesh: bool = False) -> SheetEntry:
    """A result that lies in the outbox, with a picture and perhaps a mesh."""
    job = f"{number:08x}" * 4
    home = f"b/{number}-{job[:8]}"
    (folder.outbox / home).mkdir()
    kinds = {"cat.png": ("image", "image/png")}
    kinds |= {"cat.glb": ("mesh", "model/gltf-binary")} if mesh else {}
    files: list[SheetFile] = []
    for name, (role, media_type) in kinds.items():
        content = f"{name} {number}".encode()
        (folder.outbox / home / name).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        files.append(SheetFile(f"{home}/{name}", role, media_type, len(content), sha256))
    return SheetEntry(
        number, job, "cat.png", "completed", home, files=tuple(files), picture=files[0]
    )


def keep_thumbnails(folder: SheetFolder, *entries: SheetEntry) -> None:
    for source, target in folder.missing_thumbnails(entries):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"small " + source.read_bytes())


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def sheet(*entries: SheetEntry, **values: Any) -> Sheet:
    return Sheet("all.yaml", entries, AT, **values)


def test_all_lies_beside_the_page(folder: SheetFolder) -> None:
    entries = [result(folder, 1), result(folder, 2)]
    keep_thumbnails(folder, *entries)
    folder.write(sheet(*entries))
    assert folder.page.is_file()
    home = folder.folder / "sheet"
    thumbnails = {f"thumbnails/{e.picture.sha256[:20]}.webp" for e in entries if e.picture}
    assert names(home) == {"sheet.css", "sheet.js", "head.js", "page-1.js", *thumbnails}
    assert folder.is_ours


def test_a_thumbnail_is_made_once(folder: SheetFolder) -> None:
    one = result(folder, 1)
    assert len(folder.missing_thumbnails([one, one])) == 1
    keep_thumbnails(folder, one)
    assert folder.missing_thumbnails([one]) == []


def test_a_picture_that_is_gone_needs_none(folder: SheetFolder) -> None:
    one = result(folder, 1)
    (folder.outbox / one.files[0].path).unlink()
    assert folder.missing_thumbnails([one]) == []
    folder.write(sheet(one))
    assert '"thumbnail"' not in (folder.folder / "sheet/page-1.js").read_text()


def test_meshes_come_as_scripts_with_their_viewer(folder: SheetFolder) -> None:
    one = result(folder, 1, mesh=True)
    folder.write(sheet(one))
    home = folder.folder / "sheet"
    script = (home / "meshes/00000001.glb.js").read_text()
    data = base64.b64encode(b"cat.glb 1").decode()
    assert script == f'sheetMesh("00000001","{data}");\n'
    assert {VIEWER, "model-viewer.LICENSE.txt", "model-viewer.NOTICE.txt"} <= names(home)


def test_the_viewer_is_the_one_that_its_notice_names(folder: SheetFolder) -> None:
    folder.write(sheet(result(folder, 1, mesh=True)))
    home = folder.folder / "sheet"
    sha256 = hashlib.sha256((home / VIEWER).read_bytes()).hexdigest()
    assert sha256 in (home / "model-viewer.NOTICE.txt").read_text()


def test_a_new_sheet_removes_what_the_last_one_left(folder: SheetFolder) -> None:
    one, other = result(folder, 1, mesh=True), result(folder, 2, mesh=True)
    keep_thumbnails(folder, one, other)
    folder.write(sheet(*[one] * 61, other))
    (folder.folder / "mine.txt").write_text("stays")
    folder.write(sheet(other))
    home = folder.folder / "sheet"
    assert not (home / "page-2.js").exists()
    assert [path.name for path in (home / "meshes").iterdir()] == ["00000002.glb.js"]
    assert len([*(home / "thumbnails").iterdir()]) == 1
    assert (folder.folder / "mine.txt").is_file()


def test_a_result_that_was_removed_is_shown_without_links(folder: SheetFolder) -> None:
    one = result(folder, 1)
    keep_thumbnails(folder, one)
    for path in (folder.outbox / one.files[0].path).parent.iterdir():
        path.unlink()
    (folder.outbox / (one.folder or "")).rmdir()
    folder.write(sheet(one))
    text = (folder.folder / "sheet/page-1.js").read_text()
    assert '"gone":true' in text
    assert '"thumbnail"' in text


def test_writing_that_is_broken_off_leaves_no_page(folder: SheetFolder) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        folder.write(sheet(result(folder, 1)), stop)
    assert not folder.page.exists()
    assert [name for name in names(folder.folder) if name.endswith(".tmp")] == []
