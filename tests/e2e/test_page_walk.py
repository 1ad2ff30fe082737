"""The page as people use it: a real daemon, its server, and a real browser, wide and narrow."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CONFIG, Studio, product_shot
from PIL import Image, ImageChops

from tests import fork_server
from tests.conftest import load_script

pytestmark = pytest.mark.slow

chromium = load_script("chromium")

PROMPT = "a clay figurine <img src=x onerror=alert(1)>"
WRONG = "img2img: {strenght: 0.5}\n"
RIGHT = "img2img: {strength: 0.5}\n"
RUNNING = "document.querySelector('.running progress')"
STATE = "document.getElementById('state')"


class Visitor:
    """Somebody before a browser.

    Attributes:
        downloads: the folder in which the browser puts files.
    """

    def __init__(self, browser: Any, address: str, downloads: Path) -> None:
        self.browser = browser
        self._address = address
        self.downloads = downloads
        browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    def open(self, path: str) -> None:
        self.leave(lambda: self.browser.send("Page.navigate", url=self._address + path))

    def follow(self, selector: str) -> None:
        """Click what leads to another page."""
        self.leave(lambda: self.click(selector))

    def back(self) -> None:
        before = self.run("location.href")
        self.run("history.back()")
        self.browser.wait(f"location.href !== {json.dumps(before)} && !!document.body")

    def leave(self, action: Callable[[], Any]) -> None:
        """Do what leads to another page, and wait until that is there."""
        self.run("window.isLeft = true")
        action()
        self.browser.wait("document.readyState === 'complete' && !window.isLeft && !!window.htmx")
        assert self.run("document.documentElement.scrollWidth <= innerWidth"), "wider than screen"

    def run(self, script: str) -> Any:
        return self.browser.run(script)

    def sees(self, text: str) -> None:
        """Wait until a text is on the page."""
        self.browser.wait(f"document.body.innerText.includes({json.dumps(text)})")

    def click(self, selector: str) -> None:
        """Click with the mouse, as far as the element can be reached with it."""
        name = json.dumps(selector)
        self.run(f"document.querySelector({name}).scrollIntoView({{block: 'center'}})")
        x, y = self._middle(selector)
        top = self.run(
            f"document.elementFromPoint({x}, {y})?.closest({name})"
            f" === document.querySelector({name})"
        )
        assert top, f"{selector} is covered"
        self.browser.click(x, y)

    def type(self, selector: str, text: str) -> None:
        """Put a text in the place of what a field has."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.browser.send("Input.insertText", text=text)

    def choose(self, selector: str, *files: Path) -> None:
        """Put files into a field, as a drag onto it does."""
        root = self.browser.send("DOM.getDocument")["root"]["nodeId"]
        node = self.browser.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.browser.send("DOM.setFileInputFiles", nodeId=node, files=list(map(str, files)))

    def drag(self, selector: str, by: int) -> None:
        x, y = self._middle(selector)
        self.browser.drag((x, y), (x + by, y))

    def _middle(self, selector: str) -> tuple[float, float]:
        x, y, width, height = self._box(selector)
        return x + width / 2, y + height / 2

    def picture_of(self, selector: str) -> Image.Image:
        x, y, width, height = self._box(selector)
        whole = Image.open(io.BytesIO(self.browser.picture())).convert("RGB")
        return whole.crop((int(x), int(y), int(x + width), int(y + height)))

    def _box(self, selector: str) -> list[float]:
        return self.run(
            "(({x, y, width, height}) => [x, y, width, height])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path
) -> Iterator[tuple[Studio, str]]:
    """A studio whose daemon runs with its server, and the server's address."""
    root = tmp_path_factory.mktemp("walk")
    (root / "pipeline.yaml").write_text(CONFIG.format(models=models_dir))
    studio = Studio(root, fork_server.heavy)
    for name in ("restyle", "mesh", "kept"):
        studio.inbox(name).mkdir(parents=True)
    daemon = studio.start("dna_pipeline.__main__", "watch", "--serve", "--port", "0")
    try:
        status = studio.outbox / "status.json"
        url = studio.wait(
            lambda: status.exists() and (json.loads(status.read_bytes())["server"] or {}).get("url")
        )
        yield studio, url
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0


@pytest.fixture(params=[1280, 360])
def visitor(
    request: pytest.FixtureRequest,
    site: tuple[Studio, str],
    tmp_path: Path,
    lacking: Callable[[str], None],
) -> Iterator[Visitor]:
    program = chromium.find_chromium()
    if program is None:
        lacking("there is no Chromium; on Debian and Ubuntu: apt-get install chromium")
    with chromium.Chromium(program, tmp_path / "profile") as browser:
        browser.show_as(request.param, 900)
        yield Visitor(browser, site[1], tmp_path)
        assert browser.complaints == []


