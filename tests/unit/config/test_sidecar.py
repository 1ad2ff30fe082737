"""What one job is to do: who has a say in it, and what a wrong sidecar is told."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna_pipeline.base.errors import (
    ConfigError,
    JobError,
    NoEffectiveSteps,
    ParameterInvalid,
    SidecarInvalid,
    UnknownModel,
    UnknownPipeline,
)
from dna_pipeline.config.schema import Config, parse_time
from dna_pipeline.config.sidecar import (
    JobSpec,
    ResolvedStage,
    parse_sidecar,
    resolve,
)
from dna_pipeline.config.yaml12 import Document

PIPELINES = """\
version: 1
models:
  sd15: {provider: diffusers, path: sd}
  anime: {provider: diffusers, path: an}
  sculptor: {provider: triposr, path: tsr}
  matte: {provider: rembg}
pipelines:
  restyle: [{img2img: {model: sd15, steps: 30, denoise: 0.5, seed: 9}}]
  twice:
    - {img2img: {model: sd15, steps: 10}}
    - {img2img: {model: sd15, id: again, strength: 0.4}}
  mesh: [{remove_background: {}}, {triposr: {high: 50}}]
inboxes:
"""

Resolve = Callable[..., JobSpec]


def no_draw() -> int:
    raise AssertionError("nothing is left to chance here")


@pytest.fixture
def job(read: Callable[[str], Config]) -> Resolve:
    """Resolves a sidecar's text for an inbox with these keys."""

    def job(text: str | None, *, inbox: str = "pipeline: restyle", draw=no_draw) -> JobSpec:
        config = read(f"{PIPELINES}  - {{path: in, {inbox}}}")
        document = None if text is None else parse_sidecar(text.encode())
        return resolve(config, config.inboxes[0], document, draw)

    return job


@pytest.fixture
def params(job: Resolve):
    """The parameters of the first stage that differ from the stage's own defaults."""

    own = {"seed": 42, "steps": 20, "guidance_scale": 7.5, "strength": 0.75, "prompt": "",
           "sampler": "euler", "model": "sd15", "metadata": "full", "reuse": "on"}  # fmt: skip

    def params(text: str | None, **more) -> dict:
        return {k: v for k, v in job(text, **more).stages[0].params.items() if own[k] != v}

    return params


# --- precedence ---


def test_without_a_sidecar(job: Resolve):
    expected = {
        "model": "sd15",
        "metadata": "full",
        "reuse": "on",
        "prompt": "",
        "seed": 9,
        "steps": 30,
        "guidance_scale": 7.5,
        "strength": 0.5,
        "sampler": "euler",
    }
    assert job(None) == JobSpec("restyle", (ResolvedStage("img2img", "img2img", expected),))
    assert job("") == job("# nothing\n") == job("img2img:\n") == job("{}") == job(None)


def test_every_layer_has_its_say(params):
    pipeline = {"steps": 30, "strength": 0.5, "seed": 9}
    inbox = "pipeline: restyle, defaults: {img2img: {steps: 40, sampler: ddim, cfg: 3}}"
    defaults = pipeline | {"steps": 40, "sampler": "ddim", "guidance_scale": 3}
    sidecar = "img2img: {steps: 50, sampler: euler_a, prompt: a cat}"
    told = defaults | {"steps": 50, "sampler": "euler_a", "prompt": "a cat"}
    assert params(None) == pipeline
    assert params(None, inbox=inbox) == defaults
    assert params(sidecar, inbox=inbox) == told


def test_spellings_override_one_another_across_layers(params):
    inbox = "pipeline: restyle, defaults: {img2img: {cfg: 3, strength: 0.6}}"
    assert params(None, inbox=inbox)["guidance_scale"] == 3
    told = params("img2img: {guidance_scale: 4, denoise: 0.9}", inbox=inbox)
    assert (told["guidance_scale"], told["strength"]) == (4, 0.9)
    inbox = "pipeline: restyle, defaults: {img2img: {guidance_scale: 3}}"
    assert params("img2img: {cfg: 0.5}", inbox=inbox)["guidance_scale"] == 0.5


