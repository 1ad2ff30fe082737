"""Writes a contact sheet: its page into a folder, all else into the folder `sheet` beside it.

Each file appears by one rename. None is flushed to the disk, which would take seconds for a
thousand small ones: a sheet can be made again at any time.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.base.files import remove_temporaries, temporary_name
from dna_pipeline.base.layout import SHEET, SHEET_PAGE, SHEET_PICTURE
from dna_pipeline.publish.sheet.entries import SheetEntry, SheetFile, thumbnail_path
from dna_pipeline.publish.sheet.pages import MESH_TYPE, Place, Sheet, data_scripts, page_html

SUFFIX = ".webp"
"""End of the names of thumbnails; see `media/thumbnails.py`."""
MAX_MESH_BYTES = 64 << 20
"""Largest mesh that turns on the page. A larger one has a link."""
VIEWER = "model-viewer-umd.min.js"

ASSETS = Path(__file__).parent / "assets"
_ALWAYS = ("sheet.css", "sheet.js")
_FOR_MESHES = (VIEWER, "model-viewer.LICENSE.txt", "model-viewer.NOTICE.txt")
_NAME_CHARS = 20
"""Characters of a hash that name a thumbnail: enough that no two files share a name."""


@dataclass(frozen=True, slots=True)
class SheetFolder:
    """A folder with the page of a contact sheet.

    Attributes:
        folder: folder of the page.
        outbox: folder with the results.
        thumbnails: folder that keeps thumbnails by hash.
    """

    folder: Path
    outbox: Path
    thumbnails: Path

    @property
    def page(self) -> Path:
        return self.folder / SHEET_PAGE

    @property
    def picture(self) -> Path:
        return self.folder / SHEET_PICTURE

    @property
    def is_ours(self) -> bool:
        """True if a contact sheet was written there before."""
        return (self.folder / SHEET / "head.js").is_file()

    def missing_thumbnails(self, entries: Iterable[SheetEntry]) -> list[tuple[Path, Path]]:
        """List the pictures without a thumbnail that are there, each with its thumbnail's place."""
        pictures = {entry.picture.sha256: entry.picture for entry in entries if entry.picture}
        pairs = [(self.outbox / p.path, self.thumbnail(p)) for p in pictures.values()]
        return [(path, place) for path, place in pairs if not place.is_file() and path.is_file()]

    def thumbnail(self, picture: SheetFile) -> Path:
        """Place of a file's thumbnail."""
        return thumbnail_path(self.thumbnails, picture.sha256, SUFFIX)

    def write(self, sheet: Sheet, pause: Callable[[], None] = lambda: None) -> None:
        """Write the sheet, all but its picture; the page comes last. Raises OSError.

        Args:
            pause: called after each file; may raise to end the writing.
        """
        home = self.folder / SHEET
        home.mkdir(parents=True, exist_ok=True)
        remove_temporaries(home)
        names = self._copy_thumbnails(sheet.entries, home / "thumbnails", pause)
        meshes = self._write_meshes(sheet.entries, home / "meshes", pause)
        folders = {entry.folder for entry in sheet.entries if entry.folder is not None}
        missing = {name for name in folders if not (self.outbox / name).is_dir()}
        place = Place(self.folder, self.outbox, names, frozenset(meshes), frozenset(missing))
        for name in (*_ALWAYS, *(_FOR_MESHES if meshes else ())):
            _put(home, home / name, (ASSETS / name).read_bytes())
            pause()
        scripts = data_scripts(sheet, place)
        for name, text in scripts.items():
            _put(home, home / name, text.encode("ascii"))
            pause()
        _remove_others(home, "page-*.js", scripts)
        _put(home, self.page, page_html(sheet).encode("utf-8", "replace"))

    def put_picture(self, picture: Path) -> None:
        """Put the sheet's picture beside the page. Raises OSError."""
        _put(self.folder / SHEET, self.picture, picture.read_bytes())

    def _copy_thumbnails(
        self, entries: Sequence[SheetEntry], home: Path, pause: Callable[[], None]
    ) -> dict[str, str]:
        home.mkdir(parents=True, exist_ok=True)
        names: dict[str, str] = {}
        for picture in (entry.picture for entry in entries if entry.picture is not None):
            if picture.sha256 in names:
                continue
            name = f"{picture.sha256[:_NAME_CHARS]}{SUFFIX}"
            kept = self.thumbnail(picture)
            if not (home / name).is_file():
                if not kept.is_file():
                    continue
                _put(home, home / name, kept.read_bytes())
                pause()
            names[picture.sha256] = name
        _remove_others(home, f"*{SUFFIX}", names.values())
        return names

    def _write_meshes(
        self, entries: Sequence[SheetEntry], home: Path, pause: Callable[[], None]
    ) -> set[str]:
        meshes: dict[str, Path] = {}
        for entry, file in _meshes(entries):
            target = home / f"{entry.job[:8]}.glb.js"
            with suppress(OSError):
                if not target.is_file():
                    home.mkdir(parents=True, exist_ok=True)
                    _put(home, target, _mesh_script(entry.job[:8], self.outbox / file.path))
                    pause()
                meshes[entry.job] = target
        _remove_others(home, "*.glb.js", [path.name for path in meshes.values()])
        return set(meshes)


def _meshes(entries: Iterable[SheetEntry]) -> Iterator[tuple[SheetEntry, SheetFile]]:
    for entry in entries:
        file = next((file for file in entry.files if file.media_type == MESH_TYPE), None)
        if file is not None and file.bytes <= MAX_MESH_BYTES:
            yield entry, file


def _mesh_script(job: str, path: Path) -> bytes:
    data = base64.b64encode(path.read_bytes())
    return b'sheetMesh("%s","%s");\n' % (job.encode("ascii"), data)


def _put(home: Path, target: Path, data: bytes) -> None:
    """Let a file appear at a place by one rename from the sheet's own folder."""
    temporary = home / temporary_name()
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_others(folder: Path, pattern: str, kept: Iterable[str]) -> None:
    """Remove what an earlier sheet left in its own folder."""
    names = set(kept)
    for path in folder.glob(pattern) if folder.is_dir() else ():
        if path.name not in names:
            path.unlink(missing_ok=True)
