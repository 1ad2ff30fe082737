"""Draws the pictures of the page in docs/serve.md, as Chromium shows it on the demo's models.

Run it with the interpreter of .venv: scripts/draw_page.py. It takes a few minutes.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from chromium import Chromium, find_chromium
from environment import ROOT
from PIL import Image

demo: Any = import_module("demo")
"""The script, by its name: checkers of code take the statement for the folder that it makes."""
PICTURES = ROOT / "docs" / "pictures"
WIDTH_PX, HEIGHT_PX = 1200, 900
COLOURS = 255
THUMBNAILS_S = 10.0
"""Time within which the worker has made the small pictures."""
WAIT_S = 600.0
"""Time within which a job or a view has to come."""

MORE_PIPELINES = """\
  restyle: [{img2img: {model: sd15, steps: 30}}]
"""
MATRIX = """\
pipeline: restyle
img2img: {prompt: "a glazed clay rocket in golden light", seed: 1234}
matrix:
  img2img.strength: [0.15, 0.3, 0.45, 0.6]
  img2img.guidance_scale: [3, 7.5, 12]
"""
WRONG = """\
# A smoother body, and more of the paint.
img2img:
  prompt: "a glazed clay rocket in golden light"
  strenght: 0.3
triposr: {resolution: 128}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=PICTURES, help="(%(default)s)")
    out = parser.parse_args().out
    program = find_chromium()
    if program is None:
        raise SystemExit("there is no Chromium; on Debian and Ubuntu: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory() as folder,
        Chromium(program, Path(folder, "profile")) as browser,
        watching(Path(folder, "studio")) as (studio, address),
    ):
        draw(browser, studio, address, out)


@contextmanager
def watching(studio: Path) -> Generator[tuple[Path, str]]:
    """Run a daemon with its server on a new folder; gives the folder and the address."""
    studio.mkdir()
    demo.lay_out(studio, demo.models(studio / "models"))
    config = studio / "pipeline.yaml"
    text = config.read_text(encoding="utf-8")
    text = text.replace("inboxes:\n", f"{MORE_PIPELINES}inboxes:\n")
    config.write_text(text, encoding="utf-8")
    command = demo.command(studio, "watch", "--serve", "--port", "0")
    with (studio / "watch.log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, cwd=studio)
    try:
        yield studio, wait(lambda: url_of(studio))
    finally:
        daemon.terminate()
        daemon.wait(60)


def url_of(studio: Path) -> str | None:
    """Address of the server, once it runs."""
    server: dict[str, str | None] = demo.read_status(studio).get("server") or {}
    return server.get("url")


def draw(browser: Chromium, studio: Path, address: str, out: Path) -> None:
    """Have results made, and keep what is seen of each view."""

    def keep(name: str, path: str, shown: str = "true", height_px: int = HEIGHT_PX) -> None:
        browser.show_as(WIDTH_PX, HEIGHT_PX)
        browser.visit(address + path, shown)
        browser.wait("[...document.images].every((one) => one.complete)")
        browser.settle()
        save(browser.picture(), out / f"page-{name}.png", height_px)

    put(studio, "rocket", demo.SIDECAR)
    put(studio, "rocket_smooth", WRONG)
    mesh = wait(lambda: find(studio, "rocket.png", "completed"))
    failed = wait(lambda: find(studio, "rocket_smooth.png", "failed"))
    keep("drop", "/drop")
    keep("models", "/models", height_px=330)
    keep("failure", f"/results/{failed}")
    is_shown = "document.querySelector('model-viewer').loaded"
    keep("result", f"/results/{mesh}", shown=is_shown)

    put(studio, "glazes", MATRIX)
    browser.show_as(WIDTH_PX, HEIGHT_PX, "dark")
    browser.visit(f"{address}/")
    ended = "document.querySelectorAll('.ended .completed').length > 3"
    wait(lambda: browser.run(f"{ended} && document.querySelector('.running progress')?.value > 30"))
    save(browser.picture(), out / "page-queue.png", 780)
    wait(lambda: not jobs(studio, "queued", "running"))
    browser.visit(f"{address}/results")  # which asks for the small pictures
    time.sleep(THUMBNAILS_S)
    keep("results", "/results")


def put(studio: Path, stem: str, sidecar: str) -> None:
    """Drop the demo's picture under a name, with a sidecar."""
    inbox = studio / "inbox"
    (inbox / f"{stem}.yaml").write_text(sidecar, encoding="utf-8")
    shutil.copyfile(demo.PICTURE, inbox / f"{stem}.part")
    (inbox / f"{stem}.part").replace(inbox / f"{stem}.png")


def find(studio: Path, name: str, status: str) -> str | None:
    """The id of a job that has its folder."""
    named = [job for job in jobs(studio, status) if job["name"] == name]
    return next((job["id"] for job in named if job["publish"] == "done"), None)


def jobs(studio: Path, *statuses: str) -> list[dict[str, Any]]:
    """The jobs in these states, as the command `jobs` lists them."""
    listed = json.loads(demo.run_python(*demo.command(studio, "jobs", "--json")[1:]))
    return [job for job in listed if job["status"] in statuses]


def wait(look: Callable[[], Any]) -> Any:
    """Wait until something is there, and give it."""
    end = time.monotonic() + WAIT_S
    while not (value := look()):
        if time.monotonic() > end:
            raise SystemExit("it never came")
        time.sleep(0.1)
    return value


def save(picture: bytes, path: Path, height_px: int) -> None:
    """Write the upper part of a picture with few colours, which takes a third of the bytes."""
    whole = Image.open(io.BytesIO(picture)).convert("RGB").crop((0, 0, WIDTH_PX, height_px))
    few = whole.quantize(COLOURS, Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main()
