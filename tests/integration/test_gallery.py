"""The gallery, one result, its archive and its thumbnail, as the page has them."""

from __future__ import annotations

import html
import io
import zipfile
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from dna_pipeline.base.errors import EmptyMesh
from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.sqlite import sqlite_module
from dna_pipeline.ledger.tables import Job, ThumbnailRequest
from dna_pipeline.operations.serving.gallery import Filters, WrongFilter
from dna_pipeline.publish.sheet.entries import thumbnail_path


def png(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "PNG")
    return out.getvalue()


def make_result(
    site: Any, name: str = "chair.png", sidecar: str = "", data: bytes | None = None
) -> Job:
    if sidecar:
        site.put(f"{name}.yaml", sidecar)
    site.put(name)
    site.settle()
    return site.run_next(png() if data is None else data)


@pytest.fixture
def client(site: Any) -> Iterator[TestClient]:
    with TestClient(make_app(Site(site.config)), base_url="http://127.0.0.1") as client:
        yield client


def test_an_empty_gallery_says_what_to_do(client: TestClient):
    answer = client.get("/results")
    assert answer.status_code == 200
    assert "Nothing here yet" in answer.text
    assert 'id="search"' in answer.text


def test_results_are_found_by_words_and_filters(site: Any, client: TestClient):
    first = make_result(site, "chair.png", "tags: [oak]\nmeta: {shot: s-12}")
    second = make_result(site, "lamp.png")
    assert cells(client, "/results") == [second.id, first.id]
    assert cells(client, "/results?q=OAK+chair") == [first.id]
    assert cells(client, "/results?q=s-12") == [first.id]
    assert cells(client, "/results?inbox=in&status=completed&batch=") == [second.id, first.id]
    assert cells(client, "/results?day=2001-01-01&offset=60") == []
    assert "No result matches" in client.get("/results?q=unheard").text


@pytest.mark.parametrize(
    "query", ["day=yesterday", "day=2026-12-31&offset=9000", "status=odd", "batch=../x", "after=x",
              "after=2026-13-01T00:00:00Z~1", "batch=abcdef01"]
)  # fmt: skip
def test_a_filter_that_cannot_be_meant_is_told_so(site: Any, client: TestClient, query: str):
    make_result(site)
    answer = client.get(f"/results?{query}")
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


def test_a_day_begins_at_the_viewers_midnight():
    choice = Filters(day="2026-12-01", offset="540").choice()
    assert choice.since is not None
    assert choice.since.isoformat() == "2026-11-30T15:00:00+00:00"
    with pytest.raises(WrongFilter):
        Filters(day="0001-01-01", offset="840").choice()


