"""The endpoints of the old API, with a client that knows nothing but the old description."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dna_pipeline.base.errors import BlackImage, EmptyForeground, WeightsMismatch
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web import waiting
from dna_pipeline.ledger import holds
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations import control
from tests.old_client import OldClient, multipart
from tests.web_server import StandIn, served

CONFIG = """\
version: 1
models:
  sd15: {{provider: diffusers, path: {models}/sd-v1-5-local}}
  anime: {{provider: diffusers, path: models/anime}}
  triposr: {{provider: triposr, path: {models}/triposr-base}}
  matte: {{provider: border_key}}
pipelines:
  restyle_to_mesh: [{{img2img: {{model: sd15}}}}, {{remove_background: {{}}}}, {{triposr: {{}}}}]
  restyle: [{{img2img: {{model: sd15, steps: 12}}}}]
  mesh: [{{remove_background: {{}}}}, {{triposr: {{resolution: 48}}}}]
inboxes: [{{path: in, pipeline: restyle}}]
"""


def picture(size: tuple[int, int] = (64, 48), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", size, os.urandom(3 * size[0] * size[1])).save(out, kind)
    return out.getvalue()


PICTURE = picture()


@pytest.fixture
def config(tmp_path: Path, models_dir: Path, quiet: None) -> Config:
    (tmp_path / "pipeline.yaml").write_text(CONFIG.format(models=models_dir))
    (tmp_path / "in").mkdir()
    (tmp_path / "outbox").mkdir()
    return load_config(tmp_path / "pipeline.yaml", {})


@pytest.fixture
def client(config: Config) -> Iterator[OldClient]:
    with served(config) as address:
        yield OldClient(address)


@pytest.fixture
def daemon(config: Config) -> Iterator[StandIn]:
    with StandIn(config).running() as stand_in:
        yield stand_in


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HOLD_GRACE_S", 0.2), ("DAEMON_GRACE_S", 0.6), ("LOOK_S", 0.1)):
        monkeypatch.setattr(waiting, name, value)


def job_row(config: Config, job_id: str) -> dict[str, Any]:
    with closing(Queries(config.ledger_path)) as queries:
        return queries.job(job_id)


def rows(config: Config) -> list[dict[str, Any]]:
    if not config.ledger_path.exists():
        return []
    with closing(Queries(config.ledger_path)) as queries:
        return queries.jobs()


def params(config: Config, job_id: str, stage: int = -1) -> dict[str, Any]:
    return job_row(config, job_id)["stages"][stage]["params"]


def wait_for(predicate: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := predicate()):
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)
    return value


def is_json_error(answer: Any, status: int, code: str | None = None) -> str:
    """Checks an error's shape; gives its text."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    if code is not None:
        assert answer.json["code"] == code
    assert answer.json["detail"]
    return json.dumps(answer.json["detail"])


# --- health and models ---


def test_health_without_and_with_a_daemon(client: OldClient, config: Config):
    assert client.get("/api/health").json["model_loaded"] is False
    with StandIn(config).running():
        wait_for(lambda: client.get("/api/health").json["model_loaded"])
        answer = client.get("/api/health")
        assert answer.status == 200
        assert answer.json["status"] == "ok"
        info = client.get("/api/model/info").json
        assert (info["loaded"], info["model_name"], info["device"]) == (True, "sd15", "auto")
        info = client.get("/api/triposr/info").json
        assert (info["loaded"], info["model_name"], info["device"]) == (True, "triposr", "auto")


def test_loading_a_model(client: OldClient, config: Config, daemon: StandIn, models_dir: Path):
    for send in (
        lambda: client.json("/api/model/load", {"model_path": "sd15"}),
        lambda: client.urlencoded("/api/model/load", {"model": "sd15"}),
        lambda: client.form("/api/model/load", {"name": "sd15"}),
        lambda: client.request("POST", "/api/model/load?model_path=sd15"),
        lambda: client.json("/api/model/load", {"model_path": f"{models_dir}/sd-v1-5-local"}),
        lambda: client.json("/api/model/load", {"model_path": "data/models/anime"}),
    ):
        answer = send()
        assert answer.status == 200, answer.body
        assert answer.json["status"] == "success"
        assert answer.json["model_name"] in ("sd15", "anime")
        assert answer.json["device"] == "cpu"


