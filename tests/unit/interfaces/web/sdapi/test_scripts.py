"""Scripts and extensions that requests name: what passes, what is said, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from dna_pipeline.interfaces.web.sdapi.errors import Refusal
from dna_pipeline.interfaces.web.sdapi.requests import Img2ImgRequest
from dna_pipeline.interfaces.web.sdapi.scripts import check_scripts


def warnings_of(**request: Any) -> list[str]:
    warnings: list[str] = []
    check_scripts(Img2ImgRequest.model_validate(request), warnings)
    return warnings


CANNY = "control_v11p_sd15_canny [d14c016b]"
OFF: list[Any] = [
    {"enabled": False, "module": "canny", "model": CANNY},
    {"enabled": True, "module": "none", "model": "None"},
    {"module": "canny", "model": None},
    {"module": "None", "model": ""},
    {},
    None,
    [False, "canny", CANNY, 1.0],
    [True, "none", "None"],
    [],
    "canny",
]
ON: list[Any] = [
    {"enabled": True, "module": "canny", "model": CANNY, "image": "aaaa"},
    {"module": "depth", "model": "depth"},
    {"input_image": "aaaa", "module": "none", "model": CANNY, "guidance": 1.0},
    {"module": "reference_only", "model": "None"},
    [True, "canny", CANNY, 1.0],
]


@pytest.mark.parametrize("unit", OFF)
@pytest.mark.parametrize("name", ["controlnet", "ControlNet"])
def test_units_of_controlnet_that_do_nothing_pass(name: str, unit: Any):
    assert warnings_of(alwayson_scripts={name: {"args": [unit, unit]}}) == []
    assert warnings_of(controlnet_units=[unit]) == []


@pytest.mark.parametrize("unit", ON)
def test_units_that_would_do_something_are_refused(unit: Any):
    for request in (
        {"alwayson_scripts": {"ControlNet": {"args": [OFF[0], unit]}}},
        {"controlnet_units": [unit]},
    ):
        with pytest.raises(Refusal, match="ControlNet is not done here") as caught:
            warnings_of(**request)
        assert (caught.value.status, caught.value.code) == (422, "controlnet_not_supported")


@pytest.mark.parametrize("content", [None, {}, {"args": []}, {"args": None}, [], "x", 5])
def test_a_controlnet_without_units_passes(content: Any):
    assert warnings_of(alwayson_scripts={"controlnet": content}) == []


@pytest.mark.parametrize(
    ("content", "is_said"),
    [
        ({"args": [False]}, False),
        ({"args": []}, False),
        (None, False),
        ({"args": [{"ad_model": "None"}]}, False),
        ({"args": [{"enabled": False}]}, False),
        ({"args": [True, {"ad_model": "face_yolov8n.pt"}]}, True),
        ({"args": [{"ad_model": "face_yolov8n.pt"}]}, True),
    ],
)
def test_other_extensions_are_said_if_they_would_do_something(content: Any, is_said: bool):
    warnings = warnings_of(alwayson_scripts={"ADetailer": content})
    assert warnings == (["The script 'ADetailer' had no effect: there is none here."] * is_said)


@pytest.mark.parametrize("name", [None, "", "None", " "])
def test_no_script(name: str | None):
    assert warnings_of(script_name=name, script_args=[]) == []


@pytest.mark.parametrize("name", ["SD upscale", "<script>", "x" * 10_000])
def test_a_script_is_refused(name: str):
    with pytest.raises(Refusal, match="there is no script") as caught:
        warnings_of(script_name=name)
    assert caught.value.status == 422
    assert len(caught.value.detail) < 200
