"""Each finished stage tells where it was computed and in what, whatever was asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from dna_pipeline.base.files import Artifact, write_bytes
from dna_pipeline.execution.protocol import JobDone, StageOrder
from dna_pipeline.providers.base import Device, ModelCache, Provider, device_of
from dna_pipeline.providers.matting.border_key import BorderKey
from dna_pipeline.providers.matting.rembg import RembgMatting
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.providers.triposr.provider import TripoSRModel
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import Stage, StageContext
from tests import workers
from tests.unit.providers.matting.test_rembg import red_disc, redness_network, written

GPU = Device("cuda:0", "float16")
TINY = Path(__file__).parents[2] / "golden" / "triposr-tiny"

pytestmark = pytest.mark.usefixtures("one_thread")


class Copy(Stage):
    """Has no model; tells where it computes if it is told to."""

    type: ClassVar[str] = "copy"
    needs_model: ClassVar[bool] = False
    on: str = ""

    def run(self, ctx: StageContext) -> list[Artifact]:
        if self.on:
            ctx.computed_on = Device(self.on, "float64")
        path = ctx.path(".png")
        write_bytes(path, ctx.source.read_bytes())
        return [Artifact(path, "image", "image/png")]


def done(
    tmp_path: Path, kind: str, params: dict[str, Any], image: Image.Image, provider: Provider | None
) -> tuple[str, str]:
    """Device and dtype that one stage's end names, in a worker that was given a GPU."""
    source = tmp_path / "pic.png"
    image.save(source)
    stages = (StageOrder("s", kind, params, "pic"),)
    models = ModelCache({} if provider is None else {"m": provider}, GPU)
    events = workers.run(workers.order(source, tmp_path / "work", *stages), models)
    assert events[-1] == JobDone(workers.JOB)
    (event,) = workers.done(events)
    return event.device, event.dtype


def test_rembg_on_the_cpu_beside_a_gpu(tmp_path: Path):
    provider = written(tmp_path, "u2net", redness_network(320))
    params = {"model": "m"}
    found = done(tmp_path, "remove_background", params, red_disc()[0], provider)
    assert found == ("cpu", "float32")


def test_a_colour_keyer(tmp_path: Path):
    params = {"model": "m"}
    found = done(tmp_path, "remove_background", params, red_disc()[0], BorderKey())
    assert found == ("cpu", "float32")


def test_an_image_that_is_left_as_it_is(tmp_path: Path):
    pixels = np.full((40, 40, 4), 128, np.uint8)
    pixels[10:, :, 3] = 0
    image = Image.fromarray(pixels)
    provider = written(tmp_path, "u2net", redness_network(320))
    found = done(tmp_path, "remove_background", {"model": "m"}, image, provider)
    assert found == ("cpu", "uint8")


@pytest.mark.parametrize(
    ("on", "found"), [("", ("cpu", "float32")), ("cuda:3", ("cuda:3", "float64"))]
)
def test_a_stage_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str, found: tuple[str, str]
):
    monkeypatch.setattr(registry, "stage_class", lambda _: Copy)
    assert done(tmp_path, "copy", {"on": on}, red_disc()[0], None) == found


def loaded(provider: Provider, device: Device) -> Device:
    models = ModelCache({"m": provider}, device)
    models.get("m")
    return models.computes_on("m")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_diffusers(models_dir: Path, dtype: str):
    provider = Diffusers(path=models_dir / "sd-v1-5-local")
    assert loaded(provider, Device("cpu", dtype)) == Device("cpu", dtype)


def test_triposr_in_its_own_dtype():
    provider = TripoSRModel(path=TINY, dtype="bfloat16")
    assert loaded(provider, Device("cpu", "float32")) == Device("cpu", "bfloat16")


class Foreign(BorderKey):
    """Of another package, whose models say nothing of themselves."""

    needs_device: ClassVar[bool] = True


def test_a_model_that_says_nothing_is_where_its_provider_puts_it():
    assert loaded(Foreign(), GPU) == GPU


@pytest.mark.parametrize(
    ("name", "dtype"), [("u2net", "float32"), ("birefnet-general-fp16", "float16")]
)
def test_rembg_on_a_gpu(name: str, dtype: str):
    """onnxruntime's session is played: there is no CUDA here."""
    cuda = "CUDAExecutionProvider"
    inner = SimpleNamespace(
        get_providers=lambda: [cuda, "CPUExecutionProvider"],
        get_provider_options=lambda: {cuda: {"device_id": "1"}, "CPUExecutionProvider": {}},
    )
    session = SimpleNamespace(inner_session=inner, model_name=name)
    assert RembgMatting(Path("m.onnx"), session).computes_on == Device("cuda:1", dtype)


@pytest.mark.parametrize(
    ("name", "found"), [("cuda:1", "cuda:1"), ("mps:0", "mps"), ("mps", "mps"), ("cpu", "cpu")]
)
def test_devices_by_the_names_of_manifests(name: str, found: str):
    assert device_of(torch.device(name), torch.bfloat16) == Device(found, "bfloat16")