def test_two_stages_of_one_type(job: Resolve):
    def of(text: str, name: str, defaults: str = "") -> list:
        inbox = f"pipeline: twice, defaults: {{{defaults}}}"
        return [stage.params[name] for stage in job(text, inbox=inbox).stages]

    assert of("", "steps") == [10, 20]
    assert of("img2img: {steps: 50}", "steps") == [50, 50]
    assert of("again: {steps: 50}", "steps") == [10, 50]
    assert of("again: {steps: 60}\nimg2img: {steps: 50}", "steps") == [50, 60]
    assert of("", "steps", "img2img: {steps: 5}, again: {steps: 6}") == [5, 6]
    assert of("img2img: {steps: 7}", "steps", "again: {steps: 6}") == [7, 7]
    assert of("", "guidance_scale", "again: {cfg: 2}") == [7.5, 2]
    assert of("img2img: {prompt: a}\nagain: {prompt: b}", "prompt") == ["a", "b"]


def test_ids_and_types_of_the_result(job: Resolve):
    stages = job("", inbox="pipeline: twice").stages
    assert [(s.id, s.type) for s in stages] == [("img2img", "img2img"), ("again", "img2img")]


def test_a_stage_that_is_left_out(job: Resolve):
    mesh = job("remove_background: false", inbox="pipeline: mesh")
    assert [stage.id for stage in mesh.stages] == ["triposr"]
    twice = job("img2img: false\nagain: {steps: 7}", inbox="pipeline: twice")
    assert [(stage.id, stage.params["steps"]) for stage in twice.stages] == [("again", 7)]
    assert [stage.id for stage in job("again: false", inbox="pipeline: twice").stages] == [
        "img2img"
    ]


@pytest.mark.parametrize(
    ("text", "inbox", "message"),
    [
        ("triposr: false", "mesh", "triposr: should be a mapping of parameters to values"),
        ("img2img: false", "restyle", "img2img: leaves out the last stage of the pipeline"),
        ("remove_background: true", "mesh", "remove_background: should be a mapping"),
        ("remove_background: 0", "mesh", "remove_background: should be a mapping"),
    ],
)
def test_a_stage_that_cannot_be_left_out(job: Resolve, text: str, inbox: str, message: str):
    with pytest.raises(ParameterInvalid) as raised:
        job(text, inbox=f"pipeline: {inbox}")
    assert message in raised.value.detail


def test_the_model(job: Resolve, params):
    assert params("img2img: {model: anime}")["model"] == "anime"
    assert "model" not in params("img2img: {model: }")
    inbox = "pipeline: restyle, defaults: {img2img: {model: anime}}"
    assert params("img2img: {model: null}", inbox=inbox)["model"] == "anime"
    with pytest.raises(UnknownModel) as caught:
        job("\nimg2img:\n  model: animee")
    assert caught.value.detail == (
        "line 3: img2img.model: no model is called 'animee'; did you mean 'anime'?"
    )
    with pytest.raises(UnknownModel) as caught:
        job("again: {model: matte}", inbox="pipeline: twice")
    assert caught.value.detail == (
        "line 1: again.model: the model 'matte' is not one for img2img; "
        "known here: anime, sd15"
    )  # fmt: skip


def test_the_pipeline(job: Resolve):
    assert job("pipeline: mesh").pipeline == "mesh"
    assert [stage.type for stage in job("pipeline: mesh").stages] == [
        "remove_background",
        "triposr",
    ]
    with pytest.raises(UnknownPipeline) as caught:
        job("priority: 1\npipeline: mush")
    assert caught.value.detail == ("line 2: no pipeline is called 'mush'; did you mean 'mesh'?")
    with pytest.raises(
        UnknownPipeline, match=r"line 1: no pipeline is called ''; known here: mesh"
    ):
        job("pipeline: ''")


