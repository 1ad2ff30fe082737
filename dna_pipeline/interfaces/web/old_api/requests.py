"""Jobs from the fields of requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from starlette.datastructures import UploadFile

from dna_pipeline.base.errors import NoEffectiveSteps
from dna_pipeline.config.schema import Pipeline
from dna_pipeline.config.templates import plain
from dna_pipeline.interfaces.web import waiting
from dna_pipeline.interfaces.web.old_api.errors import IMAGE_CODES, field_refusal, refused_field
from dna_pipeline.interfaces.web.old_api.fields import Fields, from_text, image_of
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving import form_values, pipelines, sampler_words
from dna_pipeline.operations.serving.model_loads import kept_chunk_size
from dna_pipeline.operations.submit import Refused, Submission

OWN_FIELDS = {
    "img2img": frozenset({"image", "token"}),
    "triposr": frozenset({"image", "remove_background", "token"}),
}
"""Fields that are no parameters of a stage."""
PROMPTS = ("positive_prompt", "prompt", "negative_prompt")
OLD_PLACE: dict[str, Any] = {"scale": None, "origin": None}
"""Size and place of meshes as the model makes them, which the old clients expect."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that was queued for a request.

    Attributes:
        remarks: sentences about fields that were not taken as they are.
    """

    job: str
    pipeline: str
    remarks: list[str] = field(default_factory=list[str])


async def submit(site: Site, kind: str, fields: Fields, *, waits: bool) -> Accepted:
    """Queue the job of a request for a picture (`img2img`) or a mesh (`triposr`).

    Args:
        waits: the client waits for the result, so the job goes ahead of the bulk.

    Raises:
        Refusal, WrongFields: a field is missing or wrong.
        NoPipeline: none does that.
        Held: the client would wait in vain.
        Refused: the image or a value cannot be used.
    """
    pipeline = _pipeline(site, kind)
    values, remarks = await _values(site, kind, pipeline, fields)
    name, stream = await image_of(fields, site)
    mask = await _mask_of(site, fields) if kind == "img2img" else None
    if waits:
        values["priority"] = site.config.serve.priority
        await waiting.require_open(site, pipeline.name)
    try:
        job = await site.submit(site.submissions.submit, Submission(name, stream, mask), values)
    except Refused as error:
        if error.error.code in IMAGE_CODES:
            raise
        raise refused_field(error, _place(kind, fields, error), site.hide) from None
    return Accepted(job, pipeline.name, remarks)


def _place(kind: str, fields: Fields, error: Refused) -> str:
    """The field that a job was refused for, as the client spells it; "" for several together."""
    if error.error.code == NoEffectiveSteps.code:
        return "steps"
    _, _, parameter = error.error.where.partition(".")
    return form_values.spelling_of(kind, parameter, fields)


def _pipeline(site: Site, kind: str) -> Pipeline:
    find = pipelines.img2img_pipeline if kind == "img2img" else pipelines.mesh_pipeline
    return find(site.config)


async def _values(
    site: Site, kind: str, pipeline: Pipeline, fields: Fields
) -> tuple[dict[str, Any], list[str]]:
    """Keys and values as in a sidecar, and remarks about fields that are passed over."""
    if kind == "img2img":
        values, remarks = _img2img_values(fields)
    else:
        values, remarks = await _mesh_values(site, pipeline, fields)
    return {"pipeline": pipeline.name, **values}, remarks + _unknown(kind, fields)


def _img2img_values(fields: Fields) -> tuple[dict[str, Any], list[str]]:
    words, remarks = sampler_words.nearest(fields)
    for name in PROMPTS:
        if isinstance(text := words.get(name), str):
            words[name] = plain(text)
    if _is_mask(mask := words.get("mask")):
        words["mask"] = "file"
    elif not form_values.is_blank(mask) and mask not in ("none", "alpha"):
        text = "should be none, alpha, or the mask itself: a file, or base64 after data:…;base64,"
        raise field_refusal("mask", text)
    return {"img2img": form_values.parameters_of("img2img", words)}, remarks


async def _mesh_values(
    site: Site, pipeline: Pipeline, fields: Fields
) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    params = OLD_PLACE | form_values.parameters_of("triposr", fields)
    if "chunk_size" not in params:
        kept = await site.ask(kept_chunk_size, site.readers)
        params |= {} if kept is None else {"chunk_size": kept}
    values["triposr"] = params
    is_cut = _switch(fields, "remove_background")
    has_stage = pipelines.last_stage(pipeline, "remove_background") is not None
    remarks: list[str] = []
    if is_cut is False and has_stage:
        values |= {s.id: False for s in pipeline.stages if s.type == "remove_background"}
    elif is_cut and not has_stage:
        text = f"The pipeline {pipeline.name} has no stage remove_background"
        remarks.append(f"{text}: the background was left as it is.")
    if is_cut is not False and has_stage:
        values |= _matte_values(fields)
    return values, remarks


def _matte_values(fields: Fields) -> dict[str, Any]:
    """Parameters of the stage that removes the background, but those that the mesh has too."""
    names = form_values.names_of("remove_background") - form_values.names_of("triposr")
    own = {name: value for name, value in fields.items() if name in names}
    params = form_values.parameters_of("remove_background", own)
    return {"remove_background": params} if params else {}


def _unknown(kind: str, fields: Mapping[str, Any]) -> list[str]:
    """A remark about each field that nothing reads."""
    read = OWN_FIELDS[kind] | form_values.names_of(kind)
    if kind == "triposr":
        read |= form_values.names_of("remove_background")
    names = [name for name in fields if name not in read]
    return [f"The field {name[:60]!r} is not known, and was passed over." for name in names[:10]]


def _switch(fields: Fields, name: str) -> bool | None:
    """A switch of the request; None if it does not say. Raises `Refusal`."""
    value = fields.get(name)
    if form_values.is_blank(value):
        return None
    try:
        return form_values.switch(value)
    except ValueError as error:
        raise field_refusal(name, str(error)) from None


def _is_mask(value: object) -> bool:
    """True for a mask itself: a file, or a data URL. Other text says where the mask is."""
    if isinstance(value, UploadFile):
        return bool(value.size)
    return isinstance(value, str) and value.lstrip()[:5].lower() == "data:"


async def _mask_of(site: Site, fields: Fields) -> IO[bytes] | None:
    """The mask that a request brings; None if it brings none. Raises `Refusal`."""
    value = fields.get("mask")
    if not _is_mask(value):
        return None
    if isinstance(value, UploadFile):
        return value.file
    _, stream = await site.ask(from_text, value)
    return stream
