"""rembg's own session classes on small real networks, written as ONNX by hand."""

from __future__ import annotations

import inspect
import math
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError

from dna_pipeline.base.errors import (
    EmptyForeground,
    NonFiniteOutput,
    OutOfMemory,
    ParameterInvalid,
    WeightsMismatch,
)
from dna_pipeline.execution.protocol import JobDone, Phase, StageOrder
from dna_pipeline.providers.base import Device, Matting, ModelCache
from dna_pipeline.providers.matting.rembg import (
    MODELS,
    RELEASE,
    Rembg,
    _raise_mapped,
    execution_providers,
    try_out,
)
from dna_pipeline.stages.remove_background import RemoveBackground
from dna_pipeline.stages.stage_key import stage_key
from tests import workers
from tests.onnx_files import redness_network

CPU = Device("cpu", "float32")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def written(tmp_path: Path, name: str, data: bytes) -> Rembg:
    path = tmp_path / "models" / f"{name}.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    provider = Rembg(name=name).located(tmp_path)
    assert isinstance(provider, Rembg)
    return provider


def red_disc(size: tuple[int, int] = (300, 200)) -> tuple[Image.Image, np.ndarray]:
    """A red disc on grey, and where it is."""
    image = Image.new("RGB", size, (120, 125, 130))
    box = (size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] * 3 // 4)
    ImageDraw.Draw(image).ellipse(box, fill=(220, 30, 30))
    return image, np.asarray(image)[..., 0] > 200


# Configuration


def test_defaults_follow_from_the_name() -> None:
    provider = Rembg.model_validate({"name": "u2net"})
    assert provider.path == Path("models/u2net.onnx")
    assert provider.license is None


def test_what_is_given_wins() -> None:
    given = {"name": "u2net", "path": "elsewhere/mine.onnx", "license": "LicenseRef-mine"}
    provider = Rembg.model_validate(given)
    assert (provider.path, provider.license) == (Path("elsewhere/mine.onnx"), "LicenseRef-mine")
    assert given == {"name": "u2net", "path": "elsewhere/mine.onnx", "license": "LicenseRef-mine"}


def test_paths_become_absolute(tmp_path: Path) -> None:
    provider = Rembg(name="u2netp").located(tmp_path)
    assert provider.weights()[0] == tmp_path / "models" / "u2netp.onnx"


