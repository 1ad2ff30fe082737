"""Draws docs/pictures/demo.png: what the demo made, side by side, from its newest result.

python3 scripts/demo.py && .venv/bin/python scripts/draw_demo.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from environment import ROOT, escape_unencodable
from PIL import Image

SIDE_PX, GAP_PX = 360, 8
PAPER = (246, 246, 244)
CHECKS_PX, CHECKS = 18, ((255, 255, 255), (226, 228, 232))


def main() -> None:
    escape_unencodable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dir", type=Path, default=ROOT / "demo", help="the demo's (%(default)s)")
    out = ROOT / "docs" / "pictures" / "demo.png"
    parser.add_argument("--out", type=Path, default=out, help="(%(default)s)")
    args = parser.parse_args()
    strip(newest_result(args.dir)).save(args.out, optimize=True)


def newest_result(folder: Path) -> Path:
    results = [path.parent for path in folder.glob("outbox/pictures/rocket-*/rocket.glb")]
    return max(results, key=lambda path: path.stat().st_mtime)


def strip(result: Path) -> Image.Image:
    """Input, restyled picture, matte and mesh."""
    panels = [
        _panel(result / "source" / "rocket.png", _paper),
        _panel(result / "rocket.png", _paper),
        _panel(result / "rocket.matte.png", _checks),
        _panel(result / "rocket.preview.png", _paper),
    ]
    width = len(panels) * (SIDE_PX + GAP_PX) - GAP_PX
    whole = Image.new("RGB", (width, SIDE_PX), (255, 255, 255))
    for number, panel in enumerate(panels):
        whole.paste(panel, (number * (SIDE_PX + GAP_PX), 0))
    return whole


def _panel(path: Path, ground: Callable[[], Image.Image]) -> Image.Image:
    picture = Image.open(path).convert("RGBA")
    picture = picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    whole = ground()
    whole.paste(picture, mask=picture)
    return whole


def _paper() -> Image.Image:
    return Image.new("RGB", (SIDE_PX, SIDE_PX), PAPER)


def _checks() -> Image.Image:
    """The pattern that stands for transparency."""
    whole = Image.new("RGB", (SIDE_PX, SIDE_PX), CHECKS[0])
    for row in range(0, SIDE_PX, CHECKS_PX):
        for column in range(row % (2 * CHECKS_PX), SIDE_PX, 2 * CHECKS_PX):
            whole.paste(CHECKS[1], (column, row, column + CHECKS_PX, row + CHECKS_PX))
    return whole


if __name__ == "__main__":
    main()