def test_a_photograph_becomes_a_mesh_that_turns_and_is_taken_away(
    visitor: Visitor, site: tuple[Studio, str], tmp_path: Path
) -> None:
    studio, _ = site
    photograph = tmp_path / f"egg-{visitor.run('innerWidth')}.png"
    product_shot().save(photograph)

    # The form: a wrong value is marked and nothing is lost; the right one is queued.
    visitor.open("/drop?pipeline=restyle_to_mesh")
    visitor.choose("#files", photograph)
    visitor.type("[name='img2img.prompt']", PROMPT)
    visitor.type("[name='img2img.strength']", "7")
    visitor.click("button[value=check]")
    visitor.browser.wait("!!document.querySelector('[aria-invalid=true]')")
    assert visitor.run("document.getElementById('files').files.length") == 1
    visitor.type("[name='img2img.strength']", "0.3")
    visitor.type("[name='img2img.steps']", "150")
    visitor.click("button[value=check]")
    visitor.sees("would run img2img, remove_background, triposr")
    visitor.click("button[value=queue]")
    visitor.sees("1 image is queued")

    # The queue moves by itself.
    visitor.follow("#outcome a[href='/']")
    visitor.run(
        f"window.seen = []; new MutationObserver(() => window.seen.push({RUNNING}?.value ?? null))"
        f".observe({STATE}, {{childList: true}})"
    )
    ended = f"[...document.querySelectorAll('.ended a')].some((a) => a.innerText === '{photograph.name}')"  # noqa: E501
    visitor.browser.wait(ended)
    shares = [share for share in visitor.run("window.seen") if share is not None]
    assert len(set(shares)) > 1
    assert shares == sorted(shares)
    visitor.browser.wait(f"{RUNNING} === null")

    # One result: what strangers wrote is text, the mesh turns, the slider moves.
    visitor.follow(".ended a")
    assert "<img src=x" in visitor.run("document.querySelector('.words').innerText")
    assert visitor.run("document.querySelector('.words img') === null")
    visitor.browser.wait("document.querySelector('model-viewer').loaded")
    visitor.run("document.querySelector('model-viewer').scrollIntoView({block: 'center'})")
    visitor.browser.settle()
    before = visitor.picture_of("model-viewer")
    assert len(before.getcolors(1 << 24) or ()) > 100  # the mesh, and no empty box
    visitor.drag("model-viewer", 120)
    visitor.browser.settle()
    changed = ImageChops.difference(before, visitor.picture_of("model-viewer"))
    assert changed.getbbox() is not None
    visitor.run("document.querySelector('.compare input').focus()")
    visitor.browser.press("ArrowRight")
    split = "getComputedStyle(document.querySelector('.compare')).getPropertyValue('--split')"
    assert visitor.run(split) == "51%"

    # All its files in one.
    visitor.click("[href$='/zip']")
    (archive,) = studio.wait(lambda: list(visitor.downloads.glob("*.zip")))
    (folder,) = studio.outbox.glob(f"*/{photograph.stem}-*")
    files = {path for path in folder.rglob("*") if path.is_file()}
    with zipfile.ZipFile(archive) as made:
        assert made.testzip() is None
        assert set(made.namelist()) == {
            f"{folder.name}/{path.relative_to(folder).as_posix()}" for path in files
        }
        assert made.read(f"{folder.name}/source/{photograph.name}") == photograph.read_bytes()


def published(studio: Studio, name: str, status: str) -> list[dict[str, Any]]:
    """The jobs of an image that have this status and their folder."""
    jobs = [job for job in studio.jobs() if job["name"] == name and job["publish"] == "done"]
    return [job for job in jobs if job["status"] == status]


def test_a_failed_job_is_found_mended_and_tried_again(
    visitor: Visitor, site: tuple[Studio, str]
) -> None:
    studio, _ = site
    stem = f"plain-{visitor.run('innerWidth')}"
    product_shot().save(studio.inbox("restyle") / f"{stem}.png")
    (studio.inbox("restyle") / f"{stem}.yaml").write_text(WRONG)
    studio.wait(lambda: published(studio, f"{stem}.png", "failed"))

    # The gallery, by status and by a word.
    visitor.open("/results")
    choice = "document.querySelector('select[name=status]')"
    visitor.leave(
        lambda: visitor.run(
            f"{choice}.value = 'failed'; {choice}.dispatchEvent(new Event('change'))"
        )
    )
    assert visitor.run("location.search") == "?status=failed"
    visitor.type("#search", stem.upper())
    visitor.follow(".filters button")
    assert visitor.run("location.search") == f"?q={stem.upper()}&status=failed"
    assert visitor.run("document.querySelectorAll('[data-cell]').length") == 1

    # Its YAML, in place.
    visitor.follow("[data-cell] a")
    visitor.sees("strenght")
    assert visitor.run("document.getElementById('failure-text').value") == WRONG
    visitor.click("button[value=retry]")
    answer = "document.querySelector('#failure-answer .alarm')"
    visitor.browser.wait(f"!!{answer}")
    assert "line 1" in visitor.run(f"{answer}.innerText")
    visitor.type("#failure-text", RIGHT)
    visitor.click("button[value=check]")
    visitor.sees("It would run img2img")
    visitor.follow("button[value=retry]")
    (job,) = studio.wait(lambda: published(studio, f"{stem}.png", "completed"))
    (result,) = studio.outbox.glob(f"*/*-{job['id'][:8]}/manifest.json")
    assert json.loads(result.read_bytes())["stages"][0]["params"]["strength"] == 0.5
    visitor.follow("a[href='/results']")
    visitor.follow(f"[data-cell] a[href='/results/{job['id']}']")
    assert visitor.run("document.querySelector('.facts span').innerText") == "completed"
    visitor.back()
    assert visitor.run("document.querySelectorAll('[data-cell]').length") > 0
