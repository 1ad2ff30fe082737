"""Draws the pictures of contact sheets in docs/sheets.md, as Chromium shows them.

Run it with the interpreter of .venv: scripts/draw_sheet.py
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benches.sheet import entries_of
from chromium import Chromium, find_chromium
from PIL import Image

from dna_pipeline.base.times import utcnow
from dna_pipeline.media.thumbnails import make_thumbnail
from dna_pipeline.publish.sheet.entries import SheetEntry
from dna_pipeline.publish.sheet.folder import SheetFolder
from dna_pipeline.publish.sheet.pages import Sheet

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
AXES: list[dict[str, Any]] = [
    {"name": "img2img.strength", "values": [0.3, 0.5, 0.7]},
    {"name": "img2img.seed", "values": [11, 12, 13, 14, 15]},
]


def main() -> None:
    program = find_chromium()
    if program is None:
        raise SystemExit("there is no Chromium; on Debian and Ubuntu: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory() as folder,
        Chromium(program, Path(folder, "profile")) as browser,
    ):
        root = Path(folder)
        entries = [replace(entry, name="figurine.png") for entry in entries_of(root / "a", 15)]
        draw(browser, root / "a", "figurine.png", entries, "sheet-grid", "light", AXES)
        draw(browser, root / "b", "shots.csv", entries_of(root / "b", 120), "sheet-list", "dark")


def draw(
    browser: Chromium,
    root: Path,
    title: str,
    entries: Sequence[SheetEntry],
    name: str,
    scheme: str,
    axes: Sequence[dict[str, Any]] = (),
) -> None:
    """Write a sheet, open it, and keep what is seen of it."""
    folder = SheetFolder(root / "batch", root, root / "thumbnails")
    for source, target in folder.missing_thumbnails(entries):
        make_thumbnail(source, target)
    folder.write(Sheet(title, entries, utcnow(), axes, report="batch.csv", inbox="night"))
    browser.show_as(1180, 820, scheme)
    browser.open(folder.page)
    browser.wait("[...document.images].slice(0, 8).every((image) => image.complete)")
    browser.run("new Promise((resolve) => setTimeout(resolve, 1500))")
    picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
    picture.save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