def test_a_pipeline_that_is_gone_from_the_configuration(read):
    config = read(f"{PIPELINES}  - {{path: in, pipeline: mesh}}")
    inbox = replace(config.inboxes[0], pipeline="gone")
    with pytest.raises(UnknownPipeline) as caught:
        resolve(config, inbox, None, no_draw)
    assert caught.value.detail == ("no pipeline is called 'gone'; known here: mesh, restyle, twice")


# --- seeds ---


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("", [42, 42]),
        ("seed: 5", [5, 5]),
        ("seed: 5\nagain: {seed: 6}", [5, 6]),
        ("seed: 5\nimg2img: {seed: 6}", [6, 6]),
        ("seed: 0", [0, 0]),
        ("seed: 4294967295", [4294967295] * 2),
    ],
)
def test_seeds(job: Resolve, text: str, seeds: list[int]):
    stages = job(text, inbox="pipeline: twice").stages
    assert [stage.params["seed"] for stage in stages] == seeds


def test_the_seed_of_the_sidecar_comes_before_those_of_pipeline_and_defaults(params):
    inbox = "pipeline: restyle, defaults: {img2img: {seed: 8}}"
    assert params("", inbox=inbox)["seed"] == 8
    assert params("seed: 7", inbox=inbox)["seed"] == 7


def test_negative_seeds_are_drawn_and_recorded(job: Resolve):
    numbers = iter([11, 22, 33])
    stages = job("seed: -1", inbox="pipeline: twice", draw=lambda: next(numbers)).stages
    assert [stage.params["seed"] for stage in stages] == [11, 22]
    stages = job("again: {seed: -1}", inbox="pipeline: twice", draw=lambda: next(numbers)).stages
    assert [stage.params["seed"] for stage in stages] == [42, 33]


def test_nothing_is_drawn_for_a_job_that_fails(job: Resolve):
    for text in ("seed: -1\nagain: {model: no}", "seed: -1\nagain: {steps: 1}"):
        with pytest.raises(JobError):
            job(text, inbox="pipeline: twice", draw=no_draw)


def test_a_seed_without_a_stage_that_takes_one(job: Resolve):
    assert all("seed" not in s.params for s in job("seed: 5", inbox="pipeline: mesh").stages)


def test_a_seed_that_the_stage_does_not_take_is_told_by_its_own_line(job: Resolve):
    with pytest.raises(ParameterInvalid) as caught:
        job("img2img: {steps: 3}\nseed: -7", inbox="pipeline: twice")
    assert caught.value.detail == (
        "line 2: seed: should be at least -1 and less than 4294967296 or 'from_content', not -7"
    )


# --- the head ---


def test_the_head(job: Resolve):
    spec = job(
        "image: cat.png\npriority: -5\nnot_before: 2026-12-01T22:00:00+01:00\n"
        "tags: [hero, 'no']\nmeta: {asset: chair_01, n: [1, {x: null}], when: 22:00}"
    )
    assert spec.priority == -5
    assert spec.not_before == datetime(2026, 12, 1, 21, tzinfo=UTC)
    assert spec.tags == ("hero", "no")
    assert spec.meta == {"asset": "chair_01", "n": [1, {"x": None}], "when": "22:00"}


def test_the_priority_takes_the_place_of_the_inboxs(job: Resolve):
    inbox = "pipeline: restyle, priority: 3"
    assert job("", inbox=inbox).priority == 3
    assert job("priority: 0", inbox=inbox).priority == 0


