"""Contact sheets in a browser, opened from the disk."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dna_pipeline.base.errors import EmptyForeground
from dna_pipeline.media.meshes.gltf import glb
from dna_pipeline.media.thumbnails import make_thumbnail
from dna_pipeline.media.video import write_mp4
from dna_pipeline.publish.sheet.entries import SheetEntry, SheetFile
from dna_pipeline.publish.sheet.folder import SheetFolder
from dna_pipeline.publish.sheet.pages import PAGE_ENTRIES, Sheet

pytestmark = pytest.mark.slow

AT = datetime(2026, 12, 1, 22, tzinfo=UTC)
HOSTILE = '</script><script>document.title = "owned"</script><img src=x onerror="alert(1)">'
SIDECAR = 'img2img:\n  prompt: "猫 <b>"\n  seed: 7\n'


@pytest.fixture
def folder(tmp_path: Path) -> SheetFolder:
    return SheetFolder(tmp_path / "out #1/b", tmp_path / "out #1", tmp_path / "thumbnails")


def result(
    folder: SheetFolder, number: int, *, has_mesh: bool = False, **values: Any
) -> SheetEntry:
    """A result with a picture, and perhaps a mesh and a film."""
    job = f"{number:08x}" * 4
    home = folder.outbox / "b" / f"cat {number}-{job[:8]}"
    home.mkdir(parents=True)
    (home / "manifest.json").write_text("{}")
    Image.new("RGB", (48, 48), (number * 40 % 256, 90, 160)).save(home / "cat.png")
    kinds = {"cat.png": ("image", "image/png")}
    if has_mesh:
        (home / "cat.glb").write_bytes(block())
        films = [np.full((32, 32, 3), shade, np.uint8) for shade in (20, 90, 160, 230)]
        write_mp4(home / "cat.turntable.mp4", films, 32, 4)
        kinds |= {
            "cat.glb": ("mesh", "model/gltf-binary"),
            "cat.turntable.mp4": ("turntable", "video/mp4"),
        }
    files = [_file(folder, home / name, *kind) for name, kind in kinds.items()]
    values = {"name": "cat.png", "status": "completed", "sidecar": SIDECAR} | values
    where = home.relative_to(folder.outbox).as_posix()
    return SheetEntry(number, job, folder=where, files=tuple(files), picture=files[0], **values)


def _file(folder: SheetFolder, path: Path, role: str, media_type: str) -> SheetFile:
    data = path.read_bytes()
    below = path.relative_to(folder.outbox).as_posix()
    return SheetFile(below, role, media_type, len(data), hashlib.sha256(data).hexdigest())


def block() -> bytes:
    """A box of three colours, longer than it is wide, so that it looks otherwise from each side."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    faces = np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6],
         [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]], np.int32,
    )  # fmt: skip
    colours = (signs + 1) / 2
    size = np.array([0.5, 0.2, 0.1], np.float32)
    normals = signs / np.sqrt(np.float32(3))
    return glb(signs * size, normals, faces, name="block", colors=colours.astype(np.float32))


def write(folder: SheetFolder, *entries: SheetEntry, **values: Any) -> Path:
    for source, target in folder.missing_thumbnails(entries):
        make_thumbnail(source, target)
    folder.write(Sheet("all.yaml", entries, AT, **values))
    return folder.page


CARDS = "document.querySelectorAll('.card').length"
LOADED = """[...document.querySelectorAll('.picture img')].filter(
    (img) => img.complete && img.naturalWidth > 0).length"""


def test_it_opens_and_shows_thumbnails(page: Any, folder: SheetFolder) -> None:
    page.open(write(folder, result(folder, 1), result(folder, 2)))
    assert page.run(CARDS) == 2
    page.wait(f"{LOADED} === 2")
    assert page.run("document.querySelector('h1').textContent") == "all.yaml"
    links = page.run("[...document.querySelectorAll('.card .links a')].map((a) => a.href)")
    first = (folder.outbox / "b/cat 1-00000001").as_uri()
    assert links[:3] == [f"{first}/", f"{first}/manifest.json", f"{first}/cat.png"]


