"""Jobs in any order through one worker: each has the bytes that it has alone in a fresh one."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from torch.nn import functional

from dna_pipeline.execution.local_executor import LocalExecutor
from dna_pipeline.execution.protocol import (
    JobDone,
    JobFailed,
    Order,
    StageOrder,
)
from dna_pipeline.execution.worker_child import WorkerSettings
from dna_pipeline.providers.base import Device, ModelCache
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.stages.img2img.stage import Img2Img
from dna_pipeline.weights.fingerprint import Fingerprints
from tests import workers
from tests.unit.providers.stable_diffusion.lora_files import TrainedLora
from tests.unit.weights import weight_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    ),
]

ALL_LORAS = {"clay": 0.4, "unet": 1.0, "wax": -0.7}
GOOD: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "a chair"},
    "blocks": {"prompt": "(a hat:1.3) BREAK [blue]", "negative_prompt": "fog", "seed": 7},
    "one lora": {"prompt": "a chair <lora:clay:0.8>"},
    "another lora": {"prompt": "a chair", "loras": {"wax": -0.5}},
    "three loras": {"prompt": "a hat", "loras": ALL_LORAS, "sampler": "dpmpp_2m"},
    "inversion": {"prompt": "a chair", "negative_prompt": "(ink:1.2)"},
    "inversion and lora": {"prompt": "ink <lora:clay:1>", "clip_skip": 2},
    "alpha mask": {"prompt": "a door", "mask": "alpha", "sampler": "euler_a"},
    "mask": {"prompt": "a door", "mask": "file", "mask_blur": 2},
    "mask and lora": {"prompt": "a door <lora:wax:1>", "mask": "file", "area": "masked"},
    "plain text": {"prompt": "ink <lora:clay:1>", "prompt_syntax": "plain"},
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "missing lora": ({"loras": {"clya": 1.0}}, "weights_missing"),
    "lora of another family": ({"loras": {"clay": 0.5, "xl": 1.0}}, "weights_mismatch"),
    "lora of other sizes": ({"loras": {"clay": 0.5, "wide": 1.0}}, "weights_mismatch"),
    "damaged lora": ({"loras": {"bad": 1.0, "clay": 0.5}}, "weights_mismatch"),
    "inversion of other sizes": ({"prompt": "broad <lora:clay:1>"}, "weights_mismatch"),
    "prompt": ({"prompt": "[cat:dog:0.5] <lora:clay:1>"}, "parameter_invalid"),
    "mask that is none": ({"mask": "file", "loras": {"clay": 1.0}}, "image_unreadable"),
    "no mask": ({"mask": "file", "loras": {"clay": 1.0}}, "mask_missing"),
}
JOBS = GOOD | {name: params for name, (params, _) in BAD.items()}
NUMBER = 60


@dataclass(frozen=True)
class Outcome:
    """The bytes and facts of a job that do not depend on the time."""

    sha256: str | None
    model: dict[str, Any] | None
    warnings: list[str]
    failure: dict[str, Any] | None


class Studio:
    """A data folder with LoRAs and textual inversions, whole and broken, and the inputs."""

    def __init__(self, sd: Path, root: Path) -> None:
        self.sd, self.data, self.root = sd, root / "data", root
        loras, inversions = self.data / "models/loras", self.data / "models/embeddings"
        clay = TrainedLora(sd, 1).save_kohya(loras / "clay.safetensors")
        TrainedLora(sd, 2, rank=2, alpha=2).save_diffusers(loras / "styles/wax.safetensors")
        TrainedLora(sd, 3, text=False).save_kohya(loras / "unet.safetensors")
        tensors = load_file(clay)
        wide = {n: functional.pad(t, (0, 5)) if t.ndim > 1 else t for n, t in tensors.items()}
        save_file(wide, loras / "wide.safetensors")
        half = {n: t for n, t in tensors.items() if "to_q.lora_up" not in n.replace("_to", ".to")}
        save_file(half, loras / "bad.safetensors")
        xl = {f"{weight_files.KOHYA_XL}lora_down.weight": torch.ones(2, 2048)}
        save_file(xl, loras / "xl.safetensors")
        inversions.mkdir(parents=True)
        generator = torch.Generator().manual_seed(0)
        for name, width in (("ink", 32), ("broad", 48)):
            vectors = 4 * torch.randn(2, width, generator=generator)
            save_file({"emb_params": vectors}, inversions / f"{name}.safetensors")
        self.prints = Fingerprints(self.data)
        self._write_inputs()

    def _write_inputs(self) -> None:
        picture = Image.linear_gradient("L").resize((64, 64)).convert("RGBA")
        ImageDraw.Draw(picture).rectangle((8, 8, 40, 40), fill=(200, 30, 30, 0))
        picture.save(self.root / "cat.png")
        mask = Image.new("L", (64, 64))
        ImageDraw.Draw(mask).ellipse((10, 10, 50, 50), fill=255)
        mask.save(self.root / "mask.png")
        (self.root / "none.png").write_bytes(b"no picture")

    def order(self, name: str, job: str) -> Order:
        stage = Img2Img(model="sd", **{"steps": 2, "strength": 1.0, "max_size": 64, **JOBS[name]})
        inputs = [workers.input_file(self.root / "cat.png")]
        if name in ("mask", "mask and lora", "mask that is none"):
            file = "none.png" if name == "mask that is none" else "mask.png"
            inputs.append(workers.input_file(self.root / file, "mask"))
        spec = StageOrder("img2img", "img2img", stage.params(), "cat")
        return workers.order(tuple(inputs), self.root / "work" / job, spec, job=job)

    def fresh(self) -> ModelCache:
        return ModelCache({"sd": Diffusers(path=self.sd)}, Device("cpu", "float32"))

    def run(self, name: str, models: ModelCache, job: str) -> Outcome:
        events = workers.run(
            self.order(name, job), models, fingerprint=self.prints.of, data=self.data,
            hash_file=self.prints.sha256, licence=self.prints.licence,
        )  # fmt: skip
        return outcome(events)


def outcome(events: list[Any]) -> Outcome:
    end = events[-1]
    if isinstance(end, JobFailed):
        return Outcome(None, None, [], end.failure)
    assert isinstance(end, JobDone)
    (done,) = workers.done(events)
    return Outcome(done.artifacts[0].sha256, done.model, done.warnings, None)


@pytest.fixture(scope="module")
def studio(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(models_dir / "sd-v1-5-local", tmp_path_factory.mktemp("studio"))


def test_the_same_job_has_the_same_bytes_whatever_ran_before_it(studio: Studio):
    alone = {name: studio.run(name, studio.fresh(), f"alone {name}") for name in JOBS}
    assert {name: alone[name].failure["code"] for name in BAD} == {
        name: code for name, (_, code) in BAD.items()
    }
    assert len({alone[name].sha256 for name in GOOD}) == len(GOOD)
    order = [*JOBS, *JOBS, *JOBS][:NUMBER]
    order += random.Random(1).choices(list(GOOD), k=NUMBER - len(order))
    random.Random(0).shuffle(order)
    models = studio.fresh()
    for number, name in enumerate(order):
        made = studio.run(name, models, f"{number}")
        assert made == alone[name], f"{name}, after {order[:number]}"


@pytest.mark.parametrize("name", ["three loras", "mask and lora"])
def test_a_process_of_its_own_gives_the_same_bytes(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in this process, for the same sums
    entry = {"provider": "diffusers", "path": str(studio.sd)}
    executor = LocalExecutor(
        WorkerSettings("cpu", "float32", str(studio.data), {"sd": entry}, 60, 0)
    )
    try:
        executor.submit(studio.order(name, f"apart {name}"))
        events: list[Any] = []
        while not events or not isinstance(events[-1], JobDone | JobFailed):
            events.append(executor.events().get(timeout=240))
    finally:
        executor.close(0)
    here = studio.run(name, studio.fresh(), f"here {name}")
    assert replace(outcome(events), model=None) == replace(here, model=None)