def test_keys_with_nothing_after_them_are_as_if_not_written(job: Resolve):
    text = "image:\npipeline:\npriority:\nnot_before:\nseed:\ntags:\nmeta:\nimg2img:\n"
    assert job(text) == job(None)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-12-01T22:00:00+01:00", "2026-12-01T21:00:00+00:00"),
        ("2026-12-01T22:00:00Z", "2026-12-01T22:00:00+00:00"),
        ("2026-12-01T22:00:00.25-09:30", "2026-12-02T07:30:00.250000+00:00"),
        ("2026-12-01 22:00", "2026-12-01T21:00:00+00:00"),
        ("2026-07-01T22:00:00", "2026-07-01T20:00:00+00:00"),
        ("2026-07-01", "2026-06-30T22:00:00+00:00"),
    ],
)
def test_times(berlin, text: str, utc: str):
    assert parse_time(text).isoformat() == utc


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["", "tomorrow", "22:00", "2026-W01-1", "20261201", "2026-13-01", "2026-12-01T25:00",
             "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "２０26-12-01"]
)  # fmt: skip
def test_no_times(job: Resolve, text: str):
    with pytest.raises(ValueError, match=r"^should be a date and time like"):
        parse_time(text)
    with pytest.raises(ParameterInvalid) as caught:
        job(f"not_before: '{text}'")
    assert caught.value.detail == (
        f"line 1: not_before: should be a date and time like 2026-12-01T22:00:00+01:00, "
        f"not {text!r}"
    )


# --- what is wrong with a sidecar ---


def test_wrong_keys(job: Resolve, cases):
    table = cases(
        r"""
    pipline: x
        unknown key 'pipline'; did you mean 'pipeline'?
    Priority: 1
        unknown key 'Priority'; did you mean 'priority'?
    image_s: [a]
        unknown key 'image_s'; did you mean 'images'?
    img2image: {}
        unknown key 'img2image'; did you mean 'img2img'?
    triposr: {}
        the pipeline 'restyle' has no stage 'triposr'; it has: img2img
    decimate: {}
        the pipeline 'restyle' has no stage 'decimate'; it has: img2img
    again: {steps: 2}
        the pipeline 'restyle' has no stage 'again'; it has: img2img
    img2img.steps: 3
        unknown key 'img2img.steps'; write it as `img2img: {steps: …}`
    img2img: {stps: 3}
        unknown key 'img2img.stps'; did you mean 'steps'?
    img2img: {id: a}
        unknown key 'img2img.id'; known here: cfg, denoise, guidance_scale, metadata, model,
        positive_prompt, prompt, reuse, sampler, seed, steps, strength
    img2img: {cfg: 1, guidance_scale: 2}
        'img2img.guidance_scale' means the same as 'cfg'; keep one
    img2img: {cfg: 1, cfg: 2}
        the key 'cfg' stands here twice, first in line 1; keep one
    'a\b': 1
        unknown key 'a\b'; known here: count, image, images, img2img, matrix, max_failures,
        meta, metadata, not_before, on_duplicate, pipeline, priority, result_name, reuse,
        seed, seed_offset, tags
    "\e[31m": 1
        unknown key '\x1b[31m'; known here: count, image, images, img2img, matrix, max_failures,
        meta, metadata, not_before, on_duplicate, pipeline, priority, result_name, reuse,
        seed, seed_offset, tags
    - image
        should be keys with values, like `img2img: {strength: 0.6}`, not a list
    a cat
        should be keys with values, like `img2img: {strength: 0.6}`, not 'a cat'
    img2img: *x
        the alias *x has no anchor before it; put text that begins with * in quotes
    """
    )
    for text, detail in table.items():
        with pytest.raises(SidecarInvalid) as caught:
            job(text)
        assert caught.value.detail == f"line 1: {detail}"


