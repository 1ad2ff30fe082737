"""The endpoints of this API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.requests import Request as HttpRequest

from dna_pipeline.interfaces.web.sdapi import answers, controlnet, lists, progress
from dna_pipeline.interfaces.web.sdapi.errors import not_done, responses, route_class
from dna_pipeline.interfaces.web.sdapi.generation import generate
from dna_pipeline.interfaces.web.sdapi.kept import change_options
from dna_pipeline.interfaces.web.sdapi.pictures import decoded
from dna_pipeline.interfaces.web.sdapi.plain_json import Json
from dna_pipeline.interfaces.web.sdapi.requests import Img2ImgRequest, PngInfoRequest
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving.result_pictures import PARAMETERS, labels_in, texts_in

PREFIX = "/sdapi/v1"

NOT_DONE = {
    "txt2img": "pictures are not made from text alone here; send one to /sdapi/v1/img2img",
    "extra-single-image": "pictures are not enlarged here; ask img2img for a larger width and "
    "height",
    "extra-batch-images": "pictures are not enlarged here; ask img2img for a larger width and "
    "height",
    "interrogate": "pictures are not described here; write the prompt yourself",
}
"""Endpoints of what this product does not do, and what to do instead."""

EMPTY = (
    "upscalers", "latent-upscale-modes", "sd-vae", "hypernetworks", "face-restorers",
    "realesrgan-models", "prompt-styles", "script-info", "extensions", "sd-modules",
)  # fmt: skip
"""Endpoints of lists that have no entries, since there are no such things here."""

DONE_WITHOUT = (
    "refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings",
    "unload-checkpoint", "reload-checkpoint",
)  # fmt: skip
"""Endpoints that ask for what happens by itself: folders are looked at whenever something is asked
of them, and models come and go as jobs need them."""


def make_router(site: Site) -> APIRouter:
    """Make the routes of this API and of ControlNet's, which is a part of it for programs."""
    router = APIRouter(tags=["sdapi"], route_class=route_class(site))
    _add_generation(router, site)
    _add_lists(router, site)
    _add_control(router, site)
    controlnet.add_routes(router)
    return router


def _add_generation(router: APIRouter, site: Site) -> None:
    @router.post(
        f"{PREFIX}/img2img",
        response_model=answers.GenerationAnswer,
        responses=responses(400, 404, 409, 422, 503),
        description="Redraw a picture, and wait for the result",
    )
    async def img2img(http: HttpRequest, request: Img2ImgRequest) -> Json:
        return Json(await generate(site, http, request))

    @router.post(
        f"{PREFIX}/png-info",
        responses=responses(400, 422),
        description="Read how a picture was made",
    )
    def png_info(request: PngInfoRequest) -> answers.PngInfoAnswer:
        texts = texts_in(decoded(request.image, "image"))
        text = texts.pop(PARAMETERS, "")
        return answers.PngInfoAnswer(info=text, items=texts, parameters=labels_in(text))

    for name, detail in NOT_DONE.items():
        _add_not_done(router, f"{PREFIX}/{name}", detail)


def _add_not_done(router: APIRouter, path: str, detail: str) -> None:
    @router.post(path, include_in_schema=False)
    def refuse() -> None:
        raise not_done(detail)


def _add_lists(router: APIRouter, site: Site) -> None:
    get = _getter(router)

    @get(f"{PREFIX}/sd-models", "Checkpoints", 503)
    def sd_models() -> list[answers.CheckpointAnswer]:
        return lists.checkpoints(site)

    @get(f"{PREFIX}/samplers", "Samplers")
    def samplers() -> list[answers.SamplerAnswer]:
        return lists.samplers()

    @get(f"{PREFIX}/schedulers", "Schedules")
    def schedulers() -> list[answers.SchedulerAnswer]:
        return lists.schedulers()

    @get(f"{PREFIX}/loras", "LoRAs", 503)
    def loras() -> list[answers.LoraAnswer]:
        return lists.loras(site)

    @get(f"{PREFIX}/embeddings", "Textual inversions", 503)
    def embeddings() -> answers.EmbeddingsAnswer:
        return lists.embeddings(site)

    @get(f"{PREFIX}/scripts", "Scripts")
    def scripts() -> answers.ScriptsAnswer:
        return answers.ScriptsAnswer(txt2img=[], img2img=[])

    @get(f"{PREFIX}/cmd-flags", "Settings of the server's start")
    def cmd_flags() -> dict[str, Any]:
        return {"api": True, "nowebui": True, "enable_insecure_extension_access": False}

    @get(f"{PREFIX}/memory", "Memory, which is not watched here")
    def memory() -> answers.MemoryAnswer:
        said = {"error": "not watched here"}
        return answers.MemoryAnswer(ram=said, cuda=said)

    for name in EMPTY:
        _add_empty(router, f"{PREFIX}/{name}")


def _add_empty(router: APIRouter, path: str) -> None:
    @_getter(router)(path, "An empty list")
    def empty() -> list[answers.NamedAnswer]:
        return []


def _add_control(router: APIRouter, site: Site) -> None:
    get = _getter(router)

    @get(f"{PREFIX}/options", "Options that count for requests which override none", 503)
    def read_options() -> dict[str, Any]:
        return lists.options(site)

    @router.post(
        f"{PREFIX}/options",
        responses=responses(400, 404, 422, 503),
        description="Set options for all later requests",
    )
    def set_options(options: Annotated[dict[str, Any], Body()]) -> None:
        change_options(site, options)

    @get(f"{PREFIX}/progress", "How far the request is", 503)
    def read_progress() -> answers.ProgressAnswer:
        return progress.progress_of(site)

    @router.post(
        f"{PREFIX}/interrupt",
        responses=responses(503),
        description="Cancel the request",
    )
    def interrupt() -> dict[str, Any]:
        progress.interrupt(site)
        return {}

    @router.post(
        f"{PREFIX}/skip", responses=responses(503), description="Cancel the picture that is at work"
    )
    def skip() -> None:
        progress.skip(site)

    @get("/internal/ping", "A sign of life")
    def ping() -> dict[str, Any]:
        return {}

    for name in DONE_WITHOUT:
        _add_done_without(router, f"{PREFIX}/{name}")


def _add_done_without(router: APIRouter, path: str) -> None:
    @router.post(path, description="Nothing needs to be done")
    def do_nothing() -> dict[str, Any]:
        return {}


def _getter(router: APIRouter) -> Any:
    """Make a decorator for endpoints that answer GET, and HEAD too, which some programs send to
    find out whether the server is there."""

    def get(path: str, description: str, *statuses: int) -> Any:
        def add(endpoint: Any) -> Any:
            router.get(path, description=description, responses=responses(*statuses))(endpoint)
            router.head(path, include_in_schema=False)(endpoint)
            return endpoint

        return add

    return get
