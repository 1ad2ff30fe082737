"""Thumbnails, and many of them as one picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.execution.protocol import SheetCell as Cell
from dna_pipeline.media import contact_sheet
from dna_pipeline.media.thumbnails import SIDE_PX, make_thumbnail
from dna_pipeline.operations import sheet_contents


def test_a_thumbnail_fits_and_keeps_transparency(tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "below" / "a.webp"
    picture = Image.new("RGBA", (800, 400), (200, 30, 30, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 400, 400))
    picture.save(source)
    make_thumbnail(source, target)
    with Image.open(target) as made:
        assert (made.format, made.size) == ("WEBP", (SIDE_PX, SIDE_PX // 2))
        assert made.convert("RGBA").getpixel((10, 10))[3] == 0
        red, *_, alpha = made.convert("RGBA").getpixel((300, 80))
        assert (red > 150, alpha) == (True, 255)


def test_what_is_no_picture_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing of the kind")
    with pytest.raises(ImageUnreadable):
        make_thumbnail(tmp_path / "a.png", tmp_path / "a.webp")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def thumbnail(folder: Path, colour: str) -> str:
    path = folder / f"{colour}.webp"
    Image.new("RGB", (64, 32), colour).save(path, lossless=True)
    return str(path)


def test_a_row_of_the_sheet_is_a_row_of_the_matrix(tmp_path: Path) -> None:
    cells = [
        Cell(thumbnail(tmp_path, colour), f"#{colour} 猫 \n <b>") for colour in ("red", "blue")
    ]
    contact_sheet.draw(tmp_path / "wide.png", "t" * 400, cells, 2)
    contact_sheet.draw(tmp_path / "high.png", "title", cells, 1)
    with Image.open(tmp_path / "wide.png") as wide, Image.open(tmp_path / "high.png") as high:
        assert wide.width > high.width
        assert wide.height < high.height
        colours = {colour for _, colour in wide.convert("RGB").getcolors(1 << 20) or []}
        assert {(255, 0, 0), (0, 0, 255)} <= colours


def test_what_cannot_be_shown_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "broken.webp").write_bytes(b"RIFF")
    cells = [
        Cell("", "none"),
        Cell(str(tmp_path / "broken.webp"), "failed", True),
        Cell("gone", ""),
    ]
    contact_sheet.draw(tmp_path / "sheet.png", "title", cells)
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()


def test_a_sheet_has_a_limit(tmp_path: Path) -> None:
    cells = [Cell("", str(number)) for number in range(contact_sheet.MAX_CELLS + 300)]
    contact_sheet.draw(tmp_path / "sheet.png", "title", cells, 1000)
    contact_sheet.draw(tmp_path / "full.png", "title", cells[: contact_sheet.MAX_CELLS], 1000)
    with Image.open(tmp_path / "sheet.png") as sheet, Image.open(tmp_path / "full.png") as full:
        assert sheet.size == full.size
        assert sheet.width <= 3000


def test_the_contents_have_a_picture_for_each_place_that_is_drawn():
    assert sheet_contents.MOST_CELLS == contact_sheet.MAX_CELLS