def test_wrong_values(job: Resolve, cases):
    table = cases(
        r"""
    img2img: 5
        img2img: should be a mapping of parameters to values, not 5
    img2img: [steps]
        img2img: should be a mapping of parameters to values, not a list
    img2img: {steps: 0}
        img2img.steps: should be from 1 to 150, not 0
    img2img: {steps: true}
        img2img.steps: should be a whole number from 1 to 150, not true
    img2img: {steps: 2.0}
        img2img.steps: should be a whole number from 1 to 150, not 2.0; write 2
    img2img: {steps: '20'}
        img2img.steps: should be a whole number from 1 to 150, not '20'; write 20,
        in plain digits and without quotes
    img2img: {steps: 1e1}
        img2img.steps: should be a whole number from 1 to 150, not 10.0; write 10
    img2img: {cfg: true}
        img2img.cfg: should be a number from 0 to 30, not true
    img2img: {cfg: .nan}
        img2img.cfg: should be from 0 to 30, not .nan
    img2img: {denoise: .inf}
        img2img.denoise: should be more than 0 and at most 1, not .inf
    img2img: {strength: 1e999}
        img2img.strength: should be more than 0 and at most 1, not .inf
    img2img: {prompt: 5}
        img2img.prompt: should be text, not 5; put it in quotes
    img2img: {prompt: }
        img2img.prompt: should be text, not null; write "" for no text, or leave the key out
    img2img: {prompt: [a]}
        img2img.prompt: should be text, not a list; write a without brackets or a dash
    img2img: {sampler: Eular}
        img2img.sampler: should be 'euler', 'euler_a' or 'ddim', not 'Eular'; did you mean
        'euler'?
    img2img: {sampler: 'null'}
        img2img.sampler: should be 'euler', 'euler_a' or 'ddim', not 'null'
    img2img: {model: 5}
        img2img.model: should be text, not 5; put it in quotes
    pipeline: 5
        pipeline: should be text, not 5; put it in quotes
    image: [a]
        image: should be text, not a list; write a without brackets or a dash
    priority: high
        priority: should be a whole number from -1000000 to 1000000, not 'high'
    priority: 1000001
        priority: should be from -1000000 to 1000000, not 1000001
    seed: 9223372036854775808
        seed: should be from -9223372036854775808 to 9223372036854775807 or
        'from_content', not 9223372036854775808
    seed: 4294967296
        seed: should be at least -1 and less than 4294967296 or 'from_content', not 4294967296
    seed: 1.5
        seed: should be a whole number from -9223372036854775808 to 9223372036854775807 or
        'from_content', not 1.5
    seed: from_contents
        seed: should be a whole number from -9223372036854775808 to 9223372036854775807 or
        'from_content', not 'from_contents'; did you mean 'from_content'?
    seed: true
        seed: should be a whole number from -9223372036854775808 to 9223372036854775807 or
        'from_content', not true
    not_before: 5
        not_before: should be text, not 5; put it in quotes
    tags: hero
        tags: should be a list, not 'hero'; write [hero]
    tags: [2024]
        tags[0]: should be text, not 2024; put it in quotes
    meta: [a]
        meta: should be a mapping, not a list
    meta: {a: [1, .nan]}
        meta.a[1]: should be a finite number, not .nan
    meta: {a: {b: -.inf}}
        meta.a.b: should be a finite number, not -.inf
    """
    )
    for text, detail in table.items():
        with pytest.raises(ParameterInvalid) as caught:
            job(text)
        assert caught.value.detail == f"line 1: {detail}"


def test_huge_numbers(job: Resolve):
    zeros = "0" * 56
    for key, wanted in (("steps", "from 1 to 150"), ("cfg", "a number from 0 to 30")):
        with pytest.raises(ParameterInvalid) as caught:
            job(f"img2img: {{{key}: 1{'0' * 900}}}")
        assert caught.value.detail == f"line 1: img2img.{key}: should be {wanted}, not 1{zeros}…"


def test_a_wrong_pipeline_hides_what_depends_on_it(job: Resolve):
    with pytest.raises(ParameterInvalid) as caught:
        job("pipeline: 5\ntriposr: {}")
    assert caught.value.detail == "line 1: pipeline: should be text, not 5; put it in quotes"


def test_infinity_where_the_stage_sets_no_bounds(job: Resolve):
    with pytest.raises(ParameterInvalid) as caught:
        job("triposr:\n  threshold: 1e999", inbox="pipeline: mesh")
    assert caught.value.detail == "line 2: triposr.threshold: should be a finite number, not .inf"


