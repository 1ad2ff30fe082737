"""Many small pictures as one PNG: a contact sheet, with a line of text below each picture."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont

from dna_pipeline.base.files import write_atomic

MAX_CELLS = 200
"""Most pictures of a sheet, so that it is drawn within about a second; a page shows the others."""
_LARGE_PX, _SMALL_PX = 240, 140
_MANY = 60
"""Number of pictures from which on they are drawn small."""
_MAX_WIDTH_PX = 3000
_GAP_PX, _LINE_PX, _TITLE_PX = 12, 20, 28
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PAPER, _INK, _FAINT, _ALARM, _FRAME = "#ffffff", "#1b1f24", "#57606a", "#b42318", "#eef0f2"


class Cell(Protocol):
    """A place on the sheet, such as `execution/protocol.py: SheetCell`."""

    @property
    def picture(self) -> str:
        """Its file; "" if there is none."""
        ...

    @property
    def label(self) -> str:
        """The text below it."""
        ...

    @property
    def is_failure(self) -> bool:
        """True to show the label as that of a failure."""
        ...


def draw(target: Path, title: str, cells: Sequence[Cell], columns: int | None = None) -> None:
    """Write the sheet as a PNG, whole or not at all. A picture that cannot be read stays empty.

    Args:
        cells: those after `MAX_CELLS` are left out, and their number is said.
        columns: number of cells in a row; None to choose it.
    """
    shown = cells[:MAX_CELLS]
    side = _LARGE_PX if len(shown) <= _MANY else _SMALL_PX
    most = (_MAX_WIDTH_PX - _GAP_PX) // (side + _GAP_PX)
    wide = min(columns or _square(len(shown)), most, max(len(shown), 1))
    rows = -(-len(shown) // wide)
    step_x, step_y = side + _GAP_PX, side + _LINE_PX + _GAP_PX
    top = _TITLE_PX + 2 * _GAP_PX
    size = (max(_GAP_PX + wide * step_x, 480), top + rows * step_y)
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    more = f" (and {len(cells) - len(shown):,} more)" if len(cells) > len(shown) else ""
    large = ImageFont.load_default(20)
    heading = _fitting(pen, large, title + more, size[0] - 2 * _GAP_PX)
    pen.text((_GAP_PX, _GAP_PX), heading, _INK, large)
    for index, cell in enumerate(shown):
        x, y = _GAP_PX + index % wide * step_x, top + index // wide * step_y
        _put(sheet, cell, (x, y), side)
        ink = _ALARM if cell.is_failure else _FAINT
        pen.text((x, y + side + 3), _fitting(pen, font, cell.label, side), ink, font)
    write_atomic(target, lambda file: sheet.save(file, "PNG", compress_level=2))


def _square(cells: int) -> int:
    """Number of columns that makes a sheet a little wider than high."""
    return max(1, round((cells * 1.5) ** 0.5))


def _put(sheet: Image.Image, cell: Cell, place: tuple[int, int], side: int) -> None:
    x, y = place
    ImageDraw.Draw(sheet).rectangle((x, y, x + side - 1, y + side - 1), fill=_FRAME)
    if not cell.picture:
        return
    with suppress(OSError, ValueError), Image.open(cell.picture, formats=("WEBP",)) as file:
        file.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=1.5)
        picture = file.convert("RGBA") if file.mode != "RGB" else file
        at = (x + (side - picture.width) // 2, y + (side - picture.height) // 2)
        sheet.paste(picture, at, picture if picture.mode == "RGBA" else None)


def _fitting(pen: ImageDraw.ImageDraw, font: _Font, text: str, px: int) -> str:
    """The text on one line, cut so that it is not wider."""
    line = " ".join(text.split())[:300]
    if pen.textlength(line, font) <= px:
        return line
    while line and pen.textlength(f"{line}…", font) > px:
        line = line[:-1]
    return f"{line}…"
