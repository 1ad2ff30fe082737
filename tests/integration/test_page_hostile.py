"""What strangers write is text on every view of the page, and files of any name can be fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.testclient import TestClient

from dna_pipeline.base.errors import EmptyMesh
from dna_pipeline.base.naming import visible
from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.tables import Job
from tests.page_client import picture

TEXTS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>',
    "'; alert(1) //", "{{ 7 * 7 }}{% raw %}", "</textarea><script>alert(1)</script>",
    "\x1b[31mred\x1b]0;title\x07", "\u202egnp.exe", "a\\b\x00c", "line\r\nevent: state\r\ndata: x",
    "\u2028\u2066\u200f",
)  # fmt: skip
NAMES = tuple(text.replace("/", "_").replace("\x00", "") for text in TEXTS)
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Strict(HTMLParser):
    """Reads a page, and keeps what only a stranger can have put there.

    Attributes:
        faults: elements and attributes that no template has.
        fields: what is in fields, where people mend it as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.fields: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        values = {name: value or "" for name, value in attrs}
        self.faults += [f"{tag} {name}" for name in values if name.startswith("on")]
        if tag in ("svg", "iframe", "object", "base", "style"):
            self.faults.append(tag)
        for name in ("src", "href", "action", "poster"):
            if not re.match(r"/(?!/)|#|$", values.get(name, "")):
                self.faults.append(f"{tag} {name}={values[name]}")
        if tag == "script" and not values.get("src", "").startswith("/assets/"):
            self.faults.append("a script")
        if tag in ("input", "option"):
            self.fields.append(values.pop("value", ""))
        self.texts += values.values()

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        (self.fields if "textarea" in self._open else self.texts).append(data)


def check(page: str, *shown: str) -> None:
    """Fail if a page has anything of a stranger's but text, or lacks one of these texts."""
    strict = Strict()
    strict.feed(page)
    strict.close()
    assert strict.faults == []
    text = "\n".join(strict.texts)
    assert CONTROLS.findall(text) == []
    for each in shown:
        assert visible(each) in text.replace("\n", "")


def publish_hostile(site: Any) -> Job:
    """Publish a result whose warnings, parameters, model and device are hostile."""
    job = site.claim_next()
    run = {
        "stage_id": "remove_background", "type": "remove_background", "provider": "border_key",
        "model": {"name": TEXTS[0], "sha256": TEXTS[1]},
        "params": {TEXTS[2]: TEXTS[3], "loras": {TEXTS[1]: 0.8}}, "device": TEXTS[6], "dtype": "x",
        "batch_size": 1, "attempt": 1, "seconds": 0.5, "warnings": list(TEXTS),
        "environment": {"python": "3"},
    }  # fmt: skip
    site.ledger.transact(lambda s: queue.finish_stage(s, job.id, run, []))
    site.ledger.transact(lambda s: queue.finish_computing(s, job.id))
    site.publish()
    return job


@pytest.fixture
def client(site: Any) -> Iterator[TestClient]:
    with TestClient(make_app(Site(site.config)), base_url="http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize("name", NAMES)
def test_file_of_any_name_is_shown_and_fetched(site: Any, client: TestClient, name: str):
    data = picture()
    site.put(f"{name}.png", data)
    site.settle()
    job = site.run_next(data)
    shown = client.get(f"/results/{job.id}").text
    check(shown, f"{name}.png")
    check(client.get("/results").text, f"{name}.png")
    check(client.get("/").text, f"{name}.png")
    links = [unescape(link) for link in re.findall(r'<a href="([^"]*)" download>', shown)]
    original = next(link for link in links if "source" in link)
    answer = client.get(original)
    assert (answer.status_code, answer.content) == (200, data)
    assert "\\" not in original and CONTROLS.search(original) is None
    assert unescape(shown).count(f'src="{original}"') == 1  # and it is the picture of before


def test_texts_of_sidecars_and_stages_are_text(site: Any, client: TestClient):
    texts = [text.replace("\x00", "") for text in TEXTS]
    sidecar = {
        "tags": texts, "meta": {**{text: text for text in texts}, "list": texts},
    }  # fmt: skip
    site.put("chair.png", picture())
    site.put("chair.png.yaml", json.dumps(sidecar))
    site.settle()
    job = publish_hostile(site)
    shown = client.get(f"/results/{job.id}").text
    check(shown, *TEXTS, *texts)
    for text in texts:
        check(client.get("/results", params={"q": text}).text)
        check(client.get("/results", params={"inbox": text}).text)
    check(client.get(f"/drop?from={job.id}").text)


@pytest.mark.parametrize("text", TEXTS)
def test_failure_is_text(site: Any, client: TestClient, text: str):
    site.put("chair.png", picture())
    site.put("chair.png.yaml", f"# {json.dumps(text)}\nremove_background: {{force: true}}\n")
    site.settle()
    job = site.claim_next()
    failure = EmptyMesh(text, hint=text).failure()
    site.ledger.transact(lambda s: queue.fail(s, job.id, failure))
    site.publish()
    for address in (f"/results/{job.id}", f"/results/{job.id}/retry"):
        check(client.get(address).text, *text.split("\n"))
    check(client.get("/").text)  # which has it on one line
    answer = client.post(f"/results/{job.id}/retry", data={"text": text, "action": "retry"})
    assert answer.status_code == 409
    check(answer.text)


@pytest.mark.parametrize("text", TEXTS)
def test_names_in_addresses_are_text(client: TestClient, text: str):
    queries = ({"pipeline": text}, {"from": text}, {"load": text}, {"day": text}, {"batch": text})
    for path in ("/drop", "/results", "/models"):
        for query in queries:
            check(client.get(path, params=query, headers={"accept": "text/html"}).text)
    answer = client.get("/results/what/file", params={"path": text})
    assert answer.status_code == 404
    check(answer.text)


def test_names_of_batches_and_files_beside_the_models_are_text(site: Any, client: TestClient):
    matrix = json.dumps({"matrix": {"remove_background.force": [True, False]}})
    for name in NAMES:
        site.put(f"{name}.png", picture())
        site.put(f"{name}.png.yaml", matrix)
        for place in ("models/loras", "wildcards"):
            suffix = "txt" if place == "wildcards" else "safetensors"
            path = site.config.data / place / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    site.settle()
    queue_view = client.get("/").text
    check(queue_view)
    assert queue_view.count('hx-post="/batches/') == 2 * len(NAMES)
    check(client.get("/models").text, *NAMES)
