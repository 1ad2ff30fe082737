"""Captures the live view of `dna-pipeline watch` from a real terminal, as pictures for the docs.

    python3 scripts/draw_watch.py STUDIO docs/pictures

STUDIO is a folder with a pipeline.yaml and work that waits. The daemon runs there in tmux, which is
resized from one width to the next. The pictures load no font, so that they show the same without a
network.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import time
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import MONOKAI

SIZES = ((80, 34), (140, 34))
SESSION = "draw-watch"
DRAWN_S = 3.0
"""Time after which the view has been drawn for a new size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("studio", type=Path, help="folder with pipeline.yaml")
    parser.add_argument("pictures", type=Path, help="folder for watch-80.svg and watch-140.svg")
    parser.add_argument("--after", type=float, default=60, help="seconds of work (%(default)s)")
    args = parser.parse_args()
    width, height = SIZES[0]
    command = f"{sys.executable} -m dna_pipeline watch"
    size = ("-x", str(width), "-y", str(height))
    _tmux("new-session", "-d", "-s", SESSION, *size, "-c", str(args.studio.resolve()), command)
    try:
        time.sleep(args.after)
        for width, height in SIZES:
            _tmux("resize-window", "-t", SESSION, "-x", str(width), "-y", str(height))
            time.sleep(DRAWN_S)
            screen = _tmux("capture-pane", "-e", "-p", "-t", SESSION)
            target = args.pictures / f"watch-{width}.svg"
            target.write_text(as_svg(screen, width), encoding="utf-8")
            print(target)
    finally:
        _tmux("send-keys", "-t", SESSION, "C-c")
        time.sleep(DRAWN_S)
        subprocess.run(["tmux", "kill-session", "-t", SESSION], check=False)


def _tmux(*arguments: str) -> str:
    command = ["tmux", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def as_svg(screen: str, width: int) -> str:
    """A picture of the text that a terminal shows, with its colours."""
    lines = screen.rstrip().split("\n")
    console = Console(
        record=True, width=width, height=len(lines), file=io.StringIO(), force_terminal=True,
        color_system="truecolor", highlight=False,
    )  # fmt: skip
    for line in AnsiDecoder().decode("\n".join(lines)):  # a colour may go on in the next line
        console.print(line, no_wrap=True)
    svg = console.export_svg(title="dna-pipeline watch", theme=MONOKAI, unique_id="watch")
    return _without_fonts(svg)


def _without_fonts(svg: str) -> str:
    """A picture of Rich without the font that it loads from the web."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