def test_a_value_that_may_be_several_things(job: Resolve):
    for value in ("true", "nerf"):
        assert job(f"triposr: {{turntable: {value}}}", inbox="pipeline: mesh")
    for value in ("1", "yes", "1.0"):
        with pytest.raises(ParameterInvalid, match="should be true or false or 'mesh' or 'nerf'"):
            job(f"triposr: {{turntable: {value}}}", inbox="pipeline: mesh")


def test_all_problems_at_once_in_line_order(job: Resolve):
    text = "img2img:\n  stps: 3\n  strength: 2\nagain:\n  steps: x\nseed: x\nmeta: {a: .inf}\nz: 1"
    with pytest.raises(SidecarInvalid) as caught:
        job(text, inbox="pipeline: twice")
    assert caught.value.detail.splitlines() == [
        "line 2: unknown key 'img2img.stps'; did you mean 'steps'?",
        "line 3: img2img.strength: should be more than 0 and at most 1, not 2",
        "line 5: again.steps: should be a whole number from 1 to 150, not 'x'",
        "line 6: seed: should be a whole number from -9223372036854775808 to "
        "9223372036854775807 or 'from_content', not 'x'; -1 draws one for each job, "
        "from_content makes one of the image's bytes",
        "line 7: meta.a: should be a finite number, not .inf",
        "line 8: unknown key 'z'; known here: again, count, image, images, img2img, matrix, "
        "max_failures, meta, metadata, not_before, on_duplicate, pipeline, priority, "
        "result_name, reuse, seed, seed_offset, tags",
    ]


def test_values_that_do_not_go_together(job: Resolve, read):
    with pytest.raises(NoEffectiveSteps, match=r"steps 2 × strength 0.4"):
        job("img2img: {steps: 2}", inbox="pipeline: twice")
    with pytest.raises(ParameterInvalid) as caught:
        job("\ntriposr: {low: 60}", inbox="pipeline: mesh")
    assert caught.value.detail == (
        "line 2: triposr: low is above high (with the values that apply besides)"
    )
    job("triposr: {low: 40}", inbox="pipeline: mesh")


def test_a_fault_that_is_not_the_sidecars_names_none_of_its_lines(read):
    config = read(f"{PIPELINES}  - {{path: in, pipeline: mesh}}")
    inbox = replace(config.inboxes[0], defaults={"triposr": {"resolution": 5}})
    expected = (
        "triposr.resolution: should be from 16 to 512, not 5 (with the values that apply besides)"
    )
    for text in (None, "priority: 5", "triposr: {}"):
        document = None if text is None else parse_sidecar(text.encode())
        with pytest.raises(ParameterInvalid) as caught:
            resolve(config, inbox, document, no_draw)
        assert caught.value.detail == expected
    assert resolve(config, inbox, parse_sidecar(b"triposr: {mc_resolution: 64}"), no_draw)


def test_a_required_parameter_that_nothing_sets(read):
    config = read(f"{PIPELINES}  - {{path: in, pipeline: mesh}}")
    mesh = config.pipelines["mesh"]
    bare = replace(mesh.stages[1], id="decimate", type="decimate", params={"model": "sculptor"})
    pipelines = {"mesh": replace(mesh, stages=(*mesh.stages, bare))}
    config = replace(config, pipelines=pipelines)
    with pytest.raises(SidecarInvalid, match=r"the key 'decimate.faces' is missing"):
        resolve(config, config.inboxes[0], None, no_draw)
    spec = resolve(config, config.inboxes[0], parse_sidecar(b"decimate: {faces: 9}"), no_draw)
    expected = {"model": "sculptor", "metadata": "full", "reuse": "on", "faces": 9}
    assert spec.stages[2].params == expected


