"""What people see where something is not there or goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.interfaces.web.site import Site

BROWSER = {"accept": "text/html,*/*;q=0.8"}
HTMX = {"hx-request": "true", "accept": "*/*"}


@pytest.fixture
def client(site: Any) -> Iterator[TestClient]:
    with TestClient(make_app(Site(site.config)), base_url="http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nothing/here", 404), ("/results/0123456789abcdef", 404), ("/models?load=what", 422),
     ("/models?load=99999999999999999999", 422),
     ("/results/01234567/retry", 404), ("/assets/1/none.css", 404)],
)  # fmt: skip
def test_people_get_a_page_with_a_way_on(client: TestClient, path: str, status: int):
    answer = client.get(path, headers=BROWSER)
    assert answer.status_code == status
    assert "<h1>" in answer.text and 'href="/results"' in answer.text


def test_a_day_without_a_next_one_is_no_day(client: TestClient):
    answer = client.get("/results?day=9999-12-31", headers=BROWSER)
    assert answer.status_code == 400
    assert "is no day" in answer.text


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/nothing", "/sdapi/v1/nothing"])
def test_programs_get_what_their_api_says(client: TestClient, path: str):
    for headers in (BROWSER, {}):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 404
        assert answer.json()
    assert client.get("/nothing/here").json() == {"detail": "Not Found"}


def test_the_script_of_the_page_gets_a_sentence(client: TestClient):
    answer = client.post("/models/load", data={"model": "none"}, headers=HTMX)
    assert (answer.status_code, answer.text) == (404, "pipeline.yaml has no such model")


def test_a_ledger_that_is_damaged_is_said_without_paths(site: Any, client: TestClient):
    site.close()
    for path in site.config.ledger_path.parent.glob("ledger.db*"):
        path.write_bytes(b"no ledger" * 4096)
    for path in ("/results", "/results/0123456789abcdef", "/drop?from=01234567"):
        answer = client.get(path, headers=BROWSER)
        assert answer.status_code == 503
        assert "dna-pipeline repair" in answer.text
        assert str(site.root) not in answer.text