@pytest.mark.parametrize(
    ("name", "says"), [("u2nett", "did you mean 'u2net'"), ("gpt", "u2net, u2netp, ")]
)
def test_unknown_names_are_refused_with_the_known(name: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        Rembg.model_validate({"name": name})
    assert [e["loc"] for e in caught.value.errors()] == [("name",)]


def test_the_name_is_required() -> None:
    with pytest.raises(ValidationError) as caught:
        Rembg.model_validate({})
    assert [(e["loc"], e["type"]) for e in caught.value.errors()] == [(("name",), "missing")]


def test_a_missing_file_says_what_to_put_where(tmp_path: Path) -> None:
    provider = Rembg(name="isnet-general-use").located(tmp_path)
    sentence = provider.missing()
    assert sentence is not None
    assert f"{tmp_path / 'models' / 'isnet-general-use.onnx'} is not there" in sentence
    assert f"{RELEASE}isnet-general-use.onnx" in sentence
    assert written(tmp_path, "isnet-general-use", b"x").missing() is None


@pytest.mark.slow
@pytest.mark.timeout(900)  # in a new environment, importing rembg compiles functions for minutes
def test_the_table_agrees_with_rembg() -> None:
    from rembg.sessions import sessions

    for name, file in MODELS.items():
        source = inspect.getsource(sessions[name].download_models)
        assert file is None or f"{RELEASE}{file}" in source
    others = set(sessions) - set(MODELS)
    assert others == {"sam", "u2net_cloth_seg", "withoutbg", "atlascloud"}


# Masks


@pytest.mark.parametrize(
    ("name", "size"), [("u2net", 320), ("isnet-general-use", 1024), ("u2net_custom", 320)]
)
def test_finds_the_subject(name: str, size: int, tmp_path: Path) -> None:
    model = written(tmp_path, name, redness_network(size)).load(CPU)
    assert isinstance(model, Matting)
    image, disc = red_disc()
    alpha = model.alpha(image, alpha_matting=False)
    assert (alpha.mode, alpha.size) == ("L", image.size)
    found = np.asarray(alpha) > 127
    assert (found & disc).sum() / (found | disc).sum() > 0.97


def test_what_is_nearly_opaque_becomes_opaque(tmp_path: Path) -> None:
    """The network's output is stretched from its least to its greatest value."""
    model = written(tmp_path, "u2net_custom", redness_network(320, (1, 0, 0))).load(CPU)
    steps = [0, 100, 200, 243, 246, 250, 255]
    ramp = np.repeat(np.array(steps, np.uint8), 320)[None].repeat(320, 0)
    image = Image.merge("RGB", [Image.fromarray(ramp), *[Image.new("L", (2240, 320))] * 2])
    alpha = np.asarray(model.alpha(image, alpha_matting=False))[160, 160::320]
    assert alpha[4:].tolist() == [255, 255, 255]
    assert np.abs(alpha[:4].astype(int) - steps[:4]).max() <= 1
    assert alpha[3] < 245


def test_birefnet_s_sigmoid_overflows_in_silence(tmp_path: Path) -> None:
    network = redness_network(1024, (400, -200, -200))
    model = written(tmp_path, "birefnet-general-lite", network).load(CPU)
    image, disc = red_disc((64, 64))
    found = np.asarray(model.alpha(image, alpha_matting=False)) > 127
    assert (found & disc).sum() / (found | disc).sum() > 0.9


@pytest.mark.slow
def test_alpha_matting_sharpens_a_coarse_mask(tmp_path: Path) -> None:
    model = written(tmp_path, "u2net", redness_network(320)).load(CPU)
    image, disc = red_disc((160, 120))
    alpha = np.asarray(model.alpha(image, alpha_matting=True))
    found = alpha > 127
    assert alpha.shape == (120, 160)
    assert (found & disc).sum() / (found | disc).sum() > 0.97


def test_alpha_matting_of_a_large_picture_is_done_on_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dna_pipeline.providers.matting.rembg.MATTING_PX", 10_000)
    import rembg.bg

    seen: list[tuple[int, int]] = []
    real = rembg.bg.alpha_matting_cutout

    def spy(image: Image.Image, *rest: Any) -> Image.Image:
        seen.append(image.size)
        return real(image, *rest)

    monkeypatch.setattr(rembg.bg, "alpha_matting_cutout", spy)
    model = written(tmp_path, "u2net", redness_network(320)).load(CPU)
    image, _ = red_disc((400, 300))
    assert model.alpha(image, alpha_matting=True).size == (400, 300)
    assert seen == [(115, 87)]


def test_alpha_matting_with_nothing_to_solve_returns_the_mask(tmp_path: Path) -> None:
    model = written(tmp_path, "u2net", redness_network(320)).load(CPU)
    image = Image.new("RGB", (60, 60), (120, 120, 120))
    image.putpixel((30, 30), (255, 0, 0))  # erosion leaves no sure foreground
    assert model.alpha(image, alpha_matting=True) == model.alpha(image, alpha_matting=False)


# Failures


def test_a_flat_output_is_an_empty_foreground(tmp_path: Path) -> None:
    model = written(tmp_path, "u2net", redness_network(320, (0, 0, 0))).load(CPU)
    with pytest.raises(EmptyForeground):
        model.alpha(red_disc()[0], alpha_matting=False)


def test_an_output_that_is_no_number(tmp_path: Path) -> None:
    model = written(tmp_path, "u2net", redness_network(320, (math.nan, 0, 0))).load(CPU)
    with pytest.raises(NonFiniteOutput):
        model.alpha(red_disc()[0], alpha_matting=False)


@pytest.mark.parametrize("data", [b"", b"not a network", redness_network(320)[:-40]])
def test_a_broken_file(data: bytes, tmp_path: Path) -> None:
    provider = written(tmp_path, "u2net", data)
    with pytest.raises(WeightsMismatch, match=r"u2net\.onnx"):
        ModelCache({"matte": provider}, CPU).get("matte")


def test_the_network_of_another_name(tmp_path: Path) -> None:
    model = written(tmp_path, "isnet-general-use", redness_network(320)).load(CPU)
    with pytest.raises(WeightsMismatch, match="not the network its name says"):
        model.alpha(red_disc()[0], alpha_matting=False)


def test_errors_that_mean_nothing_known_pass(tmp_path: Path) -> None:
    assert _raise_mapped(RuntimeError("the bus is on fire"), tmp_path) is None


@pytest.mark.parametrize("name", ["RuntimeException", "Fail", "EPFail"])
def test_errors_of_a_device_are_not_the_file_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """onnxruntime is made to raise what it raises where it computes on CUDA."""
    import onnxruntime

    error = getattr(onnxruntime.capi.onnxruntime_pybind11_state, name)

    def fail(text: str) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise error(text)

        monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)

    provider = written(tmp_path, "u2net", redness_network(320))
    fail("CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=egg")
    with pytest.raises(error, match="CUDA failure 700"):
        provider.load(Device("cuda:0", "float16"))
    fail("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=egg")
    with pytest.raises(OutOfMemory):
        provider.load(Device("cuda:0", "float16"))
    fail("Load model from u2net.onnx failed")
    with pytest.raises(WeightsMismatch):
        provider.load(Device("cuda:0", "float16"))


