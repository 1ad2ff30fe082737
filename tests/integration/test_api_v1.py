"""`/api/v1`: jobs, batches, the queue, and what is set up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from dna_pipeline.base.errors import StageFailed
from dna_pipeline.ledger import queue, store
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.tables import Job
from tests.integration.conftest import Site, StubProber
from tests.web import client_of

TWO = "matrix: {remove_background.force: [true, false]}"


@pytest.fixture
def client(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    with client_of(site.config, monkeypatch, StubProber) as client:
        yield client


def get(client: TestClient, path: str, **query: Any) -> Any:
    answer = client.get(f"/api/v1{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def dropped(site: Site, *names: str) -> list[Job]:
    for name in names:
        site.put(name)
        site.settle()
    return site.jobs()


def failed(site: Site, detail: str = "for a reason") -> Job:
    dropped(site, "cat.png")
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, StageFailed(detail).failure()))
    site.publish()
    return job


# --- jobs ---


@pytest.mark.slow
def test_jobs_come_in_pages(site: Site, client: TestClient):
    jobs = dropped(site, *(f"{n}.png" for n in range(5)))
    seen: list[str] = []
    page = get(client, "/jobs", limit=2)
    while True:
        seen += [job["name"] for job in page["jobs"]]
        if page["next"] is None:
            break
        page = get(client, "/jobs", limit=2, before=page["next"])
    assert seen == [job.name for job in reversed(jobs)]


def test_an_empty_page(client: TestClient):
    assert get(client, "/jobs") == {"jobs": [], "next": None}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"status": "completed"}, ["a.png"]),
        ({"status": "queued"}, ["c.png", "b.png"]),
        ({"inbox": "in"}, ["c.png", "b.png", "a.png"]),
        ({"inbox": "other"}, []),
        ({"status": "queued", "inbox": "in"}, ["c.png", "b.png"]),
        ({"inbox": "in", "stem": "b"}, ["b.png"]),
        ({"inbox": "in", "stem": "b", "status": "completed"}, []),
        ({"batch": "0" * 32}, []),
    ],
)
def test_filters(site: Site, client: TestClient, query: dict[str, str], names: list[str]):
    dropped(site, "a.png")
    site.run_next()
    dropped(site, "b.png", "c.png")
    assert [job["name"] for job in get(client, "/jobs", **query)["jobs"]] == names


def test_the_jobs_of_a_batch(site: Site, client: TestClient):
    site.put("cat.png.yaml", TWO)
    dropped(site, "cat.png", "dog.png")
    (batch,) = get(client, "/batches")["batches"]
    assert (batch["kind"], batch["rows"], batch["jobs"]["queued"]) == ("matrix", 2, 2)
    jobs = get(client, "/jobs", batch=batch["id"], status="queued", inbox="in")["jobs"]
    assert [job["name"] for job in jobs] == ["cat.png", "cat.png"]
    assert get(client, f"/batches/{batch['id']}") == batch


@pytest.mark.parametrize(
    "clause",
    [
        {}, {"status": "failed"}, {"inbox": "in"}, {"status": "failed", "inbox": "in"},
        {"batch": "x"}, {"batch": "x", "status": "failed"}, {"batch": "x", "inbox": "in"},
        {"inbox": "in", "stem": "a"}, {"inbox": "in", "stem": "a", "status": "failed"},
        {"batch": "x", "inbox": "in", "stem": "a", "status": "failed"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [None, 100])
def test_no_list_sorts_or_reads_the_whole_ledger(
    site: Site, clause: dict[str, str], before: int | None
):
    plans: list[str] = []

    class Explained(Queries):
        def _rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
            rows = super()._rows(f"EXPLAIN QUERY PLAN {sql}", *values)
            plans.extend(row["detail"] for row in rows)
            return super()._rows(sql, *values)

    queries = Explained(site.config.ledger_path)
    queries.page(**clause, before=before, limit=100)
    queries.close()
    assert plans
    assert not any("TEMP B-TREE" in plan for plan in plans)
    wanted = "ix_jobs_" if clause else "jobs"
    assert all(wanted in plan for plan in plans), plans


def test_a_finished_job_in_full(site: Site, client: TestClient):
    site.put("cat.png.yaml", "tags: [hero]\nmeta: {asset: chair}")
    dropped(site, "cat.png")
    job = site.run_next()
    shown = get(client, f"/jobs/{job.id}")
    assert (shown["status"], shown["is_published"]) == ("completed", True)
    assert (shown["tags"], shown["meta"]) == (["hero"], {"asset": "chair"})
    assert shown["sidecar"] == "tags: [hero]\nmeta: {asset: chair}"
    (stage,) = shown["stages"]
    assert (stage["id"], stage["is_done"]) == ("remove_background", True)
    assert stage["provider"] == "border_key"
    files = {file["role"]: file for file in shown["files"]}
    assert client.get(files["matte"]["url"]).content == b"a mesh"
    assert files["matte"]["facts"] == {"width": 64, "height": 48}
    assert shown["folder_name"] == f"in/cat-{job.id[:8]}"


def test_a_running_job_says_how_far_it_is(site: Site, client: TestClient):
    dropped(site, "cat.png")
    job = site.claim_next()
    data = {"stage": "remove_background", "step": 3, "steps": 10, "fraction": 0.3}
    site.ledger.transact(lambda s: store.add_event(s, job.id, "progress", data))
    (listed,) = get(client, "/jobs")["jobs"]
    assert listed["progress"] == data
    assert get(client, f"/jobs/{job.id}")["progress"] == data


def test_a_failed_job_says_why(site: Site, client: TestClient):
    job = failed(site, f"{site.root}/data/x is wrong")
    error = get(client, f"/jobs/{job.id}")["error"]
    assert error["code"] == "stage_failed"
    assert error["detail"] == "data/x is wrong"
    assert error["message"].startswith("A stage failed")


@pytest.mark.parametrize("path", ["", "/files/manifest.json", "/events"])
@pytest.mark.parametrize("job", ["0" * 32, "0", "latest", "cat-00000000"])
def test_no_such_job(client: TestClient, job: str, path: str):
    answer = client.get(f"/api/v1/jobs/{job}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_job")


def test_cancel(site: Site, client: TestClient):
    (job,) = dropped(site, "cat.png")
    answer = client.post(f"/api/v1/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    answer = client.post(f"/api/v1/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_ended")


def test_retry(site: Site, client: TestClient):
    job = failed(site)
    answer = client.post(f"/api/v1/jobs/{job.id}/retry")
    assert (answer.status_code, answer.json()["status"]) == (200, "queued"), answer.text
    answer = client.post(f"/api/v1/jobs/{job.id}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_retried")
    assert "only failed and cancelled jobs" in answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0}, {"limit": 501}, {"limit": "x"}, {"before": -1}, {"before": 2**63},
        {"status": "done"}, {"stem": "a"},
    ],
)  # fmt: skip
def test_wrong_questions(client: TestClient, query: dict[str, Any]):
    answer = client.get("/api/v1/jobs", params=query)
    assert answer.status_code == 422
    assert answer.json()["code"] == "request_invalid"
    assert set(answer.json()) == {"code", "message", "detail", "hint"}


@pytest.mark.parametrize("text", ["%00", "%ff", "%F0%9F%90%88", "'", "x" * 5000, "..%2f.."])
def test_strange_names_are_no_jobs(client: TestClient, text: str):
    assert client.get(f"/api/v1/jobs/{text}").status_code == 404
    assert client.get(f"/api/v1/batches/{text}").status_code == 404
    assert client.get(f"/api/v1/jobs?inbox={text}").status_code == 200


# --- batches ---


@pytest.mark.slow
def test_a_batch_is_paused_resumed_and_cancelled(site: Site, client: TestClient):
    site.put("cat.png.yaml", TWO)
    dropped(site, "cat.png")
    (batch,) = get(client, "/batches")["batches"]
    url = f"/api/v1{batch['url'].removeprefix('/api/v1')}"
    assert client.post(f"{url}/pause").json()["paused"].startswith("batch ")
    (hold,) = get(client, "/holds")["holds"]
    assert (hold["code"], hold["jobs"]) == ("paused", 2)
    assert client.post(f"{url}/resume").json()["paused"] is None
    assert get(client, "/holds") == {"holds": []}
    assert len(client.post(f"{url}/cancel").json()["cancelled"]) == 2
    assert client.post(f"{url}/cancel").json() == {"cancelled": []}


@pytest.mark.parametrize("action", ["", "/cancel", "/pause", "/resume"])
def test_no_such_batch(client: TestClient, action: str):
    url = f"/api/v1/batches/{'0' * 32}{action}"
    answer = client.post(url) if action else client.get(url)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_batch")


def test_batches_come_in_pages(site: Site, client: TestClient):
    for name in ("a", "b", "c"):
        site.put(f"{name}.png.yaml", TWO)
        dropped(site, f"{name}.png")
    first = get(client, "/batches", limit=2)
    second = get(client, "/batches", limit=2, before=first["next"])
    names = [batch["name"] for batch in first["batches"] + second["batches"]]
    assert (names, second["next"]) == (["c.png", "b.png", "a.png"], None)


# --- the queue, and what is set up ---


def test_the_queue_is_paused_and_resumed(site: Site, client: TestClient):
    dropped(site, "cat.png")
    assert not get(client, "/status")["is_paused"]
    assert client.post("/api/v1/queue/pause").json() == {"is_paused": True}
    status = get(client, "/status")
    assert (status["is_paused"], status["holds"][0]["jobs"]) == (True, None)
    assert client.post("/api/v1/queue/resume").json() == {"is_paused": False}
    assert get(client, "/holds") == {"holds": []}


def test_the_status_says_that_no_daemon_runs(site: Site, client: TestClient):
    dropped(site, "cat.png")
    site.run_next()
    status = get(client, "/status")
    assert status["has_daemon"] is False
    assert status["queue"]["completed"] == {"in": 1}
    assert status["recent"][0]["name"] == "cat.png"
    assert status["inboxes"] == ["in"]
    assert status["pipelines"] == ["cut", "other", "paint", "two_stages"]


def test_models_say_what_is_missing(client: TestClient):
    models = {model["name"]: model for model in get(client, "/models")["models"]}
    assert models["key"]["is_present"]
    assert not models["sd"]["is_present"]
    assert "data/sd" in models["sd"]["missing"]


def test_pipelines_have_the_schema_of_their_parameters(client: TestClient):
    import jsonschema

    pipelines = {p["name"]: p for p in get(client, "/pipelines")["pipelines"]}
    (stage,) = pipelines["paint"]["stages"]
    assert stage["params"]["prompt"].startswith("{folder}")
    check = jsonschema.Draft7Validator(stage["parameters"])
    assert check.is_valid({"prompt": "a chair", "cfg": 7, "sampler": "Euler a"})
    assert not check.is_valid({"steps": 0})
    assert not check.is_valid({"cfg": "x"})


def test_inboxes(client: TestClient):
    (inbox,) = get(client, "/inboxes")["inboxes"]
    assert (inbox["name"], inbox["pipeline"]) == ("in", "cut")
    assert inbox["url"] == "/api/v1/inboxes/in/drops"


# --- the server's folders ---


@pytest.mark.slow
def test_no_answer_has_a_path_of_the_server(site: Site, client: TestClient):
    failed(site, f"{site.root}/x/y: {site.config.outbox}")
    site.put("dog.png.yaml", f"{TWO}\nmeta: {{scene: {site.root}/scene.blend}}")
    dropped(site, "dog.png")
    (batch,) = get(client, "/batches")["batches"]
    jobs = [job["id"] for job in get(client, "/jobs")["jobs"]]
    paths = ["/status", "/holds", "/models", "/pipelines", "/inboxes", "/jobs", "/batches"]
    paths += [f"/batches/{batch['id']}", *(f"/jobs/{job}" for job in jobs)]
    paths += [
        file["url"].removeprefix("/api/v1")
        for job in jobs
        for file in get(client, f"/jobs/{job}")["files"]
    ]
    for path in paths:
        answer = client.get(f"/api/v1{path}")
        assert answer.status_code == 200, path
        assert str(site.root) not in answer.text, path


# --- without a ledger that can be read ---


def test_a_damaged_ledger_is_said_to_be(site: Site, client: TestClient):
    site.close()
    site.config.ledger_path.write_bytes(b"no database at all" * 1000)
    answer = client.get("/api/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert str(site.root) not in answer.text


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/jobs/a/b/c"])
def test_no_such_route(client: TestClient, path: str):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_another_method(client: TestClient):
    answer = client.delete("/api/v1/jobs")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]
