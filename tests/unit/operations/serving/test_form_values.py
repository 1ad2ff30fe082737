"""Parameters from the text of forms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna_pipeline.operations.serving.form_values import WrongFields, parameters_of, switch


@pytest.mark.parametrize(
    ("stage", "fields", "expected"),
    [
        ("img2img", {"steps": "20", "cfg": "7", "denoise": "1"},
         {"steps": 20, "guidance_scale": 7.0, "strength": 1.0}),
        ("img2img", {"steps": 20.0, "cfg": 7}, {"steps": 20, "guidance_scale": 7.0}),
        ("img2img", {"prompt": " 12 ", "negative_prompt": ""},
         {"prompt": " 12 ", "negative_prompt": ""}),
        ("img2img", {"seed": "-1"}, {"seed": -1}),
        ("img2img", {"seed": "from_content"}, {"seed": "from_content"}),
        ("img2img", {"seed": "9007199254740993"}, {"seed": 9007199254740993}),
        ("img2img", {"steps": "  ", "cfg": None, "sampler": "\t"}, {}),
        ("img2img", {"sampler": " Euler a "}, {"sampler": "euler_a"}),
        ("img2img", {"tile": "null"}, {"tile": None}),
        ("img2img", {"loras": {"clay": 1}}, {"loras": {"clay": 1}}),
        ("img2img", {"nothing": "1"}, {}),
        ("triposr", {"render_video": "true"}, {"turntable": True}),
        ("triposr", {"render_video": "1"}, {"turntable": True}),
        ("triposr", {"render_video": "0"}, {"turntable": False}),
        ("triposr", {"turntable": "nerf"}, {"turntable": "nerf"}),
        ("triposr", {"bake_texture": 1, "preview": 0}, {"bake_texture": True, "preview": False}),
        ("triposr", {"formats": "glb, obj"}, {"formats": ["glb", "obj"]}),
        ("triposr", {"formats": '["stl"]'}, {"formats": ["stl"]}),
        ("triposr", {"scale": "none", "origin": "null"}, {"scale": None, "origin": None}),
        ("remove_background", {"force": "on"}, {"force": True}),
    ],
)  # fmt: skip
def test_values(stage: str, fields: dict[str, Any], expected: dict[str, Any]):
    values = parameters_of(stage, fields)
    assert values == expected
    assert [type(value) for value in values.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("stage", "fields", "text"),
    [
        ("img2img", {"steps": "ten"}, "steps: should be a whole number, not 'ten'"),
        ("img2img", {"denoise": "much"}, "denoise: should be a number, not 'much'"),
        ("img2img", {"denoise": "2"}, "denoise: should be more than 0 and at most 1"),
        ("img2img", {"cfg": "nan"}, "cfg: should be a number"),
        ("img2img", {"cfg": "1" * 5000}, "cfg: should be a number"),
        ("img2img", {"cfg": "1" * 400}, "cfg: should be a number"),
        ("img2img", {"cfg": 10**400}, "cfg: is too large"),
        ("img2img", {"steps": "1.5"}, "steps: should be a whole number"),
        ("img2img", {"prompt": 5}, "prompt: should be text"),
        ("img2img", {"steps": [1]}, "steps: should be a whole number"),
        ("img2img", {"cfg": 1, "guidance_scale": 1}, "means the same"),
        ("img2img", {"loras": "[[["}, "loras: cannot be read as JSON"),
        ("triposr", {"bake_texture": "maybe"}, "bake_texture: should be true or false"),
        ("triposr", {"render_resolution": "33"}, "a multiple of 2, not 33; write 32"),
    ],
)
def test_wrong_values(stage: str, fields: dict[str, Any], text: str):
    with pytest.raises(WrongFields) as raised:
        parameters_of(stage, fields)
    assert text in str(raised.value)
    assert {problem.name for problem in raised.value.problems} <= set(fields)


def test_all_problems_at_once():
    with pytest.raises(WrongFields) as raised:
        parameters_of("img2img", {"steps": "x", "cfg": -1, "denoise": 3})
    assert {problem.name for problem in raised.value.problems} == {"steps", "cfg", "denoise"}


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
NAMES = ["seed", "steps", "cfg", "sampler_name", "mask", "tile", "loras", "mark_prompt", "prompt"]


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_any_value_is_taken_or_refused(fields: dict[str, Any]):
    try:
        parameters_of("img2img", fields)
    except WrongFields as error:
        assert error.problems


@pytest.mark.parametrize("value", ["true", "True", "1", "on", "yes", True, 1])
def test_yes(value: object):
    assert switch(value) is True


@pytest.mark.parametrize("value", ["false", "0", "OFF", "no", False, 0])
def test_no(value: object):
    assert switch(value) is False


@pytest.mark.parametrize("value", ["", "2", "ja", 2, None, []])
def test_neither(value: object):
    with pytest.raises(ValueError, match="should be true or false"):
        switch(value)
