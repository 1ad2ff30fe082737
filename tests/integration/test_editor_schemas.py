"""The JSON Schemas for editors against the loader: no false alarm, and the usual mistakes flagged.

Each YAML text in documents, in files of the project and in the literals of its tests is a case.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, ValidationError

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.config import yaml12
from dna_pipeline.config.batch import combinations, head_of, patterns_of
from dna_pipeline.config.file_parts import PathsSpec, RetentionSpec, RuntimeSpec
from dna_pipeline.config.json_schema.pipeline_file import pipeline_schema
from dna_pipeline.config.json_schema.sidecar_file import sidecar_schema
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import (
    Config,
    InboxSpec,
    PipelineFile,
    SidecarHead,
)
from dna_pipeline.config.sidecar import parse_sidecar, resolve
from dna_pipeline.config.yaml12 import Document
from dna_pipeline.operations.editor_schemas import KINDS, Kind, schema_text
from dna_pipeline.stages import registry
from tests.commands import call

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"```ya?ml\n(.*?)```", re.DOTALL)
INDENTED = re.compile(r"(?:^(?: {4}.*)?\n)+", re.MULTILINE)

CONFIG = """\
version: 1
models:
  sd15: {provider: diffusers, path: models/sd-v1-5-local}
  "*": models/checkpoints
  triposr: {provider: triposr, path: models/triposr-base}
  matte: {provider: border_key}
pipelines:
  restyle: [{img2img: {model: sd15}}]
  mesh: [{remove_background: {}}, {triposr: {}}]
  restyle_to_mesh: [{img2img: {model: sd15}}, {remove_background: {}}, {triposr: {}}]
  twice: [{img2img: {model: sd15, id: rough}}, {img2img: {model: sd15, id: fine}}]
  cut: [{remove_background: {}}]
  textured: [{remove_background: {}}, {triposr: {bake_texture: true}}]
inboxes: [{path: inbox/all, pipeline: restyle_to_mesh}, {path: inbox/twice, pipeline: twice}]
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    file = tmp_path_factory.mktemp("studio") / "pipeline.yaml"
    file.write_text(CONFIG)
    return load_config(file, {})


@cache
def validator(kind: Kind) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(schema_text(kind)))


@pytest.fixture(scope="module")
def of_sidecars(config: Config) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(sidecar_schema(config.pipelines))