def test_text_that_cannot_be_stored(read):
    """From JSON, which can hold half a surrogate pair where YAML cannot."""
    config = read(f"{PIPELINES}  - {{path: in, pipeline: mesh}}")
    for meta in ({"a": "\ud800"}, {"\ud800": 1}):
        with pytest.raises(ParameterInvalid, match="should be text that UTF-8 can hold"):
            resolve(config, config.inboxes[0], Document({"meta": meta}, {}), no_draw)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "".join(f"key{i}: 1\n" for i in range(20_000)),
        "img2img:\n" + "".join(f" key{i}: 1\n" for i in range(20_000)),
        "meta: [" + ".nan," * 40_000 + "]",
        "meta: {a: [" + ".nan," * 40_000 + "]}",
        "tags: [" + "1," * 40_000 + "]",
    ],
    ids=lambda text: text[:9],
)
def test_of_a_hundred_thousand_faults_the_detail_is_short(read, text: str):
    config = read(f"{PIPELINES}  - {{path: in, pipeline: twice}}")
    with pytest.raises((SidecarInvalid, ParameterInvalid)) as caught:
        resolve(config, config.inboxes[0], parse_sidecar(text.encode()), no_draw)
    assert len(caught.value.detail) < 10_000


@pytest.mark.slow
def test_no_input_is_worse_than_a_job_error(read):
    config = read(f"{PIPELINES}  - {{path: in, pipeline: twice}}")
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    names = st.sampled_from(
        ["img2img", "again", "triposr", "seed", "meta", "tags", "priority", "not_before", "model",
         "image", "pipeline", "steps", "cfg", "strength", "prompt", "sampler", "x", ""]
    )  # fmt: skip
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
        max_leaves=8,
    )

    @given(st.dictionaries(names, values, max_size=5))
    def check(value: dict):
        try:
            spec = resolve(config, config.inboxes[0], Document(value, {}), lambda: 1)
        except (SidecarInvalid, ParameterInvalid, UnknownPipeline, UnknownModel, NoEffectiveSteps):
            return
        json.dumps([stage.params for stage in spec.stages] + [spec.meta], allow_nan=False).encode()
        assert not any(
            isinstance(x, float) and math.isnan(x) for x in spec.stages[0].params.values()
        )

    check()


# --- reading ---


def test_a_sidecar_that_is_no_yaml():
    with pytest.raises(SidecarInvalid) as caught:
        parse_sidecar(b"img2img:\n\tsteps: 3")
    assert caught.value.detail.startswith("line 2: ")
    assert caught.value.detail.endswith("indent with spaces, not with tabs")
    with pytest.raises(SidecarInvalid, match=r"larger than 1024 KiB"):
        parse_sidecar(b"#" * (1 << 20) + b"#")


def test_the_name_of_the_result(job: Resolve) -> None:
    inbox = 'pipeline: restyle, result_name: "{inbox}-{img2img.steps}-{meta.asset}"'
    assert job(None).result_name is None
    assert job(None, inbox=inbox).result_name == "in-30"
    assert job("meta: {asset: a/b}", inbox=inbox).result_name == "in-30-a_b"
    own = 'result_name: "{img2img.denoise}_{seed}"\nimg2img: {strength: 0.4}'
    assert job(own, inbox=inbox).result_name == "0.4_9"
    assert job("pipeline: mesh", inbox=inbox).result_name == "in"
    assert job(own).identity() == job("img2img: {strength: 0.4}").identity()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{stme}", r"line 1: result_name: unknown placeholder \{stme\}; did you mean 'stem'\?"),
        ("{triposr.scale}", r"unknown placeholder \{triposr.scale\}; known here: .*img2img.steps"),
        ("{meta.asset}", r"\{meta.asset\} has no value here"),
        ("{stem", r"the \{ at character 1 has no partner; for a brace write \{\{"),
    ],
)
def test_a_name_of_the_result_that_cannot_be_made(job: Resolve, text: str, message: str) -> None:
    with pytest.raises(ParameterInvalid, match=message):
        job(f'result_name: "{text}"')


def test_the_name_of_an_inboxs_results_is_checked(read: Callable[[str], Config]) -> None:
    entry = '  - {path: in, pipeline: restyle, result_name: "{triposr.low}-{img2img.strenght}"}'
    with pytest.raises(ConfigError, match=r"result_name: .*\{img2img.strenght\}; did you mean"):
        read(PIPELINES + entry)
