"""The page's gallery in a real browser, on results that the program made."""

from __future__ import annotations

import io
import json
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Studio, product_shot
from PIL import Image, ImageChops

from dna_pipeline.config.loader import load_config
from tests.conftest import load_script
from tests.web_server import served

pytestmark = pytest.mark.slow

chromium = load_script("chromium")

SIDECAR = """\
pipeline: restyle_to_mesh
tags: [shop, "<b>bold</b>"]
img2img: {prompt: "a clay figurine <img src=x onerror=alert(1)>"}
triposr: {resolution: 40, turntable: mesh, turntable_views: 4, turntable_size: 64}
"""


@pytest.fixture(scope="module")
def browser(
    tmp_path_factory: pytest.TempPathFactory, lacking: Callable[[str], None]
) -> Iterator[Any]:
    program = chromium.find_chromium()
    if program is None:
        lacking("there is no Chromium; on Debian and Ubuntu: apt-get install chromium")
    with chromium.Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def go(browser: Any, action: Callable[[], Any]) -> None:
    """Do what leads to another page, and wait until that is there."""
    before = browser.run("location.href")
    action()
    browser.wait(f"location.href !== {json.dumps(before)} && document.readyState === 'complete'")


def canvas(browser: Any) -> Image.Image:
    """The part of the page with the mesh, as a picture."""
    box = browser.run(
        "(({x, y, width, height}) => [x, y, x + width, y + height])"
        "(document.querySelector('model-viewer').getBoundingClientRect())"
    )
    return Image.open(io.BytesIO(browser.picture())).convert("RGB").crop(tuple(map(int, box)))


def fits(browser: Any) -> bool:
    return browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_results_are_looked_through_turned_and_taken_away(studio: Studio, browser: Any):
    product_shot().save(studio.inbox("mesh") / "egg.png")
    (studio.inbox("mesh") / "egg.yaml").write_text(SIDECAR)
    for number in range(2):
        product_shot().save(studio.inbox("restyle") / f"plain{number}.png")
    done = studio.cli("run")
    assert done.returncode == 0, done.stderr
    browser.complaints.clear()
    config = load_config(studio.root / "pipeline.yaml", {})

    with served(config) as address:
        browser.show_as(1280, 900)
        go(browser, lambda: browser.send("Page.navigate", url=f"{address}/results"))
        assert browser.run("document.querySelectorAll('[data-cell]').length") == 3
        browser.wait("[...document.images].every((image) => image.complete)")
        assert browser.run("[...document.images].every((image) => image.naturalWidth > 1)")

        # Filter by a word of a prompt, in the address too.
        browser.run("document.getElementById('search').value = 'FIGURINE'")
        go(browser, lambda: browser.run("document.querySelector('.filters').requestSubmit()"))
        assert browser.run("location.search") == "?q=FIGURINE"
        assert browser.run("document.querySelectorAll('[data-cell]').length") == 1

        # One result: no text of strangers became HTML, and the mesh turns.
        go(browser, lambda: browser.run("document.querySelector('[data-cell] a').click()"))
        assert "<img src=x" in browser.run("document.querySelector('.words').innerText")
        assert browser.run("document.querySelector('.words img, .words b') === null")
        browser.wait("document.querySelector('model-viewer').loaded")
        time.sleep(1)
        before = canvas(browser)
        assert before.getextrema() != ((0, 0), (0, 0), (0, 0))
        middle = browser.run(
            "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
            "(document.querySelector('model-viewer').getBoundingClientRect())"
        )
        browser.drag(tuple(middle), (middle[0] + 150, middle[1]))
        time.sleep(1)
        assert ImageChops.difference(before, canvas(browser)).getbbox() is not None

        # The slider of before and after, by the keyboard.
        browser.run("document.querySelector('.compare input').focus()")
        browser.press("ArrowRight")
        split = "getComputedStyle(document.querySelector('.compare')).getPropertyValue('--split')"
        assert browser.run(split) == "51%"

        link = browser.run("document.querySelector('[href$=\"/zip\"]').href")
        with urllib.request.urlopen(link) as answer:
            made = zipfile.ZipFile(io.BytesIO(answer.read()))
        assert made.testzip() is None
        (folder,) = studio.outbox.glob("mesh/egg-*")
        names = {f"{folder.name}/{p.relative_to(folder).as_posix()}" for p in files_of(folder)}
        assert set(made.namelist()) == names

        for scheme in ("light", "dark"):
            browser.show_as(360, 800, scheme)
            assert fits(browser)
            go(browser, lambda: browser.run("history.back()"))
            assert browser.run("document.getElementById('search').value") == "FIGURINE"
            assert fits(browser)
            go(browser, lambda: browser.run("history.forward()"))
        go(browser, lambda: browser.send("Page.navigate", url=f"{address}/results?q=nothing"))
        assert "No result matches" in browser.run("document.body.innerText")
        assert fits(browser)
        assert browser.complaints == []


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