def texts() -> Iterator[str]:
    """Everything in the project that may be YAML."""
    for path in sorted(ROOT.rglob("*.y*ml")):
        if ".venv" not in path.parts:
            yield path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]:
        text = path.read_text(encoding="utf-8")
        yield from FENCE.findall(text)
        yield from map(textwrap.dedent, INDENTED.findall(text))
        yield from re.findall(r"`([^`\n]+)`", text)
    for folder in ("tests", "integrations", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from literals(path)


def literals(path: Path) -> Iterator[str]:
    """The strings of a module, whole and line by line: some are tables of cases."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            yield node.value
            yield textwrap.dedent(node.value)
            yield from node.value.splitlines()
            yield node.value.replace("{{", "{").replace("}}", "}")


@cache
def documents() -> list[Document]:
    """All that is a mapping in YAML."""
    found: list[Document] = []
    for text in dict.fromkeys(texts()):
        try:
            document = yaml12.loads(text.encode())
        except (yaml12.YamlError, UnicodeEncodeError):
            continue
        if isinstance(document.value, dict) and document.value:
            found.append(document)
    return found


def as_pipeline_file(document: Document) -> dict[str, Any] | None:
    """The document as a whole pipeline.yaml, if it is one or a part of one."""
    if not document.value.keys() <= PipelineFile.model_fields.keys():
        return None
    return yaml12.loads(CONFIG.encode()).value | document.value


def is_sound_pipeline_file(document: dict[str, Any], folder: Path) -> bool:
    file = folder / "pipeline.yaml"
    file.write_text(yaml12.dumps(document), encoding="utf-8")
    try:
        load_config(file, {})
    except ConfigError:
        return False
    return True


def is_sound_sidecar(document: Document, config: Config) -> bool:
    """True if a job that the document asks for is possible in one of the inboxes."""
    return any(is_sound_in(document, config, inbox.name) for inbox in config.inboxes)


def is_sound_in(document: Document, config: Config, name: str) -> bool:
    inbox = config.inbox(name)
    assert inbox is not None
    try:
        SidecarHead.model_validate({k: v for k, v in document.value.items() if v is not None})
        head_of(document)
        patterns_of(document)
        for combined in combinations(document)[:9]:
            resolve(config, inbox, combined, lambda: 1)
    except (JobError, ValidationError):
        return False
    return True


def complaints(checker: jsonschema.Draft7Validator, document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in checker.iter_errors(document)]


def test_a_pipeline_file_that_loads_is_accepted(tmp_path: Path):
    files = [file for each in documents() if (file := as_pipeline_file(each)) is not None]
    sound = [file for file in files if is_sound_pipeline_file(file, tmp_path)]
    assert len(sound) >= 50
    wrong = [(complaints(validator("pipeline"), file), file) for file in sound]
    assert "\n".join(str(each) for each in wrong if each[0]) == ""


def test_a_sidecar_that_resolves_is_accepted(
    config: Config, of_sidecars: jsonschema.Draft7Validator
):
    sound = [document for document in documents() if is_sound_sidecar(document, config)]
    assert len(sound) >= 250
    wrong = [(complaints(of_sidecars, d.value), d.value) for d in sound]
    assert "\n".join(str(each) for each in wrong if each[0]) == ""


PIPELINE_MISTAKES = {
    "misspelt key": ("runtime: {device: auto}", "runtime: {devise: auto}", "$.runtime"),
    "misspelt top key": ("inboxes:", "inbox:", "$"),
    "number as text": ("version: 1", 'version: "1"', "$.version"),
    "out of range": ("{device: auto}", "{max_attempts: 0}", "$.runtime.max_attempts"),
    "unknown device": ("device: auto", "device: gpu", "$.runtime.device"),
    "unknown stage": ("{triposr: {}}", "{tripsr: {}}", "$.pipelines.mesh[1]"),
    "unknown provider": ("provider: border_key", "provider: borderkey", "$.models.matte.provider"),
    "key of another provider": ("{provider: border_key}", "{provider: border_key, path: a}",
                                "$.models.matte"),
    "unknown model of rembg": ("{provider: border_key}", "{provider: rembg, name: u2nett}",
                               "$.models.matte.name"),
    "missing key": ("pipeline: restyle", "priority: 1", "$.inboxes[0]"),
    "no provider": ("provider: triposr, ", "", "$.models.triposr"),
    "a mapping for a list": ("mesh: [{remove_background: {}}, {triposr: {}}]",
                             "mesh: {remove_background: {}, triposr: {}}", "$.pipelines.mesh"),
    "two stages in one entry": ("[{remove_background: {}}, {triposr: {}}]",
                                "[{remove_background: {}, triposr: {}}]", "$.pipelines.mesh[0]"),
    "a list for a mapping": ("runtime: {device: auto}", "runtime: [device]", "$.runtime"),
    "wrong choice": ("pipeline: restyle", "pipeline: restyle, originals: move",
                     "$.inboxes[0].originals"),
    "hours without minutes": ("pipeline: restyle", 'pipeline: restyle, hours: "22-6"',
                              "$.inboxes[0].hours"),
    "wrong type in defaults": ("pipeline: restyle",
                               "pipeline: restyle, defaults: {img2img: {steps: many}}",
                               "$.inboxes[0].defaults.img2img.steps"),
    "wrong nesting": ("runtime: {device: auto}", "device: auto", "$"),
}  # fmt: skip
"""What is replaced in `SOUND`, by what, and where the complaint is expected."""

SOUND = """\
version: 1
runtime: {device: auto}
models:
  sd15: {provider: diffusers, path: models/sd-v1-5-local}
  triposr: {provider: triposr, path: models/triposr-base}
  matte: {provider: border_key}
pipelines:
  restyle: [{img2img: {model: sd15, steps: 20}}]
  mesh: [{remove_background: {}}, {triposr: {}}]
inboxes:
  - {path: inbox/restyle, pipeline: restyle}
"""


@pytest.mark.parametrize("mistake", PIPELINE_MISTAKES)
def test_a_mistake_in_pipeline_yaml_is_flagged_at_its_place(mistake: str, tmp_path: Path):
    sound, wrong, place = PIPELINE_MISTAKES[mistake]
    assert SOUND.count(sound) == 1
    document = yaml12.loads(SOUND.replace(sound, wrong).encode())
    assert complaints(validator("pipeline"), yaml12.loads(SOUND.encode()).value) == []
    assert not is_sound_pipeline_file(document.value, tmp_path), "the loader refuses it too"
    places = [error.json_path for error in validator("pipeline").iter_errors(document.value)]
    assert set(places) == {place}


SIDECAR_MISTAKES = {
    "img2img: {step: 20}": "$.img2img",
    "img2img: {steps: twenty}": "$.img2img.steps",
    'img2img: {steps: "20"}': "$.img2img.steps",
    "img2img: {strength: 1.5}": "$.img2img.strength",
    "img2img: {strength: 60%}": "$.img2img.strength",
    "img2img: {sampler: eular}": "$.img2img.sampler",
    "img2img: {sampler: Euler a Karras}": "$.img2img.sampler",
    "img2img: {sampler_name: nonsense}": "$.img2img.sampler_name",
    "img2img: {schedule: linear}": "$.img2img.schedule",
    "img2img: {seed: random}": "$.img2img.seed",
    "img2img: {cfg: 7, guidance_scale: 8}": "$.img2img",
    "img2img: [steps, 20]": "$.img2img",
    "img2img: {prompt: 12}": "$.img2img.prompt",
    "img2imgg: {steps: 20}": "$",
    "steps: 20": "$",
    "img2img.steps: 20": "$",
    "triposr: {formats: glb}": "$.triposr.formats",
    "triposr: {formats: [fbx]}": "$.triposr.formats[0]",
    "triposr: {turntable: film}": "$.triposr.turntable",
    "triposr: {turntable_size: 255}": "$.triposr.turntable_size",
    "triposr: {bake_texture: yes}": "$.triposr.bake_texture",
    "remove_background: {alpha_matting: 1}": "$.remove_background.alpha_matting",
    "priority: high": "$.priority",
    "tags: hero": "$.tags",
    "meta: chair": "$.meta",
    "not_before: tomorrow": "$.not_before",
    "seed: 1.5": "$.seed",
    "matrix: {strength: [0.4, 0.6]}": "$.matrix",
    "matrix: {img2img.strength: 0.4}": "$.matrix['img2img.strength']",
    "matrix: {img2img.strength: [0.4, 6]}": "$.matrix['img2img.strength'][1]",
    "matrix: {img2img.step: [1, 2]}": "$.matrix",
    "matrix: [img2img.steps]": "$.matrix",
    "matrix: {img2img.loras.clay: [much]}": "$.matrix['img2img.loras.clay'][0]",
    "img2img: {loras: [clay]}": "$.img2img.loras",
    "img2img: {loras: {clay: 100}}": "$.img2img.loras.clay",
    "count: 0": "$.count",
    "images: []": "$.images",
    "on_duplicate: again": "$.on_duplicate",
    "[img2img]": "$",
}


@pytest.mark.parametrize("text", SIDECAR_MISTAKES)
def test_a_mistake_in_a_sidecar_is_flagged_at_its_place(text: str, config: Config):
    value = yaml12.loads(text.encode()).value
    if isinstance(value, dict):
        assert not is_sound_sidecar(Document(value), config), "the loader refuses it too"
    else:
        with pytest.raises(JobError):
            parse_sidecar(text.encode())
    assert {error.json_path for error in validator("sidecar").iter_errors(value)} == {
        SIDECAR_MISTAKES[text]
    }


def test_names_and_ids_of_pipeline_yaml_are_offered(of_sidecars: jsonschema.Draft7Validator):
    assert complaints(of_sidecars, {"fine": {"steps": 30}, "matrix": {"rough.steps": [1, 2]}}) == []
    assert complaints(of_sidecars, {"fine": {"step": 30}}) != []
    assert complaints(validator("sidecar"), {"fine": {"steps": 30}}) != []
    offered = of_sidecars.schema["properties"]["pipeline"]["anyOf"][0]["enum"]
    assert offered[:2] == ["restyle", "mesh"]
    assert complaints(of_sidecars, {"pipeline": "added_later"}) == []


MODELS: dict[str, type[BaseModel]] = {
    **{
        each.__name__: each
        for each in (
            PathsSpec, RuntimeSpec, RetentionSpec, InboxSpec, PipelineFile, SidecarHead,
        )
    },
    **{f"stage {name}": registry.stage_class(name) for name in registry.STAGES},
    **{f"provider {name}": registry.provider_class(name) for name in registry.PROVIDERS},
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_every_key_has_a_description(name: str):
    """It stands at the key in the model: `Field(description=...)`, without a full stop."""
    fields = MODELS[name].model_fields
    lacking = [key for key, field in fields.items() if len((field.description or "").split()) < 2]
    assert lacking == []
    assert [key for key, field in fields.items() if (field.description or "").endswith(".")] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_the_schema_is_explained(kind: Kind):
    schema = pipeline_schema() if kind == "pipeline" else sidecar_schema()
    rows = schema["properties"].get("matrix", {}).pop("properties", {})
    assert ("img2img.strength" in rows) == (kind == "sidecar")
    lacking = [
        key for key, value in keys_of(schema) if "description" not in value and "$ref" not in value
    ]
    assert lacking == []


def keys_of(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, list):
        for each in schema:
            yield from keys_of(each)
    elif isinstance(schema, dict):
        if isinstance(properties := schema.get("properties"), dict):
            yield from properties.items()
        for key, value in schema.items():
            if key not in ("if", "default", "enum", "const"):
                yield from keys_of(value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_one_of_draft_7(kind: Kind):
    schema = json.loads(schema_text(kind))
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(schema)


def test_the_schemas_are_printed_and_written(tmp_path: Path):
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    printed = call(tmp_path, "schema", "sidecar")
    assert printed.returncode == 0
    assert "fine" in json.loads(printed.stdout)["properties"]

    written = call(tmp_path, "schema", "--write")

    assert (written.returncode, written.stdout) == (0, "")
    assert (tmp_path / "schemas/sidecar.schema.json").read_text() == printed.stdout
    assert (tmp_path / "schemas/pipeline.schema.json").read_text() == schema_text("pipeline")
    (tmp_path / "schemas/sidecar.schema.json").write_text("{}")
    call(tmp_path, "schema", "--write")
    assert (tmp_path / "schemas/sidecar.schema.json").read_text() == printed.stdout


def test_the_schemas_need_no_sound_pipeline_yaml(tmp_path: Path):
    assert call(tmp_path, "schema", "sidecar").stdout == schema_text("sidecar")
    (tmp_path / "pipeline.yaml").write_text("version: 2")
    assert call(tmp_path, "schema", "sidecar").stdout == schema_text("sidecar")


@pytest.mark.parametrize("arguments", [[], ["pipeline", "--write"]])
def test_schema_prints_one_or_writes_both(tmp_path: Path, arguments: list[str]):
    done = call(tmp_path, "schema", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pipeline or sidecar" in done.stderr
    assert list(tmp_path.iterdir()) == []