# What it costs to load


@pytest.mark.slow
def test_sessions_load_without_numba_and_leave_rembg_whole(tmp_path: Path) -> None:
    written(tmp_path, "u2net", redness_network(320))
    script = f"""
import sys
from pathlib import Path
from dna_pipeline.providers.base import Device
from dna_pipeline.providers.matting.rembg import Rembg
from tests import workers
assert not {{"onnxruntime", "torch", "scipy", "rembg"}} & set(sys.modules), "heavy import"
for _ in range(2):
    Rembg(name="u2net").located(Path({str(tmp_path)!r})).load(Device("cpu", "float32"))
assert not {{"numba", "pymatting", "rembg"}} & set(sys.modules), "numba was loaded"
import rembg
print(rembg.remove.__module__, rembg.new_session.__module__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "rembg.bg rembg.session_factory\n"), done.stderr


# --- devices -------------------------------------------------------------------------------------

CUDA = "CUDAExecutionProvider"
COREML = "CoreMLExecutionProvider"
ON_CPU = "CPUExecutionProvider"
CARD = Device("cuda:1", "float16")
MAC = Device("mps", "float32")


def offer(monkeypatch: pytest.MonkeyPatch, *providers: str) -> None:
    """Has onnxruntime's build say that it has these providers too."""
    import onnxruntime

    offered = [*providers, ON_CPU]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:12", "coreml"])
def test_devices(device: str) -> None:
    provider = Rembg.model_validate({"name": "u2net", "device": device})
    assert provider.device == device
    assert provider.needs_device == (device != "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:one", "mps", "", "CPU"])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Rembg.model_validate({"name": "u2net", "device": device})
    assert [e["loc"] for e in caught.value.errors()] == [("device",)]


@pytest.mark.parametrize(
    ("worker", "wanted", "expected"),
    [
        (CPU, "auto", [ON_CPU]),
        (CARD, "auto", [(CUDA, {"device_id": 1}), ON_CPU]),
        (CARD, "cpu", [ON_CPU]),
        (CPU, "cuda", [(CUDA, {"device_id": 0}), ON_CPU]),
        (CARD, "cuda:3", [(CUDA, {"device_id": 3}), ON_CPU]),
        (MAC, "auto", [(COREML, {}), ON_CPU]),
        (CPU, "coreml", [(COREML, {}), ON_CPU]),
    ],
)
def test_execution_providers(
    monkeypatch: pytest.MonkeyPatch, worker: Device, wanted: str, expected: list[Any]
) -> None:
    offer(monkeypatch, CUDA, COREML)
    assert execution_providers(worker, wanted) == expected


