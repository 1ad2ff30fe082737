"""The API of AUTOMATIC1111's web UI with a daemon and small models, as real programs use it."""

from __future__ import annotations

import base64
import importlib
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from conftest import Studio, photograph
from PIL import Image, ImageDraw

from dna_pipeline.config.loader import load_config
from tests.web_server import served

pytestmark = pytest.mark.slow


@pytest.fixture
def api(studio: Studio) -> Iterator[httpx2.Client]:
    config = load_config(studio.root / "pipeline.yaml", {})
    with (
        studio.watch(),
        served(config) as address,
        httpx2.Client(base_url=address, timeout=120) as client,
    ):
        studio.wait(lambda: client.post("/sdapi/v1/img2img", json=BROKEN).status_code != 503)
        yield client


BROKEN = {"init_images": ["aaaa"]}


def encoded(image: Image.Image, head: str = "") -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return head + base64.b64encode(out.getvalue()).decode()


def pictures(answer: httpx2.Response) -> list[Image.Image]:
    assert answer.status_code == 200, answer.text
    images = [Image.open(io.BytesIO(base64.b64decode(one))) for one in answer.json()["images"]]
    for image in images:
        image.load()
    return images


def test_programs_that_redraw_pictures(studio: Studio, api: httpx2.Client):
    picture = photograph("astronaut")
    ai_render = {
        "prompt": "a <b>house</b>, {oil}", "negative_prompt": "ugly", "width": 128, "height": 96,
        "image_similarity": 0.4, "seed": 7, "cfg_scale": 7.0, "steps": 5, "sampler": "LMS",
        "denoising_strength": 0.6, "sampler_index": "LMS",
        "init_images": [encoded(picture, "data:image/png;base64,")],
    }  # fmt: skip
    agent = {"User-Agent": "Blender/4.2.0", "Accept": "*/*", "Accept-Encoding": "gzip, deflate, br"}
    answer = api.post("/sdapi/v1/img2img", json=ai_render, headers=agent)
    (image,) = pictures(answer)
    assert (image.size, image.mode) == ((128, 96), "RGB")
    info = json.loads(answer.json()["info"])
    assert (info["sampler_name"], info["seed"], info["warnings"]) == ("LMS", 7, [])
    assert (info["width"], info["height"], info["sd_model_name"]) == (128, 96, "sd15")
    assert info["infotexts"] == [image.info["parameters"]]
    assert info["infotexts"][0].startswith("a <b>house</b>, {oil}\nNegative prompt: ugly\nSteps: 5")
    again = pictures(api.post("/sdapi/v1/img2img", json=ai_render))[0]
    assert again.tobytes() == image.tobytes()

    told = api.post("/sdapi/v1/png-info", json={"image": answer.json()["images"][0]}).json()
    assert (told["info"], told["parameters"]["Seed"]) == (info["infotexts"][0], "7")

    (checkpoint,) = api.get("/sdapi/v1/sd-models").json()
    assert checkpoint["hash"] == info["sd_model_hash"] is not None  # since a job has used it
    title = {"sd_model_checkpoint": checkpoint["title"]}
    assert api.post("/sdapi/v1/options", json=title).json() is None

    sd_connect = {
        "init_images": [encoded(picture)], "prompt": "a", "negative_prompt": "", "seed": -1,
        "steps": 4, "cfg_scale": 7.0, "sampler_name": "DPM++ 2M", "denoising_strength": 0.75,
        "width": 192, "height": 108, "override_settings": title,
        "alwayson_scripts": {"controlnet": {"args": [
            {"image": encoded(picture), "module": "None", "model": "", "weight": 1.0},
        ]}},
    }  # fmt: skip
    (image,) = pictures(api.post("/sdapi/v1/img2img", json=sd_connect))
    assert image.size == (192, 108)
    assert "Sampler: DPM++ 2M, Schedule type: Karras" in image.info["parameters"]


def test_a_program_that_repaints_a_part(api: httpx2.Client):
    picture = photograph("coffee")
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).ellipse((40, 30, 90, 80), fill=255)
    gimpfusion = {
        "mask": encoded(mask), "inpaint_full_res": True, "inpaint_full_res_padding": 10,
        "inpainting_mask_invert": 0, "resize_mode": 0, "init_images": [encoded(picture)],
        "prompt": "a spoon", "negative_prompt": "", "denoising_strength": 0.8, "steps": 4,
        "cfg_scale": 7.5, "width": 128, "height": 128, "sampler_index": "Euler a", "batch_size": 2,
        "seed": -1, "mask_blur": 0,
    }  # fmt: skip
    answer = api.post("/sdapi/v1/img2img", json=gimpfusion)
    first, second = pictures(answer)
    assert first.size == second.size == picture.size
    outside = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(first)[outside], np.asarray(picture)[outside])
    assert not np.array_equal(np.asarray(first), np.asarray(second))
    info = json.loads(answer.json()["info"])
    assert info["all_seeds"][1] == info["all_seeds"][0] + 1
    whole = gimpfusion | {"inpaint_full_res": False, "batch_size": 1, "resize_mode": 1}
    (image,) = pictures(api.post("/sdapi/v1/img2img", json=whole))
    assert image.size == (128, 128)


def test_the_package_webuiapi(api: httpx2.Client, lacking: Callable[[str], None]):
    try:
        webuiapi: Any = importlib.import_module("webuiapi")
    except ModuleNotFoundError:
        lacking("the package webuiapi is not there; `pip install webuiapi`")
        return
    client = webuiapi.WebUIApi(host=api.base_url.host, port=api.base_url.port)
    picture = photograph("chelsea")
    result = client.img2img(images=[picture], prompt="a cat", width=128, height=128, steps=4)
    assert result.image.size == (128, 128)
    assert result.info["sampler_name"] == "Euler a"
    assert result.parameters["prompt"] == "a cat"
    mask = Image.new("RGB", picture.size, "white")
    inner = client.img2img(images=[picture], mask_image=mask, prompt="a cat", width=64, steps=4)
    assert inner.image.size == picture.size
    unit = webuiapi.ControlNetUnit(image=picture, module="canny", model="canny")
    with pytest.raises(RuntimeError, match="ControlNet is not done here"):
        client.img2img(images=[picture], controlnet_units=[unit])
    with pytest.raises(RuntimeError, match="not made from text alone"):
        client.txt2img(prompt="a cat")
    client.util_set_model(client.util_get_model_names()[0])
    assert client.util_get_current_model() == client.util_get_model_names()[0]
    client.util_wait_for_ready(0.1)
    assert client.png_info(result.image).info == result.image.info["parameters"]
    assert client.interrupt() == {} and client.skip() is None
    assert client.controlnet_model_list() == [] and client.get_loras() == []
    assert {each["name"] for each in client.get_samplers()} > {"Euler a", "LMS"}
    for name in ("options", "cmd_flags", "progress", "sd_vae", "upscalers", "hypernetworks",
                 "face_restorers", "realesrgan_models", "prompt_styles", "embeddings", "memory",
                 "scripts", "latent_upscale_modes"):  # fmt: skip
        getattr(client, f"get_{name}")()
