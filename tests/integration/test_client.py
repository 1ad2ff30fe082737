"""`integrations/client.py` with a real daemon; its worker is the stand-in, which needs no torch."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

from dna_pipeline.operations.serving.addresses import announced
from integrations.client import Client, Drop, State
from tests import fork_server
from tests.conftest import SCRIPTS, load_script

stand_in = load_script("stand_in")
SCHEMAS = SCRIPTS.parent / "schemas"

WAIT = "settle_seconds: 0.2, sidecar_wait_seconds: 5, rescan_seconds: 0.5"
CONFIG = f"""\
version: 1
pipelines:
  slow: [{{stand_in: {{seconds: 3}}}}]
  quick: [{{stand_in: {{}}}}]
inboxes:
  - {{path: in/archive, pipeline: quick, {WAIT}}}
  - {{path: in/kept, name: keeper, pipeline: quick, originals: keep, latest: true, {WAIT}}}
"""
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studio")
    (root / "pipeline.yaml").write_text(CONFIG)
    for name in ("archive", "kept"):
        (root / "in" / name).mkdir(parents=True)
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Client]:
    """With the daemon running."""
    daemon = fork_server.logged(
        fork_server.light(), root / "log", "stand_in", "pipeline.yaml",
        cwd=root, env=stand_in.environment(SCRIPTS),
    )  # fmt: skip
    client = Client(root / "outbox")
    try:
        until = time.monotonic() + TIMEOUT_S
        while not client.is_alive():
            assert daemon.poll() is None, (root / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        yield client
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0
    assert not client.is_alive()


def picture(color: str) -> Callable[[Path], None]:
    return lambda path: Image.new("RGB", (48, 48), color).save(path)


def send(client: Client, told: dict, inbox: str = "archive", color: str = "red") -> Drop:
    return client.send(inbox, picture(color), told, name="chair", unique=inbox == "archive")


def until(client: Client, drop: Drop, wanted: Callable[[State], bool]) -> State:
    deadline = time.monotonic() + TIMEOUT_S
    while not wanted(state := client.state(drop)):
        assert time.monotonic() < deadline, state
        time.sleep(0.05)
    return state


@pytest.mark.slow
def test_from_a_picture_to_its_result(root: Path, client: Client):
    assert client.inboxes() == {"archive": root / "in/archive", "keeper": root / "in/kept"}
    assert client.status()["pipelines"] == ["slow", "quick"]
    drop = send(client, {"pipeline": "slow", "meta": {"asset": "chair_01"}})
    states: list[State] = []
    state = client.wait(drop, TIMEOUT_S, states.append, poll_s=0.05)

    kinds = list(dict.fromkeys(state.kind for state in states))
    assert (kinds[0], kinds[-2:]) == ("waiting", ["running", "completed"])
    assert any(0 < state.fraction < 1 and state.eta_s for state in states)
    assert state.manifest["input"]["sha256"] == drop.sha256
    assert state.manifest["job"]["meta"] == {"asset": "chair_01", "client_token": drop.token}
    (result,) = state.paths("image")
    assert result.parent == state.folder
    assert Image.open(result).getpixel((0, 0)) == (255, 0, 0)
    assert client.find_result(drop) == state


@pytest.mark.slow
def test_status_fits_its_schema_while_a_batch_runs(root: Path, client: Client):
    schema = json.loads((SCHEMAS / "status.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    inbox = root / "in/archive"
    picture("green")(inbox / "row.png")
    rows = "row.png,slow,\nrow.png,slow,2099-01-01\nrow.png,slwo,\n"
    (inbox / "rows.csv").write_text(f"image,pipeline,not_before\n{rows}")
    seen: list[dict] = []
    deadline = time.monotonic() + TIMEOUT_S
    while not any(s["running"] and s["running"]["steps"] and s["batches"] for s in seen):
        assert time.monotonic() < deadline
        if (status := client.status()) not in (None, *seen[-1:]):
            jsonschema.validate(status, schema)
            seen.append(status)
        time.sleep(0.1)
    (worker,) = seen[-1]["workers"]
    assert worker["jobs"] == [seen[-1]["running"]]
    (batch,) = seen[-1]["batches"]
    assert (batch["name"], batch["rows"], batch["wrong"]) == ("rows.csv", 3, 1)
    assert batch["jobs"] == {"running": 1, "queued": 1}
    assert "not_before" in {hold["code"] for hold in seen[-1]["holds"]}
    assert any(status["waiting"] for status in seen)


@pytest.mark.slow
def test_a_job_has_a_page_while_a_server_runs(root: Path, client: Client):
    drop = send(client, {"not_before": "2099-01-01T00:00:00Z"})
    with announced(root / "data", "http://127.0.0.1:9", has_token=False):
        state = until(client, drop, lambda state: client.page(state) is not None)
        assert client.page(state) == f"http://127.0.0.1:9/results/{state.job}"
        assert len(state.job) == 32
    until(client, drop, lambda state: client.page(state) is None)


@pytest.mark.slow
def test_why_a_job_is_held(client: Client):
    drop = send(client, {"not_before": "2099-01-01T00:00:00Z"})
    state = until(client, drop, lambda state: bool(state.kind == "queued" and state.why))
    assert "2099" in state.why
    assert client.status()["queued"][0]["hold"] == "not_before"


@pytest.mark.slow
def test_failures_come_with_what_to_do(client: Client):
    wrong = [{"stand_in": {"seconds": "soon"}}, {"no_such_key": 1}]
    drops = [send(client, told) for told in wrong]
    codes = [client.wait(drop, TIMEOUT_S).error["code"] for drop in drops]
    assert codes == ["parameter_invalid", "sidecar_invalid"]


@pytest.mark.slow
def test_a_kept_name_has_a_latest_result(client: Client):
    for color in ("red", "blue"):
        state = client.wait(send(client, {}, "keeper", color), TIMEOUT_S)
        assert state.kind == "completed", state.text
        (made,) = state.paths("image")
        deadline = time.monotonic() + TIMEOUT_S
        while not _holds(client.latest("keeper", "chair", ".png"), made.read_bytes()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _holds(file: Path | None, data: bytes) -> bool:
    return file is not None and file.read_bytes() == data


@pytest.mark.slow
def test_a_result_is_found_without_status(
    root: Path, client: Client, monkeypatch: pytest.MonkeyPatch
):
    first = send(client, {})
    client.wait(first, TIMEOUT_S)
    for color in ("green", "blue", "white"):
        client.wait(send(client, {}, color=color), TIMEOUT_S)
    elsewhere = Client(root)
    monkeypatch.setattr(elsewhere, "status", lambda: {"daemon": None})
    assert elsewhere.state(first).manifest["input"]["sha256"] == first.sha256
