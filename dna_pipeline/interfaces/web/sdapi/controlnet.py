"""The endpoints of the extension ControlNet, which programs ask whether it is there."""

from __future__ import annotations

from fastapi import APIRouter

from dna_pipeline.interfaces.web.sdapi import answers
from dna_pipeline.interfaces.web.sdapi.errors import not_done

PREFIX = "/controlnet"
NOT_HERE = "ControlNet is not done here; redraw the picture by /sdapi/v1/img2img without it"


def add_routes(router: APIRouter) -> None:
    """Add the endpoints to a router."""

    @router.get(f"{PREFIX}/version", description="0: there is no ControlNet")
    def version() -> answers.VersionAnswer:
        return answers.VersionAnswer(version=0)

    @router.get(f"{PREFIX}/model_list", description="Models of ControlNet: none")
    def model_list() -> answers.ModelListAnswer:
        return answers.ModelListAnswer(model_list=[])

    @router.get(f"{PREFIX}/module_list", description="Preprocessors of ControlNet: none")
    def module_list() -> answers.ModuleListAnswer:
        return answers.ModuleListAnswer(
            module_list=["none"], module_detail={"none": {"model_free": False, "sliders": []}}
        )

    @router.get(f"{PREFIX}/control_types", description="Kinds of ControlNet: none")
    def control_types() -> answers.ControlTypesAnswer:
        every = {
            "module_list": ["none"], "model_list": ["None"], "default_option": "none",
            "default_model": "None",
        }  # fmt: skip
        return answers.ControlTypesAnswer(control_types={"All": every})

    for name in ("detect", "img2img", "txt2img"):
        _add_not_here(router, f"{PREFIX}/{name}")


def _add_not_here(router: APIRouter, path: str) -> None:
    @router.post(path, include_in_schema=False)
    def refuse() -> None:
        raise not_done(NOT_HERE)
