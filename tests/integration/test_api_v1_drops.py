"""`/api/v1/drops`: what comes over HTTP becomes jobs once, and never lies in a watched folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import update
from starlette.testclient import TestClient

from dna_pipeline.base.errors import StageFailed
from dna_pipeline.ledger import queue
from dna_pipeline.ledger.tables import Batch, Drop, StageRun
from dna_pipeline.operations.serving import drops as drops_module
from tests.integration.conftest import Site, StubProber
from tests.web import client_of

IMAGE = b"an image"
TWO = "matrix: {remove_background.force: [true, false]}"


@pytest.fixture
def client(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    with client_of(site.config, monkeypatch, StubProber) as client:
        yield client


def send(
    client: TestClient,
    *names: str,
    inbox: str | None = None,
    data: bytes = IMAGE,
    mask: bytes | None = None,
    **fields: Any,
) -> Any:
    files = [("image", (name, data, "image/png")) for name in names or ("cat.png",)]
    if mask is not None:
        files.append(("mask", ("m.png", mask, "image/png")))
    path = "/api/v1/drops" if inbox is None else f"/api/v1/inboxes/{inbox}/drops"
    return client.post(path, files=files, data=fields)


def leftovers(site: Site) -> list[Path]:
    """Files of the inbox and claims."""
    return [path for path in [*site.inbox.rglob("*"), *site.claims()] if path.is_file()]


def refused(site: Site, answer: Any, status: int, code: str) -> dict[str, str]:
    """The problem of an answer that left nothing behind."""
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["code"] == code, problem
    assert site.jobs() == []
    assert leftovers(site) == []
    assert site.rows(Drop) == []
    return problem


# --- what becomes of it ---


def test_an_image_becomes_a_job_of_the_first_pipeline(site: Site, client: TestClient):
    answer = send(client)
    assert answer.status_code == 201, answer.text
    (made,) = answer.json()["jobs"]
    job = site.job()
    assert (made["id"], made["name"], made["batch"]) == (job.id, "cat.png", None)
    assert answer.headers["location"] == made["url"] == f"/api/v1/jobs/{job.id}"
    assert (job.inbox, job.pipeline, job.status) == ("submit", "cut", "queued")
    assert (Path(site.drop(job).claim) / "cat.png").read_bytes() == IMAGE
    site.run_next()
    assert site.folders() == [f"submit/cat-{job.id[:8]}"]


@pytest.mark.parametrize("write", [yaml.safe_dump, json.dumps])
def test_a_sidecar_is_yaml_or_json(site: Site, client: TestClient, write: Callable[[Any], str]):
    text = write({"remove_background": {"force": True}, "meta": {"asset": "chair"}})
    assert send(client, sidecar=text).status_code == 201
    job = site.job()
    assert job.stages[0]["params"]["force"] is True
    assert job.meta == {"asset": "chair"}
    assert site.drop(job).sidecar_text == text


def test_the_pipeline_takes_the_place_of_the_sidecars(site: Site, client: TestClient):
    assert send(client, sidecar="pipeline: cut\ntags: [a]", pipeline="other").status_code == 201
    assert (site.job().pipeline, site.job().tags) == ("other", ["a"])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "# for the shop\ntags: [a]  # one",
            '# for the shop\ntags: [a]  # one\npipeline: "other"\n',
        ),
        ("", 'pipeline: "other"\n'),
        ("tags: [a]\n...\n", None),
        ('{"tags": ["a"]}', None),
    ],
)
def test_the_text_of_a_sidecar_stays_where_the_pipeline_is_added(
    site: Site, client: TestClient, text: str, kept: str | None
):
    assert send(client, sidecar=text, pipeline="other").status_code == 201
    written = site.drop(site.job()).sidecar_text
    assert site.job().pipeline == "other"
    if kept is None:
        assert json.loads(written) == {"tags": ["a"], "pipeline": "other"}
    else:
        assert written == kept


def test_several_images_get_the_same_settings(site: Site, client: TestClient):
    answer = send(client, "a.png", "b.png", sidecar="tags: [x]")
    assert [job["name"] for job in answer.json()["jobs"]] == ["a.png", "b.png"]
    assert [job.tags for job in site.jobs()] == [["x"], ["x"]]
    assert answer.json()["batches"] == []
    assert "location" not in answer.headers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sidecar", "number"),
    [
        (TWO, 2),
        ("pipeline: paint\ncount: 3", 3),
        ("pipeline: paint\ncount: 2\nmatrix: {img2img.strength: [0.3, 0.6]}", 4),
    ],
)
def test_a_matrix_makes_a_batch(site: Site, client: TestClient, sidecar: str, number: int):
    answer = send(client, sidecar=sidecar).json()
    assert len(answer["jobs"]) == number
    (batch,) = site.rows(Batch)
    assert answer["batches"] == [batch.id]
    assert {job["batch"] for job in answer["jobs"]} == {batch.id}
    for _ in range(number):
        site.run_next()
    site.accounts().step(0.0)
    assert all(name.startswith(f"submit/cat-{batch.id[:8]}/cat-") for name in site.folders())


def test_a_mask_is_used(site: Site, client: TestClient):
    answer = send(client, mask=b"a mask", pipeline="paint")
    assert answer.status_code == 201, answer.text
    drop = site.drop(site.job())
    assert [(file["role"], file["name"]) for file in drop.companions] == [("mask", "cat.mask.png")]
    assert site.job().stages[0]["params"]["mask"] == "file"


# --- an inbox ---


@pytest.mark.slow
def test_a_drop_into_an_inbox_has_its_settings_and_its_name(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
):
    site = make_site(
        pipeline="other", priority=7, originals="keep", defaults={"remove_background": {}}
    )
    with client_of(site.config, monkeypatch, StubProber) as client:
        answer = send(client, inbox="in")
    assert answer.status_code == 201, answer.text
    job = site.job()
    assert (job.inbox, job.pipeline, job.priority) == ("in", "other", 7)
    assert not list(site.inbox.rglob("*"))
    site.run_next()
    assert site.folders() == [f"in/cat-{job.id[:8]}"]
    # No inbox has the original, so that the result keeps it.
    assert (site.outbox / site.folders()[0] / "source/cat.png").read_bytes() == IMAGE


def test_a_retry_of_a_drop_into_a_keeping_inbox_keeps_the_original(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
):
    site = make_site(originals="keep")
    with client_of(site.config, monkeypatch, StubProber) as client:
        job_id = send(client, inbox="in").json()["jobs"][0]["id"]
        job = site.claim_next()
        site.ledger.transact(lambda s: queue.fail(s, job.id, StageFailed("x").failure()))
        site.publish()
        assert client.post(f"/api/v1/jobs/{job_id}/retry").status_code == 200
    site.run_next()
    assert (site.outbox / site.folders()[0] / "source/cat.png").read_bytes() == IMAGE


def test_an_inbox_that_requires_a_sidecar(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
):
    site = make_site(sidecar="required")
    with client_of(site.config, monkeypatch, StubProber) as client:
        refused(site, send(client, inbox="in"), 422, "sidecar_missing")
        assert send(client, inbox="in", sidecar="tags: [a]").status_code == 201


@pytest.mark.parametrize("name", ["other", "submit", "%2e%2e", "in%00"])
def test_no_such_inbox(site: Site, client: TestClient, name: str):
    refused(site, send(client, inbox=name), 404, "unknown_inbox")


# --- a token ---


@pytest.mark.slow
def test_the_same_token_makes_nothing_new(site: Site, client: TestClient):
    first = send(client, client_token="abc").json()
    assert first["is_new"]
    again = send(client, client_token="abc")
    assert again.status_code == 201
    assert again.json() == first | {"is_new": False}
    assert client.get("/api/v1/drops/abc").json() == first | {"is_new": False}
    assert len(site.jobs()) == 1
    assert len(site.rows(Drop)) == 1


@pytest.mark.parametrize("names", [("a.png", "c.png"), ("a.png",), ("a.png", "b.png", "c.png")])
def test_a_token_that_was_used_for_other_images_is_refused(
    site: Site, client: TestClient, names: tuple[str, ...]
):
    def post(*names: str) -> Any:
        files = [("image", (name, IMAGE + name.encode(), "image/png")) for name in names]
        return client.post("/api/v1/drops", files=files, data={"client_token": "abc"})

    assert post("a.png", "b.png").status_code == 201
    answer = post(*names)
    assert (answer.status_code, len(site.jobs())) == (409, 2)


def test_the_token_holds_for_a_whole_batch_and_after_a_retry(site: Site, client: TestClient):
    first = send(client, "a.png", "b.png", client_token="abc", sidecar=TWO).json()
    assert len(first["jobs"]) == 4
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, StageFailed("x").failure()))
    site.publish()
    client.post(f"/api/v1/jobs/{job.id}/retry")
    again = send(client, "a.png", "b.png", client_token="abc", sidecar=TWO).json()
    assert sorted(job["id"] for job in again["jobs"]) == sorted(job["id"] for job in first["jobs"])


def test_the_same_request_at_the_same_time(
    site: Site, client: TestClient, monkeypatch: pytest.MonkeyPatch
):
    """Both have found nothing made before they make it."""
    both = threading.Barrier(2, timeout=20)
    real = drops_module.Drops._submitter

    def meet(*args: Any) -> Any:
        both.wait()
        return real(*args)

    monkeypatch.setattr(drops_module.Drops, "_submitter", meet)
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(send(client, client_token="abc")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in answers] == [201, 201]
    assert sorted(answer.json()["is_new"] for answer in answers) == [False, True]
    assert len(site.jobs()) == 1
    assert len(site.claims()) == 1


def test_a_token_is_for_one_image(site: Site, client: TestClient):
    first = send(client, client_token="abc").json()["jobs"][0]["id"]
    answer = send(client, client_token="abc", data=b"another image")
    assert (answer.status_code, answer.json()["code"]) == (409, "token_reused")
    assert first[:8] in answer.json()["message"]
    assert len(site.jobs()) == 1


def test_a_request_that_was_refused_may_come_again(site: Site, client: TestClient):
    refused(site, send(client, client_token="abc", data=b"broken"), 422, "image_unreadable")
    assert client.get("/api/v1/drops/abc").status_code == 404
    assert send(client, client_token="abc").json()["is_new"]


def test_without_a_token_each_request_makes_jobs(site: Site, client: TestClient):
    send(client)
    send(client)
    assert len(site.jobs()) == 2


# --- a check ---


def test_a_dry_run_says_what_would_be_made(site: Site, client: TestClient):
    answer = send(client, sidecar=f"{TWO}\ntags: [a]", dry_run="true")
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert plan["total"] == 2
    assert [job["stages"][0]["params"]["force"] for job in plan["jobs"]] == [True, False]
    assert plan["jobs"][0]["tags"] == ["a"]
    assert (plan["seconds"], plan["queue_seconds"]) == (None, 0.0)
    assert site.jobs() == leftovers(site) == site.rows(Drop) == []


def test_a_dry_run_estimates_the_time(site: Site, client: TestClient):
    send(client)
    params = site.run_next().stages[0]["params"]
    site.ledger.transact(lambda s: s.execute(update(StageRun).values(params=params)))
    plan = send(client, dry_run="true").json()
    assert plan["seconds"] == plan["jobs"][0]["seconds"] > 0


def test_a_dry_run_refuses_what_would_be_refused(site: Site, client: TestClient):
    answer = send(client, data=b"small", dry_run="true")
    refused(site, answer, 422, "image_too_small")


# --- what is wrong ---


@pytest.mark.parametrize(
    ("fields", "code", "part"),
    [
        ({"sidecar": "remove_background: {forse: true}"}, "sidecar_invalid", "force"),
        ({"sidecar": "remove_background: {force: 7}"}, "parameter_invalid", "line 1"),
        ({"sidecar": "a: [b"}, "sidecar_invalid", "line"),
        ({"sidecar": "[1, 2]"}, "sidecar_invalid", "line 1"),
        ({"sidecar": "pipeline: nothing"}, "unknown_pipeline", "nothing"),
        ({"pipeline": "nothing"}, "unknown_pipeline", "nothing"),
        ({"sidecar": "\n\nimage: a.png"}, "sidecar_invalid", "line 3: image: leave it out"),
        ({"sidecar": "images: ['*']"}, "sidecar_invalid", "images: leave it out"),
        ({"sidecar": "count: 10001"}, "parameter_invalid", "more than 10,000 jobs"),
        ({"sidecar": "count: 0"}, "parameter_invalid", "count"),
        ({"sidecar": "matrix: 7"}, "parameter_invalid", "matrix"),
        ({"pipeline": "paint", "sidecar": "img2img: {mask: file}"}, "mask_missing", "cat"),
        (
            {"pipeline": "paint", "sidecar": "img2img: {mask: /etc/passwd.png}"},
            "path_escapes_inbox", "",
        ),
        (
            {"pipeline": "paint", "sidecar": "img2img: {mask: other.png}"},
            "mask_missing", "other.png",
        ),
    ],
)  # fmt: skip
def test_wrong_settings(
    site: Site, client: TestClient, fields: dict[str, str], code: str, part: str
):
    (site.inbox / "other.png").write_bytes(IMAGE)
    answer = send(client, inbox="in", **fields)
    (site.inbox / "other.png").unlink()
    problem = refused(site, answer, 422, code)
    assert part in problem["detail"]
    assert problem["message"]
    assert str(site.root) not in answer.text


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"broken", "image_unreadable"), (b"small", "image_too_small")],
)
def test_wrong_images(site: Site, client: TestClient, data: bytes, code: str):
    refused(site, send(client, data=data), 422, code)


def test_one_wrong_image_of_several_queues_none(site: Site, client: TestClient):
    files = [("image", ("a.png", IMAGE)), ("image", ("b.png", b"broken"))]
    refused(site, client.post("/api/v1/drops", files=files), 422, "image_unreadable")


def test_one_mask_for_two_images(site: Site, client: TestClient):
    answer = send(client, "a.png", "b.png", mask=b"m", pipeline="paint")
    refused(site, answer, 422, "mask_missing")


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"data": {"image": "no file"}},
        {"files": {"picture": ("a.png", IMAGE)}},
        {"json": {"image": "x"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}},
    ],
)
def test_requests_that_are_no_form(site: Site, client: TestClient, request_: dict[str, Any]):
    answer = client.post("/api/v1/drops", **request_)
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"code", "message", "detail", "hint"}
    assert site.jobs() == []


@pytest.mark.parametrize("token", ["", "a b", "ä", "x" * 129, "a/b", "a\n"])
def test_tokens_that_are_none(site: Site, client: TestClient, token: str):
    answer = send(client, client_token=token)
    if token:
        refused(site, answer, 422, "request_invalid")


NAMES = {
    "../../x.png": "x.png",
    "..": "unnamed",
    "/etc/passwd": "passwd",
    "C:\\pictures\\cat.png": "cat.png",
    ".hidden.png": "hidden.png",
    "x" * 300 + ".png": "x" * 120 + ".png",
    "nul.png": "_nul.png",
    "猫.png": "猫.png",
    "cat.png.yaml": "cat.png.yaml",
    "no ending": "no ending",
    "a.b/": "unnamed",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_senders_are_no_paths(site: Site, client: TestClient, name: str):
    answer = send(client, name)
    assert answer.status_code == 201, answer.text
    job = site.job()
    assert job.name == NAMES[name]
    claim = Path(site.drop(job).claim)
    assert claim.parent == site.config.claims
    assert [path.name for path in claim.iterdir()] == [NAMES[name]]


def test_a_full_disk(site: Site, client: TestClient, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(site.config.claims))

    monkeypatch.setattr("dna_pipeline.intake.claiming.claimer.write_atomic", full)
    problem = refused(site, send(client), 503, "disk_full")
    assert problem["detail"] == "data/claims: No space left on device"
