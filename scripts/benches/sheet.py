"""A contact sheet of a thousand results: to write it, its size, and to open it in Chromium.

`open_s` is the time from the call to the page that is shown, with the thumbnails that are in view;
`shown_s` that without waiting for the thumbnails.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from chromium import Chromium, find_chromium
from PIL import Image, ImageDraw

from benches import options
from dna_pipeline.base.errors import EmptyForeground
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.recipe import as_sidecar
from dna_pipeline.media.thumbnails import make_thumbnail
from dna_pipeline.operations.sheet_contents import cells_of, columns_of
from dna_pipeline.publish.sheet.entries import SheetEntry, SheetFile
from dna_pipeline.publish.sheet.folder import SheetFolder
from dna_pipeline.publish.sheet.pages import Sheet

_IN_VIEW = """[...document.querySelectorAll('.picture img')].every(
    (img) => img.getBoundingClientRect().top > innerHeight || (img.complete && img.naturalWidth))"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=options.at_least(1), default=1000, help="how many (%(default)s)"
    )
    parser.add_argument("--keep", type=Path, help="folder to write it to; default: none is kept")


def run(args: argparse.Namespace) -> dict[str, Any]:
    program = find_chromium()
    if program is None:
        raise ValueError("there is no Chromium; on Debian and Ubuntu: apt-get install chromium")
    with tempfile.TemporaryDirectory() as temporary:
        root: Path = args.keep or Path(temporary)
        folder = SheetFolder(root / "batch", root, root / "thumbnails")
        sheet = Sheet("shots.csv", entries_of(root, args.results), utcnow(), inbox="night")
        started = time.perf_counter()
        for source, place in folder.missing_thumbnails(sheet.entries):
            make_thumbnail(source, place)
        thumbnails_s = time.perf_counter() - started
        started = time.perf_counter()
        folder.write(sheet)
        write_s = time.perf_counter() - started
        started = time.perf_counter()
        draw(folder, sheet)
        draw_s = time.perf_counter() - started
        scripts = [path.stat().st_size for path in folder.folder.glob("sheet/*.js")]
        return {
            "results": args.results, "thumbnails_s": thumbnails_s, "write_s": write_s,
            "picture_s": draw_s, "html_bytes": folder.page.stat().st_size,
            "scripts_bytes": sum(scripts),
            **opened(program, folder.page),
        }  # fmt: skip


def opened(program: str, page: Path) -> dict[str, float]:
    """The least times of three, to open the page in a browser that runs already."""
    shown: list[float] = []
    whole: list[float] = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as profile, Chromium(program, Path(profile)) as browser:
            browser.show_as(1280, 900)
            started = time.perf_counter()
            browser.open(page)
            shown.append(time.perf_counter() - started)
            browser.wait(_IN_VIEW)
            whole.append(time.perf_counter() - started)
    return {"shown_s": min(shown), "open_s": min(whole)}


def draw(folder: SheetFolder, sheet: Sheet) -> None:
    from dna_pipeline.media import contact_sheet

    contact_sheet.draw(folder.picture, sheet.title, cells_of(sheet, folder), columns_of(sheet))


def entries_of(root: Path, count: int) -> list[SheetEntry]:
    """Results with pictures of their own, one in forty of them a failure."""
    return [_entry(root, number) for number in range(1, count + 1)]


def _entry(root: Path, number: int) -> SheetEntry:
    job = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
    name = f"shot_{number:04}"
    is_failure = number % 40 == 7
    home = "batch/failed" if is_failure else "batch"
    folder = f"{home}/{name}-{job[:8]}"
    (root / folder).mkdir(parents=True, exist_ok=True)
    params: dict[str, Any] = {
        "prompt": f"a {_WORDS[number % len(_WORDS)]} figurine on a table, in the light of a window",
        "negative_prompt": "blurry, low quality", "seed": 1000 + number, "steps": 20,
        "guidance_scale": 7.5, "strength": 0.3 + number % 6 / 10, "sampler": "euler",
    }  # fmt: skip
    stages = [{"id": "img2img", "type": "img2img", "params": params}]
    picture = None
    if not is_failure:
        path = root / folder / f"{name}.png"
        paint(path, number)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        picture = SheetFile(f"{folder}/{name}.png", "image", "image/png", 1, sha256)
    failure = EmptyForeground("The matte is empty: nothing of the picture was kept.").failure()
    return SheetEntry(
        number, job, f"{name}.png", "failed" if is_failure else "completed", folder,
        files=(picture,) if picture else (),
        picture=picture,
        params={"pipeline": "restyle", **{f"img2img.{k}": v for k, v in params.items()}},
        sidecar=as_sidecar(stages, head={"pipeline": "restyle"}),
        meta={"shot": f"sc{number % 12:02}"},
        failure=failure if is_failure else None,
        seconds=3.2,
    )  # fmt: skip


_WORDS = ("clay", "wooden", "glass", "bronze", "paper", "ceramic", "woollen")


def paint(path: Path, number: int) -> None:
    """A picture of shapes on a gradient."""
    dice = random.Random(number)
    hue, side = dice.randrange(256), 512
    start = Image.new("HSV", (1, 2))
    start.putpixel((0, 0), (hue, 60, 240))
    start.putpixel((0, 1), ((hue + 20) % 256, 90, 170))
    image = start.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    body = Image.new("HSV", (1, 1), ((hue + 100) % 256, 150, 190)).convert("RGB").getpixel((0, 0))
    x, wide = side // 2 + dice.randrange(-30, 30), dice.randrange(90, 150)
    pen.ellipse((x - wide, 380, x + wide, 440), fill=(90, 90, 90))
    pen.rounded_rectangle((x - wide, 210, x + wide, 410), wide // 2, fill=body)
    pen.ellipse((x - wide // 2, 110, x + wide // 2, 110 + wide), fill=body)
    for eye in (-1, 1):
        pen.ellipse((x + eye * 22 - 7, 150, x + eye * 22 + 7, 166), fill=(30, 30, 30))
    image.save(path)
