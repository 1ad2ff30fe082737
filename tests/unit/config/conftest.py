"""Small stages and providers under the real names, so that spec is tested by itself."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoints
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, model_validator

from dna_pipeline.base.errors import NoEffectiveSteps
from dna_pipeline.base.files import Artifact
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.providers.base import Device, Provider, WeightsPath
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import FromContent, Stage, StageContext


class _FakeStage(Stage):
    def run(self, ctx: StageContext) -> list[Artifact]:
        raise AssertionError("spec runs nothing")


class Redraw(_FakeStage):
    type = "img2img"
    aliases: ClassVar[dict[str, str]] = {
        "cfg": "guidance_scale",
        "denoise": "strength",
        "positive_prompt": "prompt",
    }

    templates = ("prompt",)

    prompt: str = ""
    seed: Annotated[int, Field(ge=-1, lt=2**32)] | FromContent = 42
    steps: Annotated[int, Field(ge=1, le=150)] = 20
    guidance_scale: Annotated[float, Field(ge=0, le=30)] = 7.5
    strength: Annotated[float, Field(gt=0, le=1)] = 0.75
    sampler: Literal["euler", "euler_a", "ddim"] = "euler"

    def check(self) -> None:
        if int(self.steps * self.strength) < 1:
            raise NoEffectiveSteps(f"steps {self.steps} × strength {self.strength}")


class Cut(_FakeStage):
    type = "remove_background"
    file_words: ClassVar[frozenset[str]] = frozenset({"matte"})

    force: bool = False


class Sculpt(_FakeStage):
    type = "triposr"
    produces = "mesh"
    aliases: ClassVar[dict[str, str]] = {"mc_resolution": "resolution"}

    resolution: Annotated[int, Field(ge=16, le=512)] = 256
    threshold: float = 25.0
    turntable: bool | Literal["mesh", "nerf"] = False
    formats: list[Literal["glb", "obj"]] = Field(["glb"])
    low: int = 0
    high: int = 10

    @model_validator(mode="after")
    def _ordered(self) -> Sculpt:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Decimate(_FakeStage):
    type = "decimate"
    consumes = "mesh"
    produces = "mesh"

    faces: int


class _FakeProvider(Provider):
    def missing(self) -> str | None:
        return None

    def weights(self) -> tuple[Path, list[Path]]:
        return Path(), []

    def load(self, device: Device) -> Any:
        raise AssertionError("spec loads nothing")


class Diffusers(_FakeProvider):
    name_in_config = "diffusers"
    stages = frozenset({"img2img"})

    path: WeightsPath
    single_file: WeightsPath | None = None
    safety_checker: bool = False


class TripoSRModel(_FakeProvider):
    name_in_config = "triposr"
    stages = frozenset({"triposr", "decimate"})

    path: WeightsPath


class Rembg(_FakeProvider):
    name_in_config = "rembg"
    stages = frozenset({"remove_background"})

    name: str = "u2net"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch):
    """The fakes in place of all that is registered."""
    module = ModuleType("fake_parts")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    stages = (Redraw, Cut, Sculpt, Decimate)
    providers = (Diffusers, TripoSRModel, Rembg)
    for part in (*stages, *providers):
        setattr(module, part.__name__, part)
    monkeypatch.setattr(registry, "STAGES", {s.type: f"fake_parts:{s.__name__}" for s in stages})
    monkeypatch.setattr(
        registry, "PROVIDERS", {p.name_in_config: f"fake_parts:{p.__name__}" for p in providers}
    )
    # To look for those of other packages reads a file of each package that is installed.
    monkeypatch.setattr(registry, "entry_points", EntryPoints)
    registry._import_strings.cache_clear()
    yield
    registry._import_strings.cache_clear()


EXAMPLE = """\
version: 1
paths:
  data: data                 # ledger, models, work files, logs; $DNA_DATA_DIR overrides
  outbox: outbox             # $DNA_OUTPUT_DIR overrides
runtime:
  device: auto               # auto | cpu | cuda | cuda:N | mps
  dtype: auto                # auto = float16 on CUDA, else float32; float32 | float16 | bfloat16
  max_attempts: 3            # ends of the worker that one job may cause
  stage_timeout_s: 1800
  idle_unload_s: 0           # > 0: models leave the device after so long without work
models:
  sd15:
    provider: diffusers
    path: models/sd-v1-5-local
    single_file: models/v1-5-pruned-emaonly-fp16.safetensors    # converted once, offline
  triposr: {provider: triposr, path: models/triposr-base}
  matte:   {provider: rembg, name: u2net}
pipelines:
  restyle:         [{img2img: {model: sd15, steps: 20}}]
  mesh:            [{remove_background: {model: matte}}, {triposr: {model: triposr}}]
  restyle_to_mesh: [{img2img: {model: sd15}}, {remove_background: {model: matte}}, {triposr: {}}]
inboxes:
  - {path: inbox/restyle, pipeline: restyle}
  - {path: inbox/mesh, pipeline: mesh, originals: keep}
"""
"""The contract's."""


@pytest.fixture
def example() -> str:
    return EXAMPLE


@pytest.fixture
def read(tmp_path: Path):
    """Writes a text as pipeline.yaml and reads it."""

    def read(text: str, **env: str) -> Config:
        file = tmp_path / "pipeline.yaml"
        file.write_text(text, encoding="utf-8")
        return load_config(file, env)

    return read


@pytest.fixture
def cases():
    """Reads a table: what a person writes and, indented below it, what they are told."""

    def cases(text: str) -> dict[str, str]:
        table: dict[str, str] = {}
        written = ""
        for line in dedent(text).strip().splitlines():
            if line.startswith(" "):
                table[written] = f"{table[written]} {line.strip()}".lstrip()
            else:
                written = line
                assert written not in table
                table[written] = ""
        assert table and all(table.values())
        return table

    return cases
