"""The API of AUTOMATIC1111's web UI over HTTP, with a daemon that computes nothing."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image, PngImagePlugin

from dna_pipeline.base.errors import BlackImage, OutOfMemory
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web import waiting
from dna_pipeline.ledger import holds
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations import control
from dna_pipeline.operations.submit import Submission, submit_all
from tests.web_server import StandIn, served

pytestmark = pytest.mark.slow

CONFIG = """\
version: 1
models:
  sd15: {{provider: diffusers, path: {models}/sd-v1-5-local}}
  gone: {{provider: diffusers, path: models/gone}}
  matte: {{provider: border_key}}
pipelines:
  cut: [{{remove_background: {{}}}}]
  restyle: [{{img2img: {{model: sd15, steps: 12, mask: file}}}}]
"""
TEXT = "a cat\nNegative prompt: a dog\nSteps: 12, Sampler: LMS, Seed: 7, Size: 64x48, Model: sd15"


def png(size: tuple[int, int] = (64, 48), colour: str = "red", text: str = "") -> bytes:
    out = io.BytesIO()
    texts = PngImagePlugin.PngInfo()
    if text:
        texts.add_itxt("parameters", text)
    Image.new("RGB", size, colour).save(out, "PNG", pnginfo=texts)
    return out.getvalue()


PICTURE = base64.b64encode(png()).decode()
JSON = {"Content-Type": "application/json"}
MASK = base64.b64encode(png(colour="white")).decode()


@pytest.fixture
def config(tmp_path: Path, models_dir: Path, quiet: None) -> Config:
    (tmp_path / "pipeline.yaml").write_text(CONFIG.format(models=models_dir))
    (tmp_path / "outbox").mkdir()
    return load_config(tmp_path / "pipeline.yaml", {})


@pytest.fixture
def api(config: Config) -> Iterator[httpx2.Client]:
    with served(config) as address, httpx2.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture
def daemon(config: Config) -> Iterator[StandIn]:
    stand_in = StandIn(config)
    stand_in.steps = 1
    stand_in.data_of = lambda job, role: png(text=TEXT)
    with stand_in.running():
        yield stand_in


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HOLD_GRACE_S", 0.2), ("DAEMON_GRACE_S", 0.6), ("LOOK_S", 0.1)):
        monkeypatch.setattr(waiting, name, value)


def rows(config: Config) -> list[dict[str, Any]]:
    if not config.ledger_path.exists():
        return []
    with closing(Queries(config.ledger_path)) as queries:
        return [queries.job(job["id"]) for job in queries.jobs()]


def wait_for(predicate: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := predicate()):
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)
    return value


def img2img(api: httpx2.Client, **values: Any) -> httpx2.Response:
    return api.post("/sdapi/v1/img2img", json={"init_images": [PICTURE], **values})


class InBackground:
    """A request that goes on while the test looks at something else."""

    def __init__(self, api: httpx2.Client, **values: Any) -> None:
        self._answers: list[httpx2.Response] = []
        self._thread = threading.Thread(target=lambda: self._answers.append(img2img(api, **values)))
        self._thread.start()

    def answer(self) -> httpx2.Response:
        self._thread.join(60)
        return self._answers[0]


def fault(answer: httpx2.Response, status: int, code: str) -> str:
    """Checks the shape of an error; gives its sentence."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "detail", "body", "errors"}
    assert (body["error"], body["body"]) == (code, "")
    assert isinstance(body["detail"], str) and body["detail"] and body["errors"]
    return body["detail"]


# --- pictures ---


