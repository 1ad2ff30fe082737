"""Recipes of results, as sidecars that make the same again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dna_pipeline.config import recipe, yaml12
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.sidecar import parse_sidecar, resolve
from dna_pipeline.media.marks.embed import embed
from dna_pipeline.media.marks.packet import Marks
from dna_pipeline.media.picture_writer import Encoding, save_picture
from tests.commands import call

CONFIG = """\
version: 1
models: {sd15: {provider: diffusers, path: sd}, matte: {provider: border_key}}
pipelines:
  restyle: [{img2img: {model: sd15, steps: 30}}, {remove_background: {model: matte}}]
inboxes: [{path: in, pipeline: restyle}]
"""
PROMPTS = [
    "a clay figurine",
    'say "no": {not a field}, {a|b} # no comment',
    "two\nlines, 猫, \u2028 and \\ backslash",
    "yes",
    "}}{{",
]


@pytest.fixture
def resolved(tmp_path: Any) -> Any:
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "pipeline.yaml", {})

    def job(text: str) -> Any:
        document = parse_sidecar(text.encode())
        return resolve(config, config.inboxes[0], document, lambda: 7, JobContext("cat.png"))

    return job


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_sidecar_gives_the_same_job_again(resolved: Any, prompt: str) -> None:
    escaped = prompt.replace("{", "{{").replace("}", "}}")
    values = {
        "img2img": {"prompt": escaped, "strength": 0.35, "seed": -1, "loras": {"a b": 0.5}},
        "meta": {"no": "<b>", "a b": [1, None]}, "tags": ["hero", "#1"],
    }  # fmt: skip
    first = resolved(yaml12.dumps(values))
    stages = [{"id": s.id, "type": s.type, "params": s.params} for s in first.stages]
    head = {"pipeline": first.pipeline, "tags": list(first.tags), "meta": first.meta}
    text = recipe.as_sidecar(stages, head=head, remarks=["made by\nsomebody"])
    assert text.startswith("# made by\n# somebody\npipeline: ")
    assert resolved(text) == first
    assert first.stages[0].params["prompt"] == prompt
    assert first.stages[0].params["seed"] == 7


# --- show FILE ---


RECIPE = {
    "version": "1.2",
    "input": {"sha256": "0" * 64},
    "stages": [{"id": "img2img", "type": "img2img", "params": {"prompt": "a {cat}", "seed": 5}}],
}
SIDECAR = """\
# made by dna-pipeline 1.2
# from an image with the SHA-256 0000000000000000000000000000000000000000000000000000000000000000
img2img:
  prompt: "a {{cat}}"
  seed: 5
"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture far from any pipeline.yaml."""
    path = tmp_path / "elsewhere" / "mine.png"
    path.parent.mkdir()
    save_picture(Image.new("RGB", (8, 8)), path, Encoding(), "a dog\nSteps: 9, Seed: 3, Size: 8x8")
    return path


def test_a_file_says_how_it_was_made(picture: Path) -> None:
    marks = Marks("t", recipe=json.dumps(RECIPE))
    picture.write_bytes(embed(picture.read_bytes(), "image/png", marks) or b"")
    done = call(picture.parent, "show", "mine.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, SIDECAR, "")


def test_the_text_of_another_program_will_do(picture: Path) -> None:
    done = call(picture.parent, "show", "mine.png")
    assert (
        done.stdout == 'img2img:\n  prompt: "a dog"\n  negative_prompt: ""\n  steps: 9\n  seed: 3\n'
    )


def test_the_manifest_beside_a_file_will_do(tmp_path: Path) -> None:
    file = tmp_path / "cat.matte.png"
    Image.new("RGB", (8, 8)).save(file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    stage = {"id": "cut", "type": "remove_background", "params": {"force": True}}
    manifest = {
        "job": {"pipeline": "cut", "tags": [], "meta": {"a": 1}}, "stages": [stage],
        "artifacts": [{"path": "cat.matte.png", "sha256": sha256}],
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    done = call(tmp_path, "show", str(file))
    assert done.stdout == 'pipeline: "cut"\nmeta: {a: 1}\ncut:\n  force: true\n'
    file.write_bytes(file.read_bytes() + b"changed")
    assert call(tmp_path, "show", str(file)).returncode == 2


def test_a_file_without_a_recipe(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    done = call(tmp_path, "show", "cat.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cat.png: nothing in this file says how it was made" in done.stderr
    done = call(tmp_path, "show", "dog.png")
    said = (
        "dna-pipeline: dog.png: there is no such file; "
        "a job is named by its id, which `dna-pipeline jobs` lists\n"
    )
    assert (done.returncode, done.stderr) == (2, said)
