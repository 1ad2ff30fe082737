"""Redrawing of pictures: a request becomes jobs, and their results become its answer."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from starlette.requests import Request as HttpRequest

from dna_pipeline.interfaces.web.files import look_up
from dna_pipeline.interfaces.web.sdapi.errors import Refusal
from dna_pipeline.interfaces.web.sdapi.info import Generated, info_of
from dna_pipeline.interfaces.web.sdapi.kept import read_options
from dna_pipeline.interfaces.web.sdapi.pictures import decoded, encoded, ending_of
from dna_pipeline.interfaces.web.sdapi.plain_json import plain
from dna_pipeline.interfaces.web.sdapi.requests import Img2ImgRequest
from dna_pipeline.interfaces.web.sdapi.translation import Surroundings, Translation, translate
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.interfaces.web.texts import hide_in
from dna_pipeline.interfaces.web.waiting import (
    Ended,
    Held,
    JobFailed,
    require_open,
    result_of,
)
from dna_pipeline.operations.serving import request_jobs
from dna_pipeline.operations.serving.catalogue import STAGE, list_checkpoints, lora_problem
from dna_pipeline.operations.serving.pipelines import img2img_pipeline, last_stage
from dna_pipeline.operations.serving.result_files import ResultFile
from dna_pipeline.operations.serving.result_pictures import picture_path, texts_in
from dna_pipeline.operations.submit import Submission

ORIGIN = "sdapi"
"""Key in `meta` of the jobs of this API, and the name that their files get."""


@dataclass(slots=True)
class Order:
    """A request that is ready to be queued.

    Attributes:
        pictures: the decoded `init_images`; none once they are queued, and no mask either.
    """

    request: str
    translation: Translation
    pictures: list[bytes]
    mask: bytes | None


async def generate(site: Site, http: HttpRequest, request: Img2ImgRequest) -> dict[str, Any]:
    """Queue the jobs of a request, wait for them, and give the answer.

    Raises:
        Refusal, Refused: of the request. Held, JobFailed, ClientGone: of its jobs, as `result_of`.
        NoPipeline: none redraws pictures. NoSuchFile: somebody removed the results.
    """
    order = await site.ask(_prepare, site, request)
    await require_open(site, order.translation.values["pipeline"])
    jobs = await site.submit(_submit, site, order)
    order.pictures.clear()  # they are copied by now, and the wait may last for hours
    order.mask = None
    ended, is_whole = await _wait(site, http, jobs)
    warnings = [*order.translation.warnings]
    if not is_whole:
        warnings.append(f"{len(jobs) - len(ended)} of {len(jobs)} pictures were cancelled.")
    files = [await look_up(site, one.job["id"], path=picture_path(one.job)) for one in ended]
    return await site.ask(_answer, site, request, order, ended, files, warnings)


def surroundings_of(site: Site) -> Surroundings:
    """Gather all that the translation of a request depends on. Looks at the disk."""
    config = site.config
    pipeline = img2img_pipeline(config)
    stage = last_stage(pipeline, STAGE)
    params = {} if stage is None else stage.params
    return Surroundings(
        pipeline.name,
        params.get("sampler", "euler"),
        params.get("steps", 20),
        list_checkpoints(config),
        read_options(site),
        config.serve.priority,
    )


def _prepare(site: Site, request: Img2ImgRequest) -> Order:
    translation = translate(request, surroundings_of(site))
    if (problem := lora_problem(site.config, request.prompt or "")) is not None:
        raise Refusal(f"prompt: {site.hide(problem)}", code="unknown_lora")
    images = request.init_images or []
    used = sorted(set(translation.pictures))
    decoded_images = {place: decoded(images[place], f"init_images[{place}]") for place in used}
    pictures = [decoded_images[place] for place in translation.pictures]
    mask = None if request.mask is None else decoded(request.mask, "mask")
    return Order(secrets.token_hex(8), translation, pictures, mask)


def _submit(site: Site, order: Order) -> list[str]:
    """Queue all jobs of a request, or none."""
    jobs: list[str] = []
    count = len(order.pictures)
    try:
        for number, picture in enumerate(order.pictures):
            origin = request_jobs.origin(ORIGIN, order.request, number, count)
            mask = None if order.mask is None else BytesIO(order.mask)
            submission = Submission(f"{ORIGIN}{ending_of(picture)}", BytesIO(picture), mask)
            values = order.translation.values_of(number, origin)
            jobs.append(site.submissions.submit(submission, values))
    except BaseException:
        request_jobs.cancel(site.submissions, jobs)
        raise
    return jobs


async def _wait(site: Site, http: HttpRequest, jobs: list[str]) -> tuple[list[Ended], bool]:
    """Wait for the jobs in their order.

    Returns:
        Those that were completed, and False if a client cancelled the others.
    """
    ended: list[Ended] = []
    for number, job in enumerate(jobs):
        try:
            ended.append(await result_of(site, job, http.is_disconnected))
        except JobFailed as error:
            if error.code != "cancelled":
                await _cancel(site, jobs[number + 1 :])
                raise
            if number + 1 == len(jobs) and not ended:
                raise
        except Held:
            await _cancel(site, jobs[number + 1 :])
            raise
    return ended, len(ended) == len(jobs)


async def _cancel(site: Site, jobs: list[str]) -> None:
    await site.ask(request_jobs.cancel, site.submissions, jobs)


def _answer(
    site: Site,
    request: Img2ImgRequest,
    order: Order,
    ended: list[Ended],
    files: list[ResultFile],
    warnings: list[str],
) -> dict[str, Any]:
    generated: list[Generated] = []
    for one, file in zip(ended, files, strict=True):
        with file.open() as opened:
            data = opened.read()
        text = texts_in(data).get("parameters", "")
        generated.append(Generated(one.job, data, text))
    said = hide_in(warnings, site.hide)
    info = info_of(request, order.translation, generated, said, site.hide)
    is_sent = request.send_images is not False
    return {
        "images": [encoded(one.data) for one in generated] if is_sent else [],
        "parameters": _echo(request),
        "info": info,
    }


def _echo(request: Img2ImgRequest) -> dict[str, Any]:
    """The request as the answer repeats it, without its pictures unless it asks for them."""
    values = {name: plain(value) for name, value in request}
    if not request.include_init_images:
        values |= {"init_images": None, "mask": None}
    return values