@pytest.mark.parametrize(
    ("worker", "wanted", "expected"),
    [
        (CPU, "auto", CPU),
        (CARD, "auto", Device("cuda:1", "float32")),
        (CARD, "cpu", CPU),
        (CPU, "cuda:3", Device("cuda:3", "float32")),
        (MAC, "auto", Device("coreml", "float32")),
    ],
)
def test_the_place_that_onnxruntime_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, worker: Device, wanted: str, expected: Device
) -> None:
    offer(monkeypatch, CUDA, COREML)
    provider = Rembg.model_validate({"name": "u2net", "device": wanted})
    assert provider.place_on(worker) == expected
    half = provider.model_copy(update={"name": "birefnet-general-fp16"})
    dtype = "float16" if expected.name.startswith("cuda") else "float32"
    assert half.place_on(worker) == Device(expected.name, dtype)
    offer(monkeypatch)
    assert provider.place_on(worker) == CPU


@pytest.mark.parametrize("worker", [CPU, CARD, MAC])
def test_the_cpu_where_onnxruntime_knows_no_better(
    monkeypatch: pytest.MonkeyPatch, worker: Device
) -> None:
    offer(monkeypatch)
    assert execution_providers(worker) == [ON_CPU]
    for wanted in ("cuda", "coreml"):
        with pytest.raises(ParameterInvalid, match=f"device: {wanted}, but onnxruntime has no"):
            execution_providers(worker, wanted)


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider':UserWarning")
def test_a_silent_way_back_to_the_cpu_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime is made to promise CUDA, and does without when the session is made."""
    offer(monkeypatch, CUDA)
    provider = written(tmp_path, "u2net", redness_network(320))
    assert provider.load(CARD).computes_on == CPU
    named = provider.model_copy(update={"device": "cuda"})
    with pytest.raises(ParameterInvalid, match=r"went back to the CPU for u2net\.onnx"):
        named.load(CARD)


def test_the_device_decides_no_key(tmp_path: Path) -> None:
    provider = written(tmp_path, "u2net", b"x")
    on_cpu = provider.model_copy(update={"device": "cpu"})
    stage = RemoveBackground(model="matte")
    keys = {stage_key(stage, "stem", "0" * 64, one, "1" * 64) for one in (provider, on_cpu)}
    assert len(keys) == 1


# --- alpha matting is compiled before it is used -------------------------------------------------


def phases(models: ModelCache, folder: Path, picture: Path, **params: Any) -> list[str]:
    """Phases of a job of one stage with its model, through the worker's runner."""
    stage = RemoveBackground(model="matte", **params)
    spec = StageOrder("matte", "remove_background", stage.params(), "disc")
    events = workers.run(workers.order(picture, folder, spec), models)
    assert isinstance(events[-1], JobDone), events[-1]
    all_of_them = [event.phase for event in events if isinstance(event, Phase)]
    assert (all_of_them[0], all_of_them[-1]) == ("reading", "writing")
    return all_of_them[1:-1]


@pytest.mark.slow
def test_compiling_belongs_to_the_phase_loading(tmp_path: Path) -> None:
    models = ModelCache({"matte": written(tmp_path, "u2net", redness_network(320))}, CPU)
    picture = tmp_path / "disc.png"
    red_disc((160, 120))[0].save(picture)

    def run(name: str, **params: Any) -> list[str]:
        return phases(models, tmp_path / name, picture, **params)

    assert run("first") == ["loading", "running"]
    assert not models.get("matte").is_compiled
    assert run("second", alpha_matting=True) == ["loading", "running"]
    assert models.get("matte").is_compiled
    assert run("third", alpha_matting=True) == ["running"]
    assert run("fourth") == ["running"]


def test_what_networks_would_run_on() -> None:
    tried = try_out(Device("cuda:0", "float16"))
    assert tried["provider"] in ("CPUExecutionProvider", "CUDAExecutionProvider")
    assert tried["version"] == version("onnxruntime")