@pytest.mark.parametrize("body", [{}, {"model_path": "/etc/passwd"}, {"model": "sd16"}])
def test_loading_what_is_no_model(client: OldClient, daemon: StandIn, body: dict[str, str]):
    text = is_json_error(client.json("/api/model/load", body), 400, "unknown_model")
    assert "sd15, anime, triposr, matte" in text


def test_a_model_that_cannot_be_loaded(client: OldClient, daemon: StandIn, config: Config):
    where = config.data / "models" / "sd"
    daemon.load_failure = WeightsMismatch(f"{where} is no model").failure()
    text = is_json_error(client.json("/api/model/load", {"model": "sd15"}), 500)
    assert "data/models/sd is no model" in text
    assert str(config.data) not in text


def test_loading_without_a_daemon(client: OldClient, config: Config):
    for path in ("/api/model/load?model=sd15", "/api/triposr/load"):
        answer = client.request("POST", path)
        is_json_error(answer, 503, "daemon_not_running")
        assert int(answer.headers["Retry-After"]) > 0
    assert rows(config) == []


def test_loading_when_the_daemon_ends_meanwhile(
    client: OldClient, config: Config, impatient: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(StandIn, "_load_models", lambda *_: None)
    answers: list[Any] = []
    stand_in = StandIn(config)
    with stand_in.running():
        thread = threading.Thread(
            target=lambda: answers.append(client.json("/api/model/load", {"model": "sd15"}))
        )
        thread.start()
        wait_for(config.ledger_path.exists)
        with closing(Queries(config.ledger_path)) as queries:
            wait_for(queries.has_requested_loads)
    thread.join()
    is_json_error(answers[0], 503, "daemon_not_running")
    with closing(Queries(config.ledger_path)) as queries:
        assert not queries.has_requested_loads()


def test_the_chunk_size_is_kept(client: OldClient, config: Config, daemon: StandIn):
    answer = client.json("/api/triposr/load", {"chunk_size": 4096})
    assert answer.status == 200, answer.body
    assert answer.json["chunk_size"] == 4096
    assert answer.json["model_name"] == "triposr"
    job = client.form("/api/jobs/triposr", {}, image=PICTURE).json["job_id"]
    assert params(config, job)["chunk_size"] == 4096
    job = client.form("/api/jobs/triposr", {"chunk_size": "0"}, image=PICTURE).json["job_id"]
    assert params(config, job)["chunk_size"] == 0
    is_json_error(client.json("/api/triposr/load", {"chunk_size": -1}), 422)
    assert client.request("POST", "/api/triposr/load").json["chunk_size"] == 4096


# --- img2img ---


def test_img2img(client: OldClient, config: Config, daemon: StandIn):
    fields = {
        "positive_prompt": "a {clay} fox, 100%", "negative_prompt": "", "seed": "7", "steps": "9",
        "cfg": "6.5", "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": "0.5",
    }  # fmt: skip
    answer = client.form("/api/img2img", fields, image=PICTURE)
    assert answer.status == 200, answer.body
    body = answer.json
    assert body["image"].startswith("data:image/png;base64,")
    assert (
        base64.b64decode(body["image"].partition(",")[2]) == f"image of {body['job_id']}".encode()
    )
    assert (body["seed"], body["width"], body["height"]) == (7, 64, 48)
    assert re.fullmatch(r"/data/output/img2img_\d{11,}_7\.png", body["output_path"])
    assert body["warnings"] == ["as it came"]
    row = job_row(config, body["job_id"])
    assert row["pipeline"] == "restyle"
    assert row["priority"] == 100
    wanted = {
        "prompt": "a {clay} fox, 100%", "negative_prompt": "", "seed": 7, "steps": 9,
        "guidance_scale": 6.5, "sampler": "dpmpp_2m", "schedule": "karras", "strength": 0.5,
        "max_size": 768,
    }  # fmt: skip
    assert wanted.items() <= params(config, body["job_id"]).items()
    file = client.get(body["output_path"])
    assert file.body == f"image of {body['job_id']}".encode()
    assert file.headers["Content-Type"] == "image/png"


def test_our_own_names(client: OldClient, config: Config, daemon: StandIn):
    fields = {
        "prompt": "a fox", "guidance_scale": 3, "sampler": "euler_a", "schedule": "normal",
        "strength": 1, "max_size": 512, "steps": "20.0", "mark_prompt": "on",
        "loras": '{"clay": 0.5}', "colour": "red",
    }  # fmt: skip
    job = client.form("/api/jobs/img2img", fields, image=PICTURE)
    assert job.status == 200, job.body
    assert job.json["status"] == "queued"
    assert "'colour' is not known" in job.json["warnings"][0]
    wanted = {
        "prompt": "a fox", "guidance_scale": 3.0, "sampler": "euler_a", "strength": 1.0,
        "max_size": 512, "steps": 20, "mark_prompt": True, "loras": {"clay": 0.5},
    }  # fmt: skip
    assert wanted.items() <= params(config, job.json["job_id"]).items()
    assert job_row(config, job.json["job_id"])["priority"] == 0


def test_empty_fields_are_as_if_not_sent(client: OldClient, config: Config, daemon: StandIn):
    fields = dict.fromkeys(("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"), "")
    job = client.form("/api/jobs/img2img", fields, image=PICTURE).json["job_id"]
    wanted = {"seed": 42, "steps": 12, "guidance_scale": 7.5, "sampler": "euler"}
    assert wanted.items() <= params(config, job).items()


@pytest.mark.parametrize("form", ["multipart", "urlencoded", "json", "data_url", "file"])
def test_base64(client: OldClient, daemon: StandIn, form: str):
    text = base64.b64encode(PICTURE).decode()
    url = f"data:image/png;base64,{text}"
    path, more = "/api/img2img/base64", {"seed": 3, "steps": 4}
    answer = {
        "multipart": lambda: client.form(path, {"image": text, **more}),
        "urlencoded": lambda: client.urlencoded(path, {"image": text, **more}),
        "json": lambda: client.json(path, {"image": url, **more}),
        "data_url": lambda: client.form(path, {"image": url, **more}),
        "file": lambda: client.form(path, more, image=url.encode()),
    }[form]()
    assert answer.status == 200, answer.body
    assert answer.json["seed"] == 3


def test_a_field_of_twenty_megabytes(client: OldClient, config: Config, daemon: StandIn):
    large = picture((2400, 2400))
    text = base64.b64encode(large).decode()
    assert len(text) > 20 << 20
    answer = client.form("/api/img2img/base64", {"image": text, "steps": 4})
    assert answer.status == 200, answer.body[:300]
    drop = job_row(config, answer.json["job_id"])["drop"]
    assert (drop["bytes"], drop["width"]) == (len(large), 2400)


def test_base64_may_lack_padding_and_have_breaks(client: OldClient, daemon: StandIn):
    text = base64.b64encode(PICTURE).decode().rstrip("=")
    lines = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    assert client.form("/api/jobs/img2img", {"image": lines}).status == 200
    spaced = text.replace("+", " ")
    assert client.form("/api/jobs/img2img", {"image": spaced}).status == 200


def test_a_mask(client: OldClient, config: Config, daemon: StandIn):
    mask = picture()
    answer = client.form("/api/jobs/img2img", {"mask_blur": 2}, image=PICTURE, mask=mask)
    assert answer.status == 200, answer.body
    job = answer.json["job_id"]
    assert params(config, job)["mask"] == "file"
    assert job_row(config, job)["drop"]["companions"]
    url = f"data:image/png;base64,{base64.b64encode(mask).decode()}"
    answer = client.form("/api/jobs/img2img", {"mask": url}, image=PICTURE)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"steps": "many"}, "steps"), ({"steps": 0}, "steps"), ({"steps": 2000}, "steps"),
        ({"denoise": 1.5}, "denoise"), ({"denoise": "nan"}, "denoise"), ({"cfg": "inf"}, "cfg"),
        ({"sampler_name": "magic"}, "sampler_name"), ({"scheduler": "magic"}, "scheduler"),
        ({"seed": 2**63}, "seed"), ({"seed": "1.5"}, "seed"), ({"mark_prompt": "x"}, "mark_prompt"),
        ({"cfg": 1, "guidance_scale": 2}, "guidance_scale"), ({"loras": "clay"}, "loras"),
        ({"model": "nobody"}, "model"),
        ({"positive_prompt": "__no_such_file__"}, "positive_prompt"),
        ({"steps": 1, "denoise": 0.1}, "steps"),
        ({"mask": "file"}, "mask"), ({"mask": "/etc/passwd.png"}, "mask"),
    ],
)  # fmt: skip
def test_wrong_fields(
    client: OldClient, config: Config, daemon: StandIn, fields: dict[str, Any], name: str
):
    for path in ("/api/img2img", "/api/jobs/img2img", "/api/img2img/stream"):
        answer = client.form(path, fields, image=PICTURE)
        is_json_error(answer, 422)
        (first, *_) = answer.json["detail"]
        assert first["loc"][0] == "body"
        assert name in first["loc"][-1]
        assert first["msg"] and first["type"]
    assert rows(config) == []


