"""Models of manifest.json, the record of a completed job, and error.json, that of a failed job."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dna_pipeline.base.errors import (
    Cancelled,
    ImageTooLarge,
    ImageTooSmall,
    ImageUnreadable,
    MaskMismatch,
    MaskUnreadable,
)
from dna_pipeline.config.prompt_file import is_prompt_file
from dna_pipeline.config.tables import is_table_name

SCHEMA_VERSION = 1
NAME = "manifest.json"
ERROR_NAME = "error.json"

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


def _printable(value: Any) -> Any:
    """Escape characters that UTF-8 cannot encode, so that the file can always be written."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


PrintableText = Annotated[str, BeforeValidator(_printable)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobPart(_Part):
    """The job and its times. Times are RFC 3339 in UTC."""

    id: str
    batch: str | None = None
    inbox: str
    pipeline: str
    priority: int
    attempt: int
    tags: list[str]
    meta: dict[str, Any]
    created_at: str
    started_at: str | None
    finished_at: str


class InputFilePart(_Part):
    """A file of the drop. `role` is `image`, `sidecar`, or that of a companion, such as `mask`.

    `reference` is the path by which the job names a companion; left out for all other files.
    """

    role: str
    name: PrintableText
    sha256: str | None
    bytes: int | None
    reference: PrintableText | None = Field(None, exclude_if=lambda value: value is None)


class InputPart(_Part):
    """The image as it was dropped; width and height in pixels, upright.

    `files` are all files that were claimed together; empty in manifests of earlier versions.
    """

    name: str
    sha256: str | None
    bytes: int | None
    width: int | None
    height: int | None
    files: list[InputFilePart] = []


class EmbeddingPart(_Part):
    """A textual inversion that a prompt used, by the name of its file."""

    name: PrintableText
    sha256: str


class LoraPart(_Part):
    """A LoRA that changed a stage's model."""

    name: PrintableText
    sha256: str
    weight: float


class ModelPart(_Part):
    """The model that a stage used. A path within `paths.data` is relative to it. `sha256` is null
    for a model without weights.

    `license` is the model's key `license` in pipeline.yaml, else the licence of the published model
    whose weights have the same hash, else `not known`; null for a model without weights.
    `embeddings` are left out if the prompts used none.
    """

    name: str
    path: str
    sha256: str | None
    license: str | None
    embeddings: list[EmbeddingPart] = Field([], exclude_if=lambda value: not value)
    loras: list[LoraPart] = Field(
        default_factory=list[LoraPart], exclude_if=lambda loras: not loras
    )


class ReusedPart(_Part):
    """The origin of a result that was taken and not computed again.

    `job` and `stage` computed it, in `seconds`. `part` is `all` for all files of the stage, or
    names what the stage went on from, such as `scene`.
    """

    job: str
    stage: str
    part: str
    seconds: float


class StagePart(_Part):
    """One stage, with every parameter as it was used, including a seed that was drawn.

    `stage_key` is equal for runs of the same code on the same input with the same parameters and
    weights. `reused_from` is left out for a stage that was computed as a whole. Else `device` and
    `dtype` are those of that computation, and `seconds` is what this job spent.
    """

    id: str
    type: str
    provider: str | None
    model: ModelPart | None
    params: dict[str, Any]
    device: str
    dtype: str
    batch_size: int
    seconds: float
    warnings: list[PrintableText]
    stage_key: str | None = None
    reused_from: ReusedPart | None = Field(None, exclude_if=lambda value: value is None)


_POINT = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
_COUNT = {"type": "integer", "minimum": 0}
MESH_FACTS: dict[str, Any] = {
    "vertices": _COUNT,
    "faces": _COUNT,
    "watertight": {"type": "boolean"},
    "bounds": {
        "type": "array", "items": _POINT, "minItems": 2, "maxItems": 2,
        "description": "the least and the greatest corner, in the file's axes and its unit",
    },
    "up": {"enum": ["+Y", "+Z"], "description": "the file's axis that points up"},
    "front": {"enum": ["+Z", "-Y"], "description": "the file's axis that points to the viewer"},
    "placement": {
        "type": "object",
        "description": "what a point of TripoSR's box, in the file's axes, was multiplied by, and "
        "what was then added",
        "properties": {"scale": {"type": "number"}, "offset": _POINT},
        "required": ["scale", "offset"],
    },
    "components": _COUNT,
    "area": {"type": "number"},
    "volume": {"type": ["number", "null"], "description": "null: the mesh is open"},
    "removed": {
        "type": "object",
        "description": "what min_component took out",
        "properties": {"components": _COUNT, "faces": _COUNT},
        "required": ["components", "faces"],
    },
    "faces_before": _COUNT | {"description": "what target_faces was reached from"},
    "texture": {
        "type": "object",
        "description": "side in pixels, part of the texels that a face covers, pieces it is cut "
        "in, texels between these",
        "properties": {
            "size": _COUNT,
            "used": {"type": "number"},
            "charts": _COUNT,
            "gap": {"type": "number"},
        },
        "required": ["size", "used", "charts"],
    },
    "cut_by_box": {"type": "boolean"},
    "cut_sides": {
        "type": "array",
        "items": {"enum": ["back", "front", "left", "right", "bottom", "top"]},
    },
}  # fmt: skip
"""Facts that a mesh adds to an artifact, as JSON Schema. The parameters of the job decide which of
these facts an artifact has."""


TURNTABLE_FACTS: dict[str, Any] = {
    "width": _COUNT,
    "height": _COUNT,
    "frames": _COUNT,
    "fps": {"type": "integer", "minimum": 1},
    "renderer": {
        "enum": ["gl", "software", "volume"],
        "description": "what drew it: OpenGL or numpy (a mesh), or rays through the field",
    },
}
"""Facts that a turntable adds to an artifact; a preview has the first two of them."""


MARKS_FACTS: dict[str, Any] = {
    "describes": {"type": "string", "description": "the file that the marks belong to"},
}
"""Facts that a file with the marks of another one adds to an artifact."""


def _with_facts(schema: dict[str, Any]) -> None:
    schema["properties"] |= MESH_FACTS | TURNTABLE_FACTS | MARKS_FACTS


class ArtifactPart(BaseModel):
    """A file, by its path relative to the manifest. Meshes and pictures add facts of their own."""

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_with_facts)

    path: str
    role: str
    media_type: str
    bytes: int
    sha256: str = Sha256