def test_the_next_cells_come_alone_and_by_a_plain_link(
    site: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    from dna_pipeline.interfaces.web.page.views import gallery

    monkeypatch.setattr(gallery, "PAGE", 2)
    ids = [make_result(site, f"{n}.png").id for n in range(5)][::-1]
    first = client.get("/results?inbox=in").text
    assert cells_in(first) == ids[:2]
    link = html.unescape(first.split('class="more"')[1].split('href="')[1].split('"')[0])
    assert cells_in(whole := client.get(link).text) == ids[2:4]
    assert "<h1" in whole
    here = html.unescape(first.split('hx-get="')[1].split('"')[0])
    part = client.get(here, headers={"hx-request": "true"})
    assert cells_in(part.text) == ids[2:4]
    assert "<h1" not in part.text
    assert part.headers["hx-replace-url"] == "/results?inbox=in&shown=4"
    assert cells_in(client.get(part.headers["hx-replace-url"]).text) == ids[:4]
    here = html.unescape(part.text.split('hx-get="')[1].split('"')[0])
    last = client.get(here, headers={"hx-request": "true"})
    assert cells_in(last.text) == ids[4:]
    assert last.headers["hx-replace-url"] == "/results?inbox=in&shown=6"
    assert "hx-get" not in last.text


def test_one_result_has_its_files_parameters_and_neighbours(site: Any, client: TestClient):
    oldest, job, newest = [make_result(site, f"{n}.png") for n in range(3)]
    answer = client.get(f"/results/{job.id[:10]}?inbox=in")
    assert answer.request.url.path == f"/results/{job.id}"
    assert f'rel="prev" href="/results/{newest.id}?inbox=in"' in answer.text
    assert f'rel="next" href="/results/{oldest.id}?inbox=in"' in answer.text
    assert f'href="/drop?from={job.id}"' in answer.text
    assert "model-viewer" not in answer.text
    assert str(site.root) not in answer.text
    (file,) = [line for line in answer.text.splitlines() if "1.matte.png</a>" in line]
    path = file.split('href="')[1].split('"')[0]
    assert client.get(path).content == png()
    assert client.get(f"/results/{job.id}/files/manifest.json").json()["job"]["id"] == job.id
    assert client.get(f"/results/{job.id}/files/../../pipeline.yaml").status_code == 404
    assert client.get("/results/" + "0" * 32).status_code == 404
    assert client.get("/results/what").status_code == 404


def test_a_failure_says_what_is_wrong_without_paths_of_the_server(site: Any, client: TestClient):
    site.put("a.png", png())
    site.settle()
    job = site.claim_next()
    failure = EmptyMesh(f"{site.root}/secret/a.png has nothing in it").failure()
    site.ledger.transact(lambda s: queue.fail(s, job.id, failure))
    site.publish()
    text = client.get(f"/results/{job.id}").text
    assert "empty_mesh" in text
    assert str(site.root) not in text
    assert cells(client, "/results?status=failed") == [job.id]


def test_the_archive_has_the_files_of_the_folder_and_no_others(site: Any, client: TestClient):
    job = make_result(site, "chär.png")
    (folder,) = [path for path in site.outbox.glob("in/*") if path.is_dir()]
    (folder / "strange.txt").write_text("somebody else's")
    answer = client.get(f"/results/{job.id}/zip")
    assert answer.headers["content-type"] == "application/zip"
    name = f"ch_r-{job.id[:8]}.zip"
    assert answer.headers["content-disposition"] == (
        f"attachment; filename=\"{name}\"; filename*=UTF-8''{name.replace('_', '%C3%A4')}"
    )
    made = zipfile.ZipFile(io.BytesIO(answer.content))
    assert made.testzip() is None
    root = f"chär-{job.id[:8]}"
    assert sorted(made.namelist()) == [
        f"{root}/chär.matte.png", f"{root}/manifest.json", f"{root}/source/chär.png",
    ]  # fmt: skip
    assert made.read(f"{root}/chär.matte.png") == png()
    assert str(site.root).encode() not in made.read(f"{root}/manifest.json")
    (folder / "chär.matte.png").unlink()
    (folder / "chär.matte.png").symlink_to(site.root / "pipeline.yaml")
    again = zipfile.ZipFile(io.BytesIO(client.get(f"/results/{job.id}/zip").content))
    assert f"{root}/chär.matte.png" not in again.namelist()


def test_a_thumbnail_is_asked_for_once_and_the_picture_stands_in(site: Any, client: TestClient):
    data = png("blue")
    job = make_result(site, data=data)
    client.get("/results")
    (request,) = site.rows(ThumbnailRequest)
    assert request.place.endswith("chair.matte.png")
    assert (site.outbox / request.place).read_bytes() == data
    answer = client.get(f"/thumbnails/{job.id}?v={request.sha256}")
    assert answer.content == data
    assert answer.headers["cache-control"] == "no-cache"

    place = thumbnail_path(site.config.thumbnails, request.sha256, ".webp")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"small")
    answer = client.get(f"/thumbnails/{job.id}?v={request.sha256}")
    assert answer.content == b"small"
    assert "immutable" in answer.headers["cache-control"]
    assert "immutable" not in client.get(f"/thumbnails/{job.id}").headers["cache-control"]
    assert "svg" in client.get("/thumbnails/nothing").headers["content-type"]


def test_a_large_picture_has_an_icon_until_its_thumbnail_is_there(
    site: Any, client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    from dna_pipeline.interfaces.web.page.views import gallery

    monkeypatch.setattr(gallery, "MAX_ORIGINAL_BYTES", 10)
    job = make_result(site)
    assert "svg" in client.get(f"/thumbnails/{job.id}").headers["content-type"]
    (folder,) = [path for path in site.outbox.glob("in/*") if path.is_dir()]
    (folder / "chair.matte.png").unlink()
    assert client.get(f"/thumbnails/{job.id}").status_code == 200


def test_a_ledger_that_cannot_be_written_has_a_gallery_still(site: Any, client: TestClient):
    job = make_result(site)
    with closing(sqlite_module().connect(str(site.config.ledger_path))) as connection:
        connection.execute("DROP TABLE thumbnails")
    assert cells(client, "/results") == [job.id]


def cells(client: TestClient, address: str) -> list[str]:
    answer = client.get(address)
    assert answer.status_code == 200
    return cells_in(answer.text)


def cells_in(text: str) -> list[str]:
    parts = text.split("data-cell>")[1:]
    return [part.split('href="/results/')[1][:32] for part in parts]