def test_results_link_to_the_server_that_ran(page: Any, folder: SheetFolder) -> None:
    page.open(write(folder, result(folder, 1), result(folder, 2), server="http://127.0.0.1:9"))
    links = "[...document.querySelectorAll('.links a')].filter((a) => a.textContent === 'Page')"
    assert page.run(f"{links}.map((a) => a.href)") == [
        "http://127.0.0.1:9/results/00000001", "http://127.0.0.1:9/results/00000002",
    ]  # fmt: skip
    assert "when this sheet was made" in page.run(f"{links}[0].title")
    names = "performance.getEntriesByType('resource').map((each) => each.name)"
    assert not [name for name in page.run(names) if name.startswith("http")]
    page.open(write(folder, result(folder, 3)))
    assert page.run(f"{links}.length") == 0


def test_hostile_texts_are_shown_as_texts(page: Any, folder: SheetFolder) -> None:
    hostile = result(
        folder, 1, name=HOSTILE, params={"img2img.prompt": HOSTILE}, meta={HOSTILE: HOSTILE},
        tags=(HOSTILE,), warnings=(HOSTILE,),
    )  # fmt: skip
    failed = result(
        folder, 2, status="failed", failure=EmptyForeground(HOSTILE, hint=HOSTILE).failure()
    )
    axes = [{"name": HOSTILE, "values": [HOSTILE, "b"]}]
    write(folder, hostile, failed, axes=axes, inbox=HOSTILE)
    folder.write(Sheet(HOSTILE, [hostile, failed], AT, axes=axes, inbox=HOSTILE))
    page.open(folder.page)
    page.run("[...document.querySelectorAll('#tools button')][1].click()")
    page.wait(f"{CARDS} === 2")
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.wait("document.querySelectorAll('pre').length === 2")
    assert page.run("document.title") == HOSTILE
    assert page.run("document.querySelectorAll('img[src=x], body script').length") == 0
    assert HOSTILE in page.run("document.querySelector('.card').textContent")


def test_what_a_page_could_not_load_is_refused(browser: Any, folder: SheetFolder) -> None:
    """The policy is in force, which the other tests would not show."""
    browser.open(write(folder, result(folder, 1)))
    browser.run("""(() => { const script = document.createElement('script');
        script.textContent = 'document.title = "owned"'; document.body.append(script); })()""")
    assert browser.run("document.title") == "all.yaml"
    assert any("Content Security Policy" in text for text in browser.complaints)


def test_the_sidecar_is_copied(page: Any, folder: SheetFolder) -> None:
    page.open(write(folder, result(folder, 1)))
    grants = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    page.send("Browser.grantPermissions", permissions=grants)
    page.run("document.querySelector('.actions button').click()")
    page.wait("document.querySelector('#said').textContent.startsWith('Copied')")
    assert page.run("navigator.clipboard.readText()") == SIDECAR


def test_a_mesh_turns(page: Any, folder: SheetFolder) -> None:
    page.show_as(480, 480)  # drawn by the processor, which takes its time
    page.open(write(folder, result(folder, 1, has_mesh=True)))
    assert page.run("document.scripts.length") == 3
    page.run("[...document.querySelectorAll('.actions button')].at(-1).click()")
    page.wait("document.querySelector('model-viewer')?.loaded")
    box = page.run("""(() => { const box = document.querySelector('model-viewer')
        .getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; })()""")
    before = still(page, box)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 20
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    page.drag((x, y), (x + 150, y + 20))
    after = still(page, box)
    assert np.mean(np.any(np.abs(before - after) > 24, axis=2)) > 0.02


