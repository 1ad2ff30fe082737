"""What a message says to write is taken, once it is written so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from dna_pipeline.base.errors import JobError
from dna_pipeline.config.batch import combinations
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config, SidecarHead
from dna_pipeline.config.sidecar import JobSpec, parse_sidecar, resolve
from dna_pipeline.config.yaml_slips import LIST_KEYS
from dna_pipeline.stages import registry

CONFIG = """\
version: 1
models:
  sd15: {provider: diffusers, path: models/sd}
  matte: {provider: border_key}
  triposr: {provider: triposr, path: models/triposr}
pipelines:
  restyle: [{img2img: {model: sd15}}]
  mesh: [{remove_background: {model: matte}}, {triposr: {model: triposr}}]
inboxes:
  - {path: inbox, pipeline: restyle}
"""

Jobs = Callable[[str], list[JobSpec]]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    """The jobs that a sidecar asks for."""
    (tmp_path / "pipeline.yaml").write_text(CONFIG, encoding="utf-8")
    config: Config = load_config(tmp_path / "pipeline.yaml", {})

    def jobs(text: str) -> list[JobSpec]:
        document = parse_sidecar(text.encode())
        is_job_file = {"images", "matrix"} & document.value.keys()
        made = combinations(document) if is_job_file else [document]
        return [resolve(config, config.inboxes[0], each, lambda: 1) for each in made]

    return jobs


def refusal(jobs: Jobs, text: str) -> str:
    with pytest.raises(JobError) as caught:
        jobs(text)
    return caught.value.detail


CASES = [
    ("img2img: {loras: [clay]}", "write loras: {clay: 1.0}", "img2img: {loras: {clay: 1.0}}"),
    ("img2img: {loras: clay}", "write loras: {clay: 1.0}", "img2img: {loras: {clay: 1.0}}"),
    (
        'img2img: {loras: ["clay:0.8", "a b"]}', 'write loras: {clay: 0.8, "a b": 1.0}',
        'img2img: {loras: {clay: 0.8, "a b": 1.0}}',
    ),
    ("img2img: {mask: Alpha}", "did you mean alpha?", "img2img: {mask: alpha}"),
    ("img2img: {size: Input}", "did you mean input?", "img2img: {size: input}"),
    ("img2img: {size: 512 x 768}", "write size: 512x768", "img2img: {size: 512x768}"),
    ("img2img: {tile: 50}", "and a multiple of 8, not 50; write 128", "img2img: {tile: 128}"),
    ("img2img: {tile: 5000}", "not 5000; write 4096", "img2img: {tile: 4096}"),
    ("img2img: {tile: 131}", "not 131; write 128", "img2img: {tile: 128}"),
    (
        "img2img: {prompt: 'a <lora:clay:0,8>'}", "for its decimals; write <lora:clay:0.8>",
        "img2img: {prompt: 'a <lora:clay:0.8>'}",
    ),
    # What is written; the end of the message; what it says to write, put in its place.
    ('img2img:\n  prompt: "a chair",', 'prompt: "a chair"`', 'img2img:\n  prompt: "a chair"'),
    ("img2img:\n  prompt: 'a chair';", "prompt: 'a chair'`", "img2img:\n  prompt: 'a chair'"),
    ("tags: [a, b],", "line: `tags: [a, b]`", "tags: [a, b]"),
    ("img2img: {steps: 3},", "line: `img2img: {steps: 3}`", "img2img: {steps: 3}"),
    ("matrix: {img2img.strength: 0.4}", "write [0.4]", "matrix: {img2img.strength: [0.4]}"),
    ("matrix: {seed: 7}", "write [7]", "matrix: {seed: [7]}"),
    (
        "matrix:\n  img2img.strength: 0.4, 0.6", "write [0.4, 0.6]",
        "matrix:\n  img2img.strength: [0.4, 0.6]",
    ),
    (
        "matrix: {img2img.strength: 0.4, 0.6}", "brackets: img2img.strength: [0.4, 0.6]",
        "matrix: {img2img.strength: [0.4, 0.6]}",
    ),
    (
        "matrix: {img2img.sampler: euler, ddim}", "brackets: img2img.sampler: [euler, ddim]",
        "matrix: {img2img.sampler: [euler, ddim]}",
    ),
    (
        "matrix:\n  img2img:\n    strength: [0.4, 0.6]", "write `img2img.strength: [0.4, 0.6]`",
        "matrix:\n  img2img.strength: [0.4, 0.6]",
    ),
    (
        "matrix: {img2img: {prompt: [a, 'b: c'], steps: 4}}",
        'write `img2img.prompt: ["a", "b: c"]` and `img2img.steps: [4]`',
        'matrix:\n  img2img.prompt: ["a", "b: c"]\n  img2img.steps: [4]',
    ),
    (
        "matrix: [0.4]", "matrix: {img2img.strength: [0.4, 0.6]}",
        "matrix: {img2img.strength: [0.4, 0.6]}",
    ),
    ("pipeline: [restyle]", "write restyle without brackets or a dash", "pipeline: restyle"),
    ("pipeline:\n  - mesh", "write mesh without brackets or a dash", "pipeline: mesh"),
    ("pipeline: [mesh, restyle]", "one name alone: write mesh", "pipeline: mesh"),
    (
        "img2img: {prompt: [a chair, red]}", 'quotes: "a chair, red", without brackets or dashes',
        'img2img: {prompt: "a chair, red"}',
    ),
    (
        "img2img:\n  prompt:\n    - a chair\n    - 2 legs",
        'quotes: "a chair, 2 legs", without brackets or dashes',
        'img2img:\n  prompt: "a chair, 2 legs"',
    ),
    ("img2img: {prompt: [1984]}", 'write "1984" without brackets or a dash',
     'img2img: {prompt: "1984"}'),
    (
        "pipeline: mesh\ntriposr: {formats: glb, obj}", "brackets: formats: [glb, obj]",
        "pipeline: mesh\ntriposr: {formats: [glb, obj]}",
    ),
    ("{tags: hero, night}", "brackets: tags: [hero, night]", "{tags: [hero, night]}"),
    ("{tags: hero, 2024}", 'brackets: tags: [hero, "2024"]', '{tags: [hero, "2024"]}'),
    ("tags: true, 7", 'write ["true", "7"]', 'tags: ["true", "7"]'),
    ("image: [a.png, b.png]", "images: [a.png, b.png]", "images: [a.png, b.png]"),
    (
        "pipeline: mesh\ntriposr: {turntable: yes}", "'yes'; write mesh",
        "pipeline: mesh\ntriposr: {turntable: mesh}",
    ),
    (
        "pipeline: mesh\ntriposr: {turntable: off}", "'off'; write false",
        "pipeline: mesh\ntriposr: {turntable: false}",
    ),
    (
        "pipeline: mesh\nremove_background: {force: yes;}", "write true",
        "pipeline: mesh\nremove_background: {force: true}",
    ),
    ("// my settings\nimg2img: {steps: 3}", "write `# my settings`",
     "# my settings\nimg2img: {steps: 3}"),
    ("img2img:\n  // less\n  steps: 3", "write `# less`", "img2img:\n  # less\n  steps: 3"),
    ("img2img:\n  steps: 3\n// end", "write `# end`", "img2img:\n  steps: 3\n# end"),
    ("img2img: // mine\n  steps: 3", "write `# mine`", "img2img: # mine\n  steps: 3"),
    ("// all", "write `# all`", "# all"),
    ("img2img:\n  steps: 3 // few", "a comment begins with #: write 3",
     "img2img:\n  steps: 3 # few"),
    ("img2img:\n  strength=0.5", "write `strength: 0.5`", "img2img:\n  strength: 0.5"),
    ("img2img:\n  steps=3\n  strength: 0.5", "write `steps: 3`",
     "img2img:\n  steps: 3\n  strength: 0.5"),
    ("img2img: {strength=0.5}", "write `strength: 0.5`", "img2img: {strength: 0.5}"),
    ("img2img.strength = 0.5;", "write `img2img: {strength: 0.5}`", "img2img: {strength: 0.5}"),
    ("img2img:\n  strength: 0.5;", "leave out the `;`: write 0.5", "img2img:\n  strength: 0.5"),
    ("img2img:\n  steps: 20,", "leave out the `,`: write 20", "img2img:\n  steps: 20"),
    ("img2img:\n  strength: 60%;", "write 0.6", "img2img:\n  strength: 0.6"),
    ("priority: 5;", "leave out the `;`: write 5", "priority: 5"),
    ("img2img:\n  prompt: !!wow chair", 'prompt: "!!wow chair"',
     'img2img:\n  prompt: "!!wow chair"'),
    ("img2img:\n  prompt: !!!", 'put it in quotes: prompt: "!!!"', 'img2img:\n  prompt: "!!!"'),
    ("img2img:\n  prompt:", 'write "" for no text, or leave the key out',
     'img2img:\n  prompt: ""'),
    ("img2img:\n  strength:", "give it a value, or leave it out", "img2img: {}"),
    ("not_before: 01.12.2026 22:00", "write 2026-12-01T22:00", "not_before: 2026-12-01T22:00"),
    ("not_before: 2026/12/1", "write 2026-12-01", "not_before: 2026-12-01"),
    ("not_before: 3/4/2026", "write 2026-03-04 or 2026-04-03", "not_before: 2026-03-04"),
    (
        "img2img: {prompt: a chair strength: 0.6}", "comma before 'strength', if that is a key",
        "img2img: {prompt: a chair, strength: 0.6}",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("written", "said", "mended"), CASES)
def test_what_is_written_as_the_message_says_is_taken(
    jobs: Jobs, written: str, said: str, mended: str
):
    assert refusal(jobs, written).endswith(said)
    assert jobs(mended)


@pytest.mark.parametrize("text", ["31.02.2026", "1.13.2026", "01.12.2026 25:00", "2026/02/30"])
def test_a_day_that_does_not_exist_is_not_suggested(jobs: Jobs, text: str):
    assert "; write" not in refusal(jobs, f"not_before: {text}")


@pytest.mark.parametrize(
    "written", ["style: clay", "img2img: {style: clay}", "img2img: {look: 3}", "theme: dark"]
)
def test_no_far_fetched_key_is_suggested(jobs: Jobs, written: str):
    said = refusal(jobs, written)
    assert "did you mean" not in said
    assert re.search("known here: |docs/reference.md lists all [0-9]+ that are known here$", said)


def test_many_keys_are_not_listed(jobs: Jobs):
    said = refusal(jobs, "img2img: {style: clay}")
    assert said == (
        "line 1: unknown key 'img2img.style'; similar ones: tile, steps, sampler; "
        "docs/reference.md lists all 36 that are known here"
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("strenght: 0.5", "img2img: {strength: …}"),
        ("negativ: x", "img2img: {negative_prompt: …}"),
        ("img2img: {guidence: 3}", "'guidance_scale'"),
        ("img2img: {step: 3}", "'steps'"),
        ("img2img: {sampler: DDIM Karras}", "sampler: ddim"),
    ],
)
def test_what_is_misspelled_still_is(jobs: Jobs, written: str, meant: str):
    assert meant in refusal(jobs, written)


def test_the_keys_of_lists_are_those_that_take_lists():
    stages = [registry.stage_class(kind) for kind in registry.STAGES]
    models: list[type[BaseModel]] = [SidecarHead, *stages]
    lists = {
        name
        for model in models
        for name, field in model.model_fields.items()
        if re.match(r"(<class ')?list\b", str(field.annotation))
    }
    assert lists <= LIST_KEYS
    assert LIST_KEYS - lists == {"images"}  # text, too: one name or one glob
