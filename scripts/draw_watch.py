"""Draws the live view of `dna-pipeline watch` as pictures for the docs, from a daemon's status.

    python3 scripts/draw_watch.py STUDIO docs/pictures

STUDIO is a folder with a pipeline.yaml whose daemon works; its outbox/status.json is read once. The
pictures load no font, so that they show the same without a network.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from dna_pipeline.config.loader import load_config
from dna_pipeline.interfaces.cli.live.frame import draw
from dna_pipeline.interfaces.cli.live.results import ResultLog
from dna_pipeline.interfaces.cli.live.signs import signs_for
from dna_pipeline.operations.overview import make_overview

SIZES = ((80, 34), (140, 34))
FOOTER = "Ctrl-C stops at a safe point · log: data/logs/dna-pipeline.log"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("studio", type=Path, help="folder with pipeline.yaml and outbox")
    parser.add_argument("pictures", type=Path, help="folder for watch-80.svg and watch-140.svg")
    args = parser.parse_args()
    pictures = args.pictures.resolve()
    os.chdir(args.studio)  # paths are shown from here
    status = json.loads(Path("outbox/status.json").read_bytes())
    overview = make_overview(load_config(Path("pipeline.yaml").resolve(), {}), status)
    log = ResultLog()
    log.add(overview.ended)
    pictures.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        console = Console(
            record=True, width=width, height=height, file=io.StringIO(), force_terminal=True,
            color_system="truecolor", highlight=False,
        )  # fmt: skip
        for line in draw(overview, log, width, height, signs_for("utf-8"), FOOTER):
            console.print(line, no_wrap=True)
        svg = console.export_svg(title="dna-pipeline watch", theme=MONOKAI, unique_id="watch")
        target = pictures / f"watch-{width}.svg"
        target.write_text(_without_fonts(svg), encoding="utf-8")
        print(target)


def _without_fonts(svg: str) -> str:
    """A picture of Rich without the font that it loads from the web."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