def still(page: Any, box: list[float]) -> Any:
    """The pixels of a part of the page once they stand still."""
    last = None
    for _ in range(60):
        image = Image.open(io.BytesIO(page.picture())).convert("RGB")
        x, y, width, height = map(int, box)
        now = np.asarray(image.crop((x, y, x + width, y + height)), np.int16)
        if last is not None and np.array_equal(last, now):
            break
        last = now
        page.run("new Promise((resolve) => setTimeout(resolve, 300))")
    return last


def test_a_film_plays(page: Any, folder: SheetFolder) -> None:
    page.open(write(folder, result(folder, 1, has_mesh=True)))
    page.run("[...document.querySelectorAll('.actions button')][1].click()")
    page.wait("document.querySelector('video')?.currentTime > 0")


def test_a_matrix_is_a_grid(page: Any, folder: SheetFolder) -> None:
    axes = [
        {"name": "image", "values": ["a", "b"]},
        {"name": "img2img.seed", "values": [1, 2, 3]},
        {"name": "img2img.strength", "values": [0.4, 0.6]},
    ]
    entries = [result(folder, number, name=f"{number}.png") for number in range(1, 13)]
    page.open(write(folder, *entries, axes=axes))
    names = """[...document.querySelectorAll('td button')].map(
        (one) => Number(one.getAttribute('aria-label').match(/number (\\d+)/)[1]))"""
    heads = "[...document.querySelectorAll('thead th')].slice(1).map((th) => th.textContent)"
    assert page.run(names) == [1, 2, 3, 4, 5, 6]
    assert page.run(heads) == ["0.4", "0.6"]
    page.run("[...document.querySelectorAll('#tools button')].at(-1).click()")
    page.wait(f"{names}[0] === 7")
    assert page.run(names) == [7, 8, 9, 10, 11, 12]
    page.run("""(() => { const rows = document.querySelector('#tools select'); rows.value = '0';
        rows.dispatchEvent(new Event('change')); })()""")
    page.wait("document.querySelectorAll('tbody tr').length === 2")
    assert page.run(names) == [1, 2, 7, 8]


def test_a_thousand_are_in_pages(page: Any, folder: SheetFolder) -> None:
    one = result(folder, 1)
    page.open(write(folder, *[one] * 1000))
    assert page.run(CARDS) == PAGE_ENTRIES
    page.run("[...document.querySelectorAll('#pager button')].at(-1).click()")
    page.wait("document.querySelector('#pager select').value === '1'")
    page.run("document.body.focus()")
    page.press("ArrowRight")
    page.wait("document.querySelector('#pager select').value === '2'")
    assert page.run("document.querySelectorAll('script[src*=page]').length") == 3


def test_the_keyboard_goes_through_the_results(page: Any, folder: SheetFolder) -> None:
    page.open(write(folder, *(result(folder, n, name=f"{n}.png") for n in (1, 2, 3))))
    page.run("document.querySelector('.picture').click()")
    label = "document.querySelector('dialog').getAttribute('aria-label')"
    page.wait(f"{label} === '1.png, number 1'")
    page.press("ArrowRight")
    page.wait(f"{label} === '2.png, number 2'")
    page.press("ArrowLeft")
    page.wait(f"{label} === '1.png, number 1'")


def test_what_was_moved_says_so(browser: Any, folder: SheetFolder) -> None:
    page = write(folder, result(folder, 1))
    (folder.outbox / "b/cat 1-00000001/cat.png").unlink()
    browser.open(page)
    browser.run("document.querySelector('.picture').click()")
    browser.wait("document.querySelector('.stage')?.textContent.includes('is not where it was')")


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_nothing_is_wider_than_the_page(page: Any, folder: SheetFolder, width: int) -> None:
    prompt = {"img2img.prompt": "x" * 200}
    entries = [result(folder, n, name="long" * 30, params=prompt | {"a": n}) for n in (1, 2)]
    page.show_as(width, 800, "dark")
    page.open(write(folder, *entries))
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