def test_a_picture(api: httpx2.Client, config: Config, daemon: StandIn):
    answer = img2img(
        api, prompt="a {cat}", negative_prompt="a dog", seed=7, sampler_name="LMS", steps=12,
        width=64, height=48, foo={"a": [1]}, sampler="LMS",
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert [base64.b64decode(each) for each in body["images"]] == [png(text=TEXT)]
    parameters = body["parameters"]
    assert parameters["init_images"] is None and parameters["mask"] is None
    assert (parameters["prompt"], parameters["seed"]) == ("a {cat}", 7)
    assert parameters["foo"] == {"a": [1]}
    info = json.loads(body["info"])
    assert info["infotexts"] == [TEXT]
    assert (info["prompt"], info["all_prompts"]) == ("a {cat}", ["a {cat}"])
    assert (info["seed"], info["all_seeds"], info["width"], info["height"]) == (7, [7], 64, 48)
    assert (info["sampler_name"], info["steps"], info["clip_skip"]) == ("LMS", 12, 1)
    assert (info["denoising_strength"], info["cfg_scale"]) == (0.75, 7.5)
    assert re.fullmatch(r"\d{14}", info["job_timestamp"])
    assert info["warnings"] == ["as it came"]
    (job,) = rows(config)
    assert info["jobs"] == [job["id"]]
    assert (job["pipeline"], job["priority"], job["inbox"]) == ("restyle", 100, "submit")
    assert job["meta"]["sdapi"]["count"] == 1
    params = job["stages"][0]["params"]
    assert (params["size"], params["resize"], params["mask"]) == ("64x48", "stretch", "none")
    assert params["alpha"] == "white"


def test_several_pictures_have_several_seeds(api: httpx2.Client, daemon: StandIn, config: Config):
    answer = img2img(api, seed=10, batch_size=2, n_iter=2, include_init_images=True).json()
    info = json.loads(answer["info"])
    assert len(answer["images"]) == len(info["infotexts"]) == 4
    assert (info["all_seeds"], info["batch_size"]) == ([10, 11, 12, 13], 2)
    assert answer["parameters"]["init_images"] == [PICTURE]
    marks = [job["meta"]["sdapi"] for job in reversed(rows(config))]
    assert [mark["number"] for mark in marks] == [0, 1, 2, 3]
    assert len({mark["request"] for mark in marks}) == 1


def test_several_init_images_and_a_mask(api: httpx2.Client, daemon: StandIn, config: Config):
    blue = base64.b64encode(png(colour="blue")).decode()
    answer = img2img(api, init_images=[PICTURE, blue], mask=MASK, send_images=False)
    assert answer.json()["images"] == []
    assert len(json.loads(answer.json()["info"])["jobs"]) == 2
    second, first = rows(config)
    assert first["drop"]["sha256"] != second["drop"]["sha256"]
    assert [each["role"] for each in first["drop"]["companions"]] == ["mask"]
    assert first["stages"][0]["params"]["area"] == "masked"


def test_a_picture_of_20_mb(api: httpx2.Client, daemon: StandIn):
    noise = Image.effect_noise((4096, 4096), 90)
    out = io.BytesIO()
    Image.merge("RGB", [noise, noise.rotate(90), noise.rotate(180)]).resize((3000, 2600)).save(
        out, "PNG", compress_level=0
    )
    assert len(out.getvalue()) > 20_000_000
    answer = img2img(api, init_images=[base64.b64encode(out.getvalue()).decode()])
    assert answer.status_code == 200, answer.text[:500]


def test_text_of_strangers_does_no_harm(api: httpx2.Client, daemon: StandIn):
    text = "<script>alert(1)</script> {x} __y__ \x00\x1b[31m \ud800"
    body = json.dumps(
        {
            "init_images": [PICTURE], "prompt": text, "negative_prompt": text, "deep": [[[[1]]]],
            "number": float("nan"), "text": text,
            "<b>": text, "styles": [text[:-1]],
            "alwayson_scripts": {"<b>": {"args": [True, text]}},
        }
    )  # fmt: skip
    answer = api.post("/sdapi/v1/img2img", content=body, headers=JSON)
    assert answer.status_code == 200, answer.text
    assert answer.json()["parameters"]["number"] is None
    assert "<script>alert(1)</script> {x} __y__" in json.loads(answer.json()["info"])["prompt"]


# --- what is wrong ---


WRONG: list[tuple[dict[str, Any], int, str, str]] = [
    ({"init_images": []}, 422, "parameter_invalid", "at least one picture"),
    ({"init_images": ["no base64!"]}, 422, "image_unreadable", "init_images[0]"),
    ({"init_images": ["aGFsbG8="]}, 422, "image_unreadable", "too short for a picture"),
    ({"init_images": ["aGFsbG8h" * 9]}, 422, "image_unreadable", "cannot be read"),
    ({"init_images": [PICTURE, "aGFsbG8h" * 9]}, 422, "image_unreadable", "cannot be read"),
    ({"mask": "aGFsbG8h" * 9}, 422, "mask_unreadable", "mask"),
    ({"mask": "!"}, 422, "image_unreadable", "mask: that is no base64"),
    ({"init_images": ["http://169.254.169.254/"]}, 422, "parameter_invalid", "not fetched"),
    ({"steps": 0}, 422, "parameter_invalid", "steps: "),
    ({"steps": [1]}, 422, "parameter_invalid", "steps: "),
    ({"prompt": "a [cat:dog:0.5]"}, 422, "parameter_invalid", "[cat:dog:0.5]"),
    ({"prompt": "a" * 20_000}, 422, "parameter_invalid", "10,000"),
    ({"prompt": "<lora:gone:1>"}, 422, "unknown_lora", "LoRA 'gone' is not in data/models/"),
    ({"sampler_name": "x"}, 404, "sampler_not_found", "Sampler not found"),
    ({"sampler_name": "LCM", "steps": 60}, 422, "parameter_invalid", "at most 50 steps"),
    (
        {"override_settings": {"sd_model_checkpoint": "../../../etc/passwd"}},
        404, "unknown_model", "there is no checkpoint '../../../etc/passwd'",
    ),
    (
        {"override_settings": {"sd_model_checkpoint": "gone"}},
        404, "unknown_model", "no checkpoint 'gone'",
    ),
    ({"tiling": True}, 422, "parameter_invalid", "tiling: "),
    ({"script_name": "SD upscale"}, 422, "script_not_found", "SD upscale"),
    (
        {"alwayson_scripts": {"controlnet": {"args": [{"model": "canny"}]}}},
        422, "controlnet_not_supported", "ControlNet is not done here",
    ),
]  # fmt: skip


def test_what_is_refused(api: httpx2.Client, config: Config, daemon: StandIn):
    daemon.gate.clear()
    for values, status, code, said in WRONG:
        answer = img2img(api, **values)
        assert said in fault(answer, status, code)
        assert str(config.file.parent) not in answer.text
    assert {job["status"] for job in rows(config)} == {"cancelled"}


def test_bodies_that_are_no_request(api: httpx2.Client):
    for body in ("", "{", "[]", "5", "null", '{"a": 1}{', "[" * 5000, f'"{"x" * 100}"'):
        answer = api.post("/sdapi/v1/img2img", content=body, headers=JSON)
        assert answer.status_code in (400, 422)
        fault(answer, answer.status_code, answer.json()["error"])


@pytest.mark.parametrize(
    ("error", "code"), [(BlackImage, "black_image"), (OutOfMemory, "OutOfMemoryError")]
)
def test_a_job_that_fails(
    api: httpx2.Client, config: Config, daemon: StandIn, error: Any, code: str
):
    daemon.fails = lambda _: (daemon.gate.clear(), error("at step 3").failure())[1]
    detail = fault(img2img(api, n_iter=3), 422, code)
    assert detail == f"{error.sentence} at step 3"
    assert sorted(job["status"] for job in rows(config)) == ["cancelled", "cancelled", "failed"]


def test_a_wrong_request_is_told_so_without_a_daemon_too(api: httpx2.Client):
    fault(img2img(api, steps=0), 422, "parameter_invalid")
    fault(img2img(api, init_images=["x"]), 422, "image_unreadable")


def test_without_a_daemon(api: httpx2.Client, config: Config):
    answer = img2img(api)
    assert "dna-pipeline watch" in fault(answer, 503, "daemon_not_running")
    assert int(answer.headers["Retry-After"]) > 0
    assert rows(config) == []


def test_while_the_queue_is_paused(api: httpx2.Client, config: Config, daemon: StandIn):
    control.pause(config, None)
    answer = img2img(api)
    assert "paused" in fault(answer, 503, "paused")
    assert int(answer.headers["Retry-After"]) > 0
    assert rows(config) == []


def test_a_hold_that_comes_later_withdraws_all(
    api: httpx2.Client, config: Config, daemon: StandIn, impatient: None
):
    daemon.gate.clear()
    request = InBackground(api, n_iter=3)
    wait_for(lambda: len(rows(config)) == 3)
    with closing(Ledger(config.ledger_path)) as ledger:
        ids = [job["id"] for job in rows(config)]
        for job in ids:
            ledger.transact(lambda s, j=job: holds.hold(s, j, "disk_full", "the disk is full"))
    assert "the disk is full" in fault(request.answer(), 503, "disk_full")
    assert {job["status"] for job in rows(config)} == {"cancelled"}


def test_no_pipeline_redraws(tmp_path: Path, quiet: None):
    (tmp_path / "pipeline.yaml").write_text(
        "version: 1\nmodels: {matte: {provider: border_key}}\n"
        "pipelines: {cut: [{remove_background: {}}]}\n"
    )
    config = load_config(tmp_path / "pipeline.yaml", {})
    with served(config) as address, httpx2.Client(base_url=address) as api:
        assert "serve: {img2img: NAME}" in fault(img2img(api), 422, "no_pipeline")
        assert api.get("/sdapi/v1/options").json()["sd_model_checkpoint"] is None


# --- progress and interruption ---


def progress(api: httpx2.Client) -> dict[str, Any]:
    answer = api.get("/sdapi/v1/progress", params={"skip_current_image": "true"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_progress_of_nothing(api: httpx2.Client):
    idle = progress(api)
    assert (idle["progress"], idle["eta_relative"], idle["current_image"]) == (0, 0, None)
    assert (idle["state"]["job_count"], idle["state"]["job"]) == (0, "")
    assert api.post("/sdapi/v1/interrupt").json() == {}
    assert api.post("/sdapi/v1/skip").json() is None


def bulk(config: Config, number: int = 1) -> list[str]:
    """Jobs that came another way."""
    submissions = [
        (f"b{i}.png", Submission(f"b{i}.png", io.BytesIO(png(colour="green"))))
        for i in range(number)
    ]
    jobs, problems = submit_all(config, submissions, "cut", [])
    assert problems == []
    return jobs


def test_progress_of_a_request(api: httpx2.Client, config: Config, daemon: StandIn):
    daemon.steps = 4
    daemon.gate.clear()
    bulk(config, 2)
    assert progress(api)["state"]["job_count"] == 0
    request = InBackground(api, n_iter=2)
    waiting_ = wait_for(lambda: (p := progress(api))["state"]["job_count"] and p)
    assert waiting_["progress"] == 0.01
    assert waiting_["textinfo"] == "Waiting for its turn"
    wait_for(lambda: len(rows(config)) == 4)
    daemon.gate.set()
    looks: list[dict[str, Any]] = []
    while (look := progress(api))["state"]["job_count"]:
        looks.append(look)
        time.sleep(0.05)
    assert request.answer().status_code == 200
    values = [look["progress"] for look in looks]
    assert values == sorted(values) and values[0] > 0 and values[-1] > 0.5
    assert {look["state"]["job_count"] for look in looks[5:]} == {2}
    assert {look["state"]["job_no"] for look in looks[5:]} == {0, 1}
    assert {look["state"]["sampling_steps"] for look in looks} >= {4}
    assert any(look["eta_relative"] > 0 for look in looks)


def test_interrupt_cancels_the_own_request_alone(
    api: httpx2.Client, config: Config, daemon: StandIn
):
    daemon.gate.clear()
    others = bulk(config, 2)
    request = InBackground(api, n_iter=3)
    wait_for(lambda: len(rows(config)) == 5)
    assert api.post("/sdapi/v1/interrupt").json() == {}
    assert "cancelled" in fault(request.answer(), 409, "cancelled")
    states = {job["id"]: job["status"] for job in rows(config)}
    assert [states.pop(job) for job in others] == ["queued", "queued"]
    assert set(states.values()) == {"cancelled"}
    assert api.post("/sdapi/v1/interrupt").json() == {}
    assert {job["status"] for job in rows(config) if job["id"] in others} == {"queued"}


def test_pictures_that_were_finished_come_after_an_interruption(
    api: httpx2.Client, config: Config, daemon: StandIn
):
    daemon.gate.clear()
    request = InBackground(api, n_iter=3, seed=1)
    wait_for(lambda: len(rows(config)) == 3)
    daemon.data_of = lambda job, role: (daemon.gate.clear(), png(text=TEXT))[1]
    daemon.gate.set()  # for one job alone
    wait_for(lambda: [job["status"] for job in rows(config)].count("completed") == 1)
    api.post("/sdapi/v1/interrupt")
    body = request.answer().json()
    info = json.loads(body["info"])
    assert (len(body["images"]), info["all_seeds"]) == (1, [1])
    assert "2 of 3 pictures were cancelled." in info["warnings"]


def test_skip_goes_on_with_the_next_picture(api: httpx2.Client, config: Config, daemon: StandIn):
    daemon.steps = 40
    request = InBackground(api, n_iter=2, seed=1)
    wait_for(lambda: [job["status"] for job in rows(config)].count("running") == 1)
    daemon.steps = 1
    assert api.post("/sdapi/v1/skip").json() is None
    info = json.loads(request.answer().json()["info"])
    assert info["all_seeds"] == [2]


# --- options and lists ---


def test_options(api: httpx2.Client, config: Config):
    before = api.get("/sdapi/v1/options").json()
    assert before["sd_model_checkpoint"] == "sd-v1-5-local"
    assert (before["CLIP_stop_at_last_layers"], before["samples_format"]) == (1, "png")
    changes = {
        "sd_model_checkpoint": "SD15", "CLIP_stop_at_last_layers": 2, "samples_format": "webp",
        "inpainting_mask_weight": 0.5,
    }  # fmt: skip
    answer = api.post("/sdapi/v1/options", json=changes)
    assert (answer.status_code, answer.json()) == (200, None)
    after = api.get("/sdapi/v1/options").json()
    assert (after["CLIP_stop_at_last_layers"], after["samples_format"]) == (2, "webp")
    blank = dict.fromkeys(changes)
    assert api.post("/sdapi/v1/options", json=blank).status_code == 200
    assert api.get("/sdapi/v1/options").json() == before


WRONG_OPTIONS: list[tuple[Any, int]] = [
    ({"sd_model_checkpoint": "x.safetensors [0123456789]"}, 404),
    ({"sd_model_checkpoint": "../x"}, 404),
    ({"sd_model_checkpoint": {"a": 1}}, 404),
    ({"CLIP_stop_at_last_layers": 99, "samples_format": "webp"}, 422),
    ({"samples_format": "gif"}, 422),
    ([], 422),
    ("x", 422),
]


def test_options_that_are_wrong_change_nothing(api: httpx2.Client):
    before = api.get("/sdapi/v1/options").json()
    for options, status in WRONG_OPTIONS:
        answer = api.post("/sdapi/v1/options", json=options)
        fault(answer, status, answer.json()["error"])
    assert api.get("/sdapi/v1/options").json() == before


def test_options_count_for_later_requests(api: httpx2.Client, config: Config, daemon: StandIn):
    options = {"sd_model_checkpoint": "sd-v1-5-local", "CLIP_stop_at_last_layers": 2}
    assert api.post("/sdapi/v1/options", json=options).status_code == 200
    assert img2img(api).status_code == 200
    params = rows(config)[0]["stages"][0]["params"]
    assert (params["model"], params["clip_skip"]) == ("sd15", 2)


GETS = (
    "sd-models", "samplers", "schedulers", "loras", "embeddings", "upscalers",
    "latent-upscale-modes", "sd-vae", "hypernetworks", "face-restorers", "realesrgan-models",
    "prompt-styles", "scripts", "script-info", "cmd-flags", "memory", "progress", "options",
    "extensions",
)  # fmt: skip


def test_all_lists_answer_get_and_head(api: httpx2.Client, config: Config):
    for name in GETS:
        answer = api.get(f"/sdapi/v1/{name}")
        assert answer.status_code == 200, name
        assert str(config.file.parent) not in answer.text and str(Path.home()) not in answer.text
        head = api.head(f"/sdapi/v1/{name}")
        assert (head.status_code, head.content) == (200, b"")
    assert api.get("/internal/ping").json() == {}


def test_lists(api: httpx2.Client, config: Config):
    (checkpoint,) = api.get("/sdapi/v1/sd-models").json()
    assert checkpoint == {
        "title": "sd-v1-5-local", "model_name": "sd15", "hash": None, "sha256": None,
        "filename": "sd-v1-5-local", "config": None,
    }  # fmt: skip
    names = [sampler["name"] for sampler in api.get("/sdapi/v1/samplers").json()]
    assert {"Euler a", "DPM++ 2M", "LMS"} <= set(names)
    labels = [each["label"] for each in api.get("/sdapi/v1/schedulers").json()]
    assert labels == ["Automatic", "Normal", "Karras", "Exponential", "Beta"]
    for folder, name in (("loras/styles", "clay"), ("embeddings", "easy")):
        path = config.data / "models" / folder / f"{name}.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no tensors")
    (lora,) = api.get("/sdapi/v1/loras").json()
    assert (lora["name"], lora["alias"]) == ("styles/clay", "clay")
    assert lora["path"] == "styles/clay.safetensors"
    assert list(api.get("/sdapi/v1/embeddings").json()["skipped"]) == ["easy"]


def test_controlnet_is_not_there(api: httpx2.Client):
    assert api.get("/controlnet/version").json() == {"version": 0}
    assert api.get("/controlnet/model_list").json() == {"model_list": []}
    assert api.get("/controlnet/module_list?alias_names=1").json()["module_list"] == ["none"]
    assert api.get("/controlnet/control_types").json()["control_types"]["All"]["model_list"]


NOT_DONE = (
    "/sdapi/v1/txt2img", "/sdapi/v1/extra-single-image", "/sdapi/v1/extra-batch-images",
    "/sdapi/v1/interrogate", "/controlnet/detect", "/controlnet/img2img", "/controlnet/txt2img",
)  # fmt: skip


def test_what_is_not_done_is_said(api: httpx2.Client):
    for path in NOT_DONE:
        assert "here" in fault(api.post(path, json={"prompt": "a cat"}), 422, "not_implemented")
        assert api.post(path).status_code == 422


def test_what_happens_by_itself(api: httpx2.Client):
    for name in ("refresh-checkpoints", "refresh-loras", "refresh-vae", "unload-checkpoint",
                 "reload-checkpoint"):  # fmt: skip
        assert api.post(f"/sdapi/v1/{name}").status_code == 200


def test_png_info(api: httpx2.Client):
    picture = base64.b64encode(png(text=TEXT)).decode()
    body = api.post("/sdapi/v1/png-info", json={"image": f"data:image/png;base64,{picture}"}).json()
    assert body["info"] == TEXT
    assert body["parameters"]["Prompt"] == "a cat"
    assert body["parameters"]["Negative prompt"] == "a dog"
    assert (body["parameters"]["Seed"], body["parameters"]["Size"]) == ("7", "64x48")
    assert body["items"] == {}


def test_png_info_of_other_files(api: httpx2.Client):
    for data in (png(), b"\xff\xd8\xff\xe1\xff", b"RIFF1234WEBP", b"hello"):
        body = {"image": base64.b64encode(data + bytes(16)).decode()}
        answer = api.post("/sdapi/v1/png-info", json=body)
        assert answer.json() == {"info": "", "items": {}, "parameters": {}}
    fault(api.post("/sdapi/v1/png-info", json={"image": ""}), 422, "image_unreadable")


def test_every_answer_is_declared(api: httpx2.Client):
    document = api.get("/openapi.json").json()
    paths = {path: item for path, item in document["paths"].items() if "sdapi" in path}
    assert len(paths) > 25
    assert "/sdapi/v1/txt2img" not in paths
    schemas = document["components"]["schemas"]
    assert {"init_images", "alwayson_scripts"} <= schemas["Img2ImgRequest"]["properties"].keys()
    responses = paths["/sdapi/v1/img2img"]["post"]["responses"]
    assert set(responses) == {"200", "400", "404", "409", "422", "503"}
    for item in paths.values():
        for operation in item.values():
            assert operation["description"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    (content,) = response["content"].values()
                    assert content["schema"]["$ref"].endswith("/ErrorAnswer"), operation[
                        "operationId"
                    ]