def test_a_missing_image(client: OldClient, daemon: StandIn):
    for path in ("/api/img2img", "/api/img2img/base64", "/api/triposr", "/api/jobs/triposr"):
        answer = client.form(path, {"seed": 1})
        is_json_error(answer, 422)
        assert answer.json["detail"][0]["loc"] == ["body", "image"]
        assert answer.json["detail"][0]["type"] == "missing"
        is_json_error(client.request("POST", path), 422)


@pytest.mark.parametrize("data", [b"", b"no image", PICTURE[:200], b"<svg/>"])
def test_an_unreadable_image(client: OldClient, config: Config, daemon: StandIn, data: bytes):
    text = is_json_error(client.form("/api/img2img", {}, image=data), 400)
    assert str(config.data) not in text
    assert rows(config) == []
    assert not [path for path in config.claims.rglob("*") if path.is_file()]


def test_what_is_no_base64_and_no_json(client: OldClient, daemon: StandIn):
    is_json_error(client.form("/api/img2img/base64", {"image": "%%%"}), 400)
    for body in (b"{", b"[1]", b"\xff", b"[" * 100_000):
        answer = client.request(
            "POST", "/api/img2img/base64", body, {"Content-Type": "application/json"}
        )
        is_json_error(answer, 400)
    answer = client.request(
        "POST", "/api/img2img", b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert answer.status in (400, 422)


def test_text_that_utf_8_cannot_hold(client: OldClient, daemon: StandIn):
    image = base64.b64encode(PICTURE).decode()
    body = json.dumps({"image": image, "prompt": "\ud800"}).encode()
    answer = client.request("POST", "/api/jobs/img2img", body, {"Content-Type": "application/json"})
    is_json_error(answer, 422)
    answer = client.json("/api/jobs/img2img", {"image": image, "sampler": "\ud800"})
    is_json_error(answer, 422)


def test_a_senders_name_is_no_path(client: OldClient, config: Config, daemon: StandIn):
    body, kind = multipart({}, {"image": PICTURE})
    body = body.replace(b'filename="image.png"', b'filename="..\\\\..\\\\../../etc/cat\\".png"')
    job = client.request("POST", "/api/jobs/img2img", body, {"Content-Type": kind}).json["job_id"]
    assert job_row(config, job)["name"].startswith("cat")


def test_a_failure_of_the_model_and_one_of_the_input(
    client: OldClient, daemon: StandIn, config: Config
):
    daemon.fails = lambda _: BlackImage("all black").failure()
    answer = client.form("/api/img2img", {}, image=PICTURE)
    assert "all black" in is_json_error(answer, 500, "black_image")
    daemon.fails = lambda _: EmptyForeground("0% is left").failure()
    answer = client.form("/api/triposr", {}, image=PICTURE)
    is_json_error(answer, 422, "empty_foreground")
    job = client.get(f"/api/jobs/{answer.json['job_id']}").json
    assert job["status"] == "failed"
    assert "0% is left" in job["error"]
    assert job["error_code"] == "empty_foreground"
    assert job["result"] is None


def test_the_stream(client: OldClient, daemon: StandIn):
    daemon.steps = 3
    events = client.stream("/api/img2img/stream", {"seed": 5}, image=PICTURE)
    names = [name for name, _ in events]
    assert names[-1] == "complete"
    assert set(names[:-1]) == {"progress"}
    last = events[-2][1]
    assert (last["step"], last["steps"], last["total"], last["progress"]) == (3, 3, 3, 1.0)
    complete = events[-1][1]
    assert complete["image"].startswith("data:image/png;base64,")
    assert complete["seed"] == 5
    assert complete["output_path"].startswith("/data/output/img2img_")


def test_the_stream_of_a_job_that_is_faster_than_a_look(client: OldClient, daemon: StandIn):
    daemon.steps = 0
    events = client.stream("/api/img2img/stream", {}, image=PICTURE)
    assert [name for name, _ in events] == ["progress", "complete"]


def test_the_stream_of_a_job_that_fails(client: OldClient, daemon: StandIn):
    daemon.fails = lambda _: BlackImage("all black").failure()
    *_, (name, data) = client.stream("/api/img2img/stream", {}, image=PICTURE)
    assert name == "error"
    assert data["code"] == "black_image"
    assert "all black" in data["detail"]


# --- meshes ---


def test_triposr(client: OldClient, config: Config, daemon: StandIn):
    fields = {
        "remove_background": "true", "foreground_ratio": "0.8", "mc_resolution": "64",
        "chunk_size": "2048", "bake_texture": "false", "texture_resolution": "1024",
        "render_video": "true", "render_n_views": "12", "render_resolution": "128",
    }  # fmt: skip
    answer = client.form("/api/triposr", fields, image=PICTURE)
    assert answer.status == 200, answer.body
    body = answer.json
    job = body["job_id"]
    stem = rf"/data/output/mesh_\d{{10}}_{job[:8]}"
    for key, suffix in (("mesh_url", "glb"), ("preview_url", "png"), ("video_url", "mp4")):
        assert re.fullmatch(rf"{stem}\.{suffix}", body[key])
        assert client.get(body[key]).body.endswith(job.encode())
    assert (body["vertices"], body["faces"]) == (8, 12)
    assert (body["scale"], body["origin"]) == (None, None)
    wanted = {
        "foreground_ratio": 0.8, "resolution": 64, "chunk_size": 2048, "bake_texture": False,
        "texture_resolution": 1024, "turntable": "mesh", "turntable_views": 12,
        "turntable_size": 128, "scale": None, "origin": None,
    }  # fmt: skip
    assert wanted.items() <= params(config, job).items()
    assert job_row(config, job)["pipeline"] == "mesh"
    types = [stage["type"] for stage in job_row(config, job)["stages"]]
    assert types == ["remove_background", "triposr"]


@pytest.mark.parametrize("no", ["false", "0", "off", "False"])
def test_the_background_stays_if_so_wished(
    client: OldClient, config: Config, daemon: StandIn, no: str
):
    fields = {"remove_background": no, "scale": 2, "origin": "base"}
    answer = client.form("/api/triposr", fields, image=PICTURE)
    assert answer.status == 200, answer.body
    row = job_row(config, answer.json["job_id"])
    assert [stage["type"] for stage in row["stages"]] == ["triposr"]
    assert (answer.json["scale"], answer.json["origin"]) == (2.0, "base")
    assert answer.json["video_url"] is None
    is_json_error(client.form("/api/triposr", {"remove_background": "x"}, image=PICTURE), 422)


# --- jobs ---


def test_a_job_to_its_end(client: OldClient, config: Config, daemon: StandIn):
    daemon.gate.clear()
    first = client.form("/api/jobs/img2img", {"seed": 8}, image=PICTURE).json
    assert set(first) == {"job_id", "status"}
    job = client.get(f"/api/jobs/{first['job_id']}").json
    assert (job["status"], job["progress"], job["result"], job["error"]) == (
        "queued",
        0,
        None,
        None,
    )
    daemon.gate.set()
    done = wait_for(
        lambda: (
            (j := client.get(f"/api/jobs/{first['job_id']}").json)["status"] == "completed" and j
        )
    )
    assert done["progress"] == 1
    assert done["result"]["image"].startswith("data:image/png;base64,")
    assert done["result"]["seed"] == 8
    assert client.get(done["result"]["output_path"]).status == 200
    mesh = client.form("/api/jobs/triposr", {}, image=PICTURE).json["job_id"]
    done = wait_for(
        lambda: (j := client.get(f"/api/jobs/{mesh}").json)["status"] == "completed" and j
    )
    assert done["result"]["mesh_url"].startswith("/data/output/mesh_")
    assert done["type"] == "triposr"


def test_the_progress_of_a_job(client: OldClient, daemon: StandIn):
    daemon.steps = 8
    job = client.form("/api/jobs/img2img", {}, image=PICTURE).json["job_id"]
    seen = wait_for(
        lambda: (j := client.get(f"/api/jobs/{job}").json)["progress"] not in (0, 1) and j
    )
    assert seen["status"] == "running"
    assert 0 < seen["progress"] <= 1
    assert seen["steps"] == 8
    assert client.request("POST", f"/api/jobs/{job}/cancel").json["cancel_requested"] is True
    wait_for(lambda: client.get(f"/api/jobs/{job}").json["status"] == "cancelled")


def test_the_events_of_a_job(client: OldClient, config: Config, daemon: StandIn):
    job = client.form("/api/jobs/img2img", {}, image=PICTURE).json["job_id"]
    live = client.events(f"/api/jobs/{job}/events")
    names = [name for name, _ in live]
    assert names[0] == "queued"
    assert names[-1] == "completed"
    assert "started" in names
    assert live[-1][1]["result"]["output_path"].startswith("/data/output/img2img_")
    later = client.events(f"/api/jobs/{job}/events")
    assert [name for name, _ in later] == ["queued", "started", "completed"]


def test_the_events_of_a_job_that_ended_long_ago(
    client: OldClient, config: Config, daemon: StandIn
):
    job = client.form("/api/img2img", {}, image=PICTURE).json["job_id"]
    with closing(Ledger(config.ledger_path)) as ledger:
        ledger.transact(lambda s: s.connection().exec_driver_sql("DELETE FROM events"))
    ((name, data),) = client.events(f"/api/jobs/{job}/events")
    assert name == "completed"
    assert data["result"]["image"]


def test_events_after_a_number(client: OldClient, daemon: StandIn):
    job = client.form("/api/img2img", {}, image=PICTURE).json["job_id"]
    path = f"/api/jobs/{job}/events"
    ids = [int(n) for n in re.findall(rb"^id: (\d+)$", client.get(path).body, re.MULTILINE)]
    assert len(ids) == 3
    rest = client.get(path, **{"Last-Event-ID": str(ids[1])}).body
    assert rest.startswith(f"id: {ids[2]}\nevent: completed\n".encode())
    assert client.get(path, **{"Last-Event-ID": str(ids[2])}).status == 204


def test_cancelling(client: OldClient, config: Config, daemon: StandIn):
    daemon.gate.clear()
    job = client.form("/api/jobs/img2img", {}, image=PICTURE).json["job_id"]
    answer = client.request("POST", f"/api/jobs/{job}/cancel")
    assert answer.json == {"job_id": job, "status": "cancelled", "cancel_requested": True}
    assert [name for name, _ in client.events(f"/api/jobs/{job}/events")][-1] == "cancelled"
    assert client.request("POST", f"/api/jobs/{job}/cancel").json["status"] == "cancelled"
    assert client.get(f"/api/jobs/{job}").json["error_code"] == "cancelled"


@pytest.mark.parametrize("name", ["nothing", "0" * 32, "..%2f..", "%00", "a" * 5000, "%ff"])
def test_no_such_job(client: OldClient, name: str):
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
        assert client.request(method, f"/api/jobs/{name}{path}").status == 404


# --- files ---


def test_files_by_their_old_names(client: OldClient, config: Config, daemon: StandIn):
    path = client.form("/api/img2img", {"seed": 7}, image=PICTURE).json["output_path"]
    head = client.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    part = client.get(path, Range="bytes=0-4")
    assert (part.status, part.body) == (206, b"image")
    assert part.headers["X-Content-Type-Options"] == "nosniff"
    digits = int(re.findall(r"img2img_(\d+)_", path)[0])
    for wrong in (
        path.replace("_7.png", "_8.png"), path.replace(".png", ".jpg"), path.upper(),
        path.replace(str(digits), str(digits + 1)), path.replace("img2img_1", "img2img_2"),
        path + "%00", "/data/output/", "/data/output/..%2f..%2fpipeline.yaml",
        "/data/output/mesh_1764547200_00000000.glb", "/data/output/manifest.json",
    ):  # fmt: skip
        assert client.get(wrong).status in (404, 307), wrong


def test_a_result_that_somebody_took_away(client: OldClient, config: Config, daemon: StandIn):
    body = client.form("/api/img2img", {}, image=PICTURE).json
    for found in config.outbox.rglob("image.png"):
        found.unlink()
    assert client.get(body["output_path"]).status == 404
    job = client.get(f"/api/jobs/{body['job_id']}")
    assert job.status == 200
    assert job.json["status"] == "completed"
    assert job.json["result"]["warnings"]


# --- what is in the way ---


def test_without_a_daemon(client: OldClient, config: Config):
    for path in ("/api/img2img", "/api/triposr", "/api/img2img/stream"):
        answer = client.form(path, {}, image=PICTURE)
        is_json_error(answer, 503, "daemon_not_running")
        assert int(answer.headers["Retry-After"]) > 0
    assert rows(config) == []
    job = client.form("/api/jobs/img2img", {}, image=PICTURE)
    assert job.status == 200, job.body
    with StandIn(config).running():
        wait_for(lambda: client.get(f"/api/jobs/{job.json['job_id']}").json["result"])


def test_a_paused_queue(client: OldClient, config: Config, daemon: StandIn):
    control.pause(config, None)
    answer = client.form("/api/img2img", {}, image=PICTURE)
    assert "dna-pipeline resume" in is_json_error(answer, 503, "paused")
    assert int(answer.headers["Retry-After"]) > 0
    assert rows(config) == []
    control.resume(config, None)
    assert client.form("/api/img2img", {}, image=PICTURE).status == 200


def test_a_hold_that_comes_while_a_client_waits(
    client: OldClient, config: Config, daemon: StandIn, impatient: None
):
    daemon.gate.clear()
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.form("/api/img2img", {}, image=PICTURE))
    )
    thread.start()
    job = wait_for(lambda: rows(config))[0]["id"]
    why = f"model 'sd15': {config.data}/models/sd is not there"
    with closing(Ledger(config.ledger_path)) as ledger:
        ledger.transact(lambda s: holds.hold(s, job, "weights_missing", why))
    thread.join()
    text = is_json_error(answers[0], 503, "weights_missing")
    assert "data/models/sd is not there" in text
    assert str(config.data) not in text
    daemon.gate.set()
    wait_for(lambda: rows(config)[0]["publish"] == "done")
    assert rows(config)[0]["status"] == "cancelled"
    assert daemon.ran == []


