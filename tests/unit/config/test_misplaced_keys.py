"""Where a key belongs that stands in the wrong place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dna_pipeline.base.errors import ConfigError, JobError, SidecarInvalid
from dna_pipeline.config.batch import combinations
from dna_pipeline.config.schema import Config
from dna_pipeline.config.sidecar import parse_sidecar, resolve
from dna_pipeline.config.tables import parse_table
from dna_pipeline.config.yaml12 import Document

PIPELINES = """\
version: 1
models: {sd15: {provider: diffusers, path: a}, tsr: {provider: triposr, path: b}}
pipelines:
  restyle: [{img2img: {}}]
  twice: [{img2img: {}}, {img2img: {id: again}}]
  mesh: [{triposr: {}}]
inboxes: [{path: in, pipeline: PIPELINE MORE}]
"""

Read = Callable[[str], Config]


def config_of(read: Read, pipeline: str = "restyle", more: str = "") -> Config:
    return read(PIPELINES.replace("PIPELINE", pipeline).replace(" MORE", more))


@pytest.fixture
def detail(read: Read):
    """What is said of a sidecar."""

    def detail(document: str | Document, pipeline: str = "restyle") -> str:
        config = config_of(read, pipeline)
        if isinstance(document, str):
            document = parse_sidecar(document.encode())
        with pytest.raises(JobError) as caught:
            resolve(config, config.inboxes[0], document, lambda: 1)
        return caught.value.detail

    return detail


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt: x", "unknown key 'prompt'; did you mean `img2img: {prompt: …}`?"),
        ("cfg: 7", "unknown key 'cfg'; did you mean `img2img: {cfg: …}`?"),
        ("denoise: 0.5", "unknown key 'denoise'; did you mean `img2img: {denoise: …}`?"),
        ("promt: x", "unknown key 'promt'; did you mean `img2img: {prompt: …}`?"),
        ("mc_resolution: 64", "unknown key 'mc_resolution'; it is a parameter of triposr, "
         "which this pipeline does not have; it has: img2img"),
        ("originals: keep", "unknown key 'originals'; it belongs to an inbox in pipeline.yaml, "
         "not to a sidecar"),
        ("hours: 22:00-06:00", "unknown key 'hours'; it belongs to an inbox in pipeline.yaml, "
         "not to a sidecar"),
        ("device: cuda", "unknown key 'device'; it belongs into pipeline.yaml, below `runtime`, "
         "not into a sidecar"),
        ("models: {}", "unknown key 'models'; it belongs into pipeline.yaml, not into a sidecar"),
        ("pipelin: mesh", "unknown key 'pipelin'; did you mean 'pipeline'?"),
        ("img2img: {mc_resolution: 5}", "unknown key 'img2img.mc_resolution'; it is a parameter of "
         "triposr, which this pipeline does not have; it has: img2img"),
        ("img2img: {priority: 5}", "unknown key 'img2img.priority'; `priority` belongs to no "
         "stage; move it to the left, under none"),
        ("img2img: {triposr: {}}", "unknown key 'img2img.triposr'; triposr is a stage of its own; "
         "move it to the left, under no other"),
        ("img2img: {strength:0.6}", "unknown key 'img2img.strength:0.6'; a blank is missing after "
         "the colon; write `strength: 0.6`"),
        ("img2img:\n  strength:0.6", "img2img: should be a mapping of parameters to values, not "
         "'strength:0.6'; a blank is missing after the colon; write `strength: 0.6`"),
    ],
)  # fmt: skip
def test_keys_of_a_sidecar(detail, text: str, said: str):
    assert detail(text) == f"line 1: {said}"


def test_the_pipelines_own_stages_are_named_first(detail):
    assert detail("steps: 5", "twice") == (
        "line 1: unknown key 'steps'; did you mean `img2img: {steps: …}` or `again: {steps: …}`?"
    )
    assert detail("triposr: {}\nmodel: x", "mesh").endswith("did you mean `triposr: {model: …}`?")


def test_a_sidecar_of_one_line_without_a_blank():
    for text in ("strength:0.6", "strength：0.6", "strength:\u00a00.6"):
        with pytest.raises(SidecarInvalid, match=r"; .*write `strength: 0.6`"):
            parse_sidecar(text.encode())


def test_a_table_and_a_command_are_answered_in_their_own_terms(read: Read, detail):
    config = config_of(read)
    (row,) = parse_table(config.pipelines, "a.csv", b"image,prompt\na.png,x\n").rows
    document = Document({"prompt": "x"}, row.document.lines, row.document.unit)
    assert detail(document) == (
        "row 2: unknown key 'prompt'; did you mean the column `img2img.prompt`?"
    )
    assert detail(Document({"prompt": "x"}, {(): 0}, "--set")) == (
        "unknown key 'prompt'; did you mean `--set img2img.prompt=…`?"
    )


def test_a_parameter_alone_in_a_matrix():
    for key in ("strength", "cfg", "prompt"):
        with pytest.raises(SidecarInvalid) as caught:
            combinations(parse_sidecar(f"matrix: {{{key}: [1, 2]}}".encode()))
        assert caught.value.detail == (
            f"line 1: matrix.{key}: should name one parameter; did you mean img2img.{key}?"
        )
    assert len(combinations(parse_sidecar(b"matrix: {seed: [1, 2], priority: [3]}"))) == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (", prompt: x", "[0].prompt'; did you mean `defaults: {img2img: {prompt: …}}`?"),
        (", cfg: 7", "[0].cfg'; did you mean `defaults: {img2img: {cfg: …}}`?"),
        (", img2img: {}", "[0].img2img'; write it below `defaults`: `defaults: {img2img: …}`"),
        (", device: cpu", "[0].device'; it belongs below `runtime`, for all inboxes together"),
        (", tags: [a]", "[0].tags'; it belongs into a sidecar, the YAML beside an image"),
        (", recursiv: true", "[0].recursiv'; did you mean 'recursive'?"),
        (", defaults: {prompt: x}", "[0].defaults.prompt'; did you mean `img2img: {prompt: …}`?"),
        (", defaults: {originals: keep}",
         "[0].defaults.originals'; it belongs to the inbox itself; move it to the left"),
        (", defaults: {tags: [a]}",
         "[0].defaults.tags'; it belongs into a sidecar, the YAML beside an image"),
        (", defaults: {triposr: {prompt: x}}",
         "[0].defaults.triposr.prompt'; it is a parameter of img2img: write "
         "`img2img: {prompt: …}`"),
    ],
)  # fmt: skip
def test_keys_of_an_inbox(read: Read, more: str, said: str):
    with pytest.raises(ConfigError) as caught:
        config_of(read, more=more)
    assert str(caught.value).endswith(f"line 7: unknown key 'inboxes{said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("device: cpu", "'device'; it belongs below `runtime`"),
        ("outbox: o", "'outbox'; it belongs below `paths`"),
        ("originals: keep", "'originals'; it belongs to an entry of `inboxes`"),
        ("prompt: x", "'prompt'; it belongs into a sidecar, the YAML beside an image, or into a "
         "stage of `pipelines`"),
        ("tags: [a]", "'tags'; it belongs into a sidecar, the YAML beside an image, or into a "
         "stage of `pipelines`"),
        ("inboxs: []", "'inboxs'; did you mean 'inboxes'?"),
    ],
)  # fmt: skip
def test_keys_of_pipeline_yaml(read: Read, line: str, said: str):
    with pytest.raises(ConfigError) as caught:
        read(f"{PIPELINES.replace('PIPELINE MORE', 'mesh')}{line}\n")
    assert str(caught.value).endswith(f"line 8: unknown key {said}")


def test_all_slips_of_pipeline_yaml_are_told_with_the_file(read: Read):
    text = PIPELINES.replace("PIPELINE MORE", "mesh") + "a: b #1\nc: &d e\n"
    with pytest.raises(ConfigError) as caught:
        read(text)
    lines = str(caught.value).splitlines()
    assert [line.split("pipeline.yaml: ")[1][:10] for line in lines] == ["line 8: a:", "line 9: c:"]