class Manifest(_Part):
    """Content of a result folder, and how each file in it was made."""

    schema_version: Literal[1] = SCHEMA_VERSION
    job: JobPart
    input: InputPart
    sidecar: str | None
    stages: list[StagePart]
    artifacts: list[ArtifactPart]
    environment: dict[str, Any]


class ErrorReport(_Part):
    """Reason why a job failed, for programs; ERROR.txt is for people.

    `stages` and `artifacts` list the stages that had finished, as in the manifest; their files lie
    beside error.json.
    """

    code: str
    message: PrintableText
    detail: PrintableText
    hint: PrintableText
    retryable: bool
    job: JobPart
    input: InputPart
    stage: str | None
    attempts: int
    stages: list[StagePart] = []
    artifacts: list[ArtifactPart] = []
    environment: dict[str, Any] = {}


def to_bytes(part: BaseModel) -> bytes:
    """Write a manifest file's bytes: indented UTF-8 JSON that ends with a line break."""
    plain = part.model_dump(mode="json")
    return (json.dumps(plain, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def json_schema() -> bytes:
    """Write the manifest's JSON Schema as it is shipped in `schemas/manifest.schema.json`."""
    schema = Manifest.model_json_schema()
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return (json.dumps(dialect | schema, indent=2) + "\n").encode()


OF_IMAGE = {ImageUnreadable.code, ImageTooSmall.code, ImageTooLarge.code}
"""Codes of failures that another image mends."""

OF_MASK = {MaskUnreadable.code, MaskMismatch.code}
"""Codes of failures that another mask mends."""


def error_text(report: ErrorReport) -> str:
    """Write ERROR.txt, the report for people."""
    entries = {
        "What exactly": report.detail or "nothing more is known",
        "What helps": report.hint,
        "At stage": report.stage,
        "Code": report.code,
        "Job": report.job.id[:8],
    }
    end = "was cancelled" if report.code == "cancelled" else "could not be processed"
    lines = [f"{report.input.name} {end}.", "", report.message, ""]
    lines += [_entry(title, text) for title, text in entries.items() if text]
    if report.stages:
        names = ", ".join(stage.id for stage in report.stages)
        lines += ["", f"Finished before that: {names}. The files made there lie here too, and are",
                  "not made again unless you change what they depend on."]  # fmt: skip
    lines += ["", *_way_out(report)]
    if not is_table_name(report.input.name):  # a retry makes a job of an image
        lines += ["", f"  dna-pipeline retry {report.job.id[:8]}"]
    lines.append("")
    return "\n".join(lines)


def _way_out(report: ErrorReport) -> list[str]:
    """Say what to do before the command that runs the job again; all there is to do for a table."""
    code = report.code
    if code == Cancelled.code:
        return ["Nothing is wrong; to run it after all:"]
    place = "What you dropped lies beside this file, in the folder source."
    if is_table_name(report.input.name):
        return [place, "Correct the table, and drop it into its inbox again."]
    if code in OF_IMAGE:
        return [place, "Replace the image in `source` by one of the same name, then run:"]
    names = {file.role: file.name for file in report.input.files}
    if code in OF_MASK:
        where = "in `source` by one of the same name" if "mask" in names else "where its path says"
        return [place, f"Replace the mask {where}, then run:"]
    is_text = is_prompt_file(names.get("sidecar", ""))
    wrong = names["sidecar"] if is_text else "the YAML"
    return [f"{place} Mend {wrong} there, or", "whatever else is wrong, then run:"]


def _entry(title: str, text: str) -> str:
    """Write a text behind its title; its further lines are indented to its first one."""
    return f"  {title + ':':14}" + f"\n{' ' * 16}".join(text.splitlines())