def test_a_daemon_that_is_replaced_while_a_client_waits(
    client: OldClient, config: Config, monkeypatch: pytest.MonkeyPatch
):
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.form("/api/img2img", {}, image=PICTURE))
    )
    first = StandIn(config)
    first.steps = 100
    with first.running():
        thread.start()
        wait_for(lambda: first.ran)
    time.sleep(1)
    second = StandIn(config)
    with second.running():
        thread.join()
    assert answers[0].status == 200, answers[0].body
    assert second.ran == first.ran
    assert len(rows(config)) == 1


def test_a_daemon_that_does_not_come_back(client: OldClient, config: Config, impatient: None):
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(client.form("/api/img2img", {}, image=PICTURE))
    )
    first = StandIn(config)
    first.steps = 100
    with first.running():
        thread.start()
        wait_for(lambda: first.ran)
    thread.join()
    is_json_error(answers[0], 503, "daemon_not_running")
    with StandIn(config).running() as second:
        wait_for(lambda: rows(config)[0]["publish"] == "done")
        assert rows(config)[0]["status"] == "cancelled"
        assert second.ran == []


def test_a_client_that_goes_away(client: OldClient, config: Config, daemon: StandIn):
    daemon.gate.clear()
    body, kind = multipart({}, {"image": PICTURE})
    host, _, port = client.base.removeprefix("http://").partition(":")
    head = (
        f"POST /api/img2img HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        wait_for(lambda: rows(config))
    daemon.gate.set()
    wait_for(lambda: rows(config)[0]["publish"] == "done")
    assert rows(config)[0]["status"] == "completed"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
    time.sleep(0.3)
    assert len(rows(config)) == 1


def test_the_pipelines_of_serve(config: Config):
    """A picture is asked for, so the answer is one, whatever else the pipeline makes."""
    text = config.file.read_text()
    config.file.write_text(f"{text}serve: {{img2img: restyle_to_mesh, triposr: restyle_to_mesh}}\n")
    config = load_config(config.file, {})
    with served(config) as address, StandIn(config).running():
        client = OldClient(address)
        answer = client.form("/api/img2img", {"seed": 4}, image=PICTURE)
        assert answer.status == 200, answer.body
        body = answer.json
        assert job_row(config, body["job_id"])["pipeline"] == "restyle_to_mesh"
        name = f"image of {body['job_id']}".encode()
        assert base64.b64decode(body["image"].partition(",")[2]) == name
        assert client.get(body["output_path"]).body == name
        assert client.get(f"/api/jobs/{body['job_id']}").json["result"]["image"] == body["image"]
        mesh = client.form("/api/triposr", {"remove_background": 0}, image=PICTURE).json
        assert mesh["mesh_url"]
        stages = [stage["type"] for stage in job_row(config, mesh["job_id"])["stages"]]
        assert stages == ["img2img", "triposr"]


def test_a_configuration_without_such_pipelines(tmp_path: Path, quiet: None):
    (tmp_path / "pipeline.yaml").write_text(
        "version: 1\nmodels: {m: {provider: border_key}}\n"
        "pipelines: {cut: [{remove_background: {}}]}\n"
    )
    with served(load_config(tmp_path / "pipeline.yaml", {})) as address:
        client = OldClient(address)
        for path in ("/api/img2img", "/api/triposr", "/api/jobs/triposr"):
            assert "serve: {" in is_json_error(
                client.form(path, {}, image=PICTURE), 400, "no_pipeline"
            )
        assert client.get("/api/health").json["model_loaded"] is False
        assert client.get("/api/model/info").json["model_name"] is None
