"""Answers of this API, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of all answers; keys like `model_name` are usual in them."""

    model_config = ConfigDict(protected_namespaces=())


class ErrorAnswer(Answer):
    """An error, in the shape that programs know."""

    error: str = Field(description="stable code")
    detail: str = Field(description="a sentence for people")
    body: str = Field(description="always empty")
    errors: str = Field(description="more about it")


class GenerationAnswer(Answer):
    """The redrawn pictures."""

    images: list[str] = Field(description="pictures in base64")
    parameters: dict[str, Any] = Field(description="the request")
    info: str = Field(description="how the pictures were made, as JSON")


class PngInfoAnswer(Answer):
    """Texts of a picture."""

    info: str = Field(description='the text `parameters`; "" if there is none')
    items: dict[str, str] = Field(description="all other texts")
    parameters: dict[str, str] = Field(description="the text, taken apart")


class StateAnswer(Answer):
    """The request that runs, or waits for its turn."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = Field("", description='"" if there is none')
    job_count: int = Field(0, description="pictures of the request; 0: nothing runs or waits")
    job_timestamp: str = "0"
    job_no: int = Field(0, description="the picture that is at work, counted from 0")
    sampling_step: int = 0
    sampling_steps: int = 0


class ProgressAnswer(Answer):
    """How far the request is."""

    progress: float = Field(description="from 0 to 1")
    eta_relative: float = Field(description="seconds")
    state: StateAnswer
    current_image: str | None = Field(description="always null")
    textinfo: str | None = Field(description="what is waited for")


class CheckpointAnswer(Answer):
    """A checkpoint."""

    title: str
    model_name: str
    hash: str | None = Field(description="null until a job has used it")
    sha256: str | None
    filename: str = Field(description="without a path")
    config: str | None = None


class SamplerAnswer(Answer):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerAnswer(Answer):
    """A schedule."""

    name: str
    label: str
    aliases: list[str] | None = None
    default_rho: float | None = None
    need_inner_model: bool | None = False


class LoraAnswer(Answer):
    """A LoRA."""

    name: str
    alias: str
    path: str = Field(description="below the folder of LoRAs")
    metadata: dict[str, Any]


class EmbeddingAnswer(Answer):
    """A textual inversion."""

    step: int | None = None
    sd_checkpoint: str | None = None
    sd_checkpoint_name: str | None = None
    shape: int | None = None
    vectors: int | None = None


class EmbeddingsAnswer(Answer):
    """Textual inversions by their names."""

    loaded: dict[str, EmbeddingAnswer]
    skipped: dict[str, EmbeddingAnswer] = Field(description="files that are none for this model")


class NamedAnswer(Answer):
    """A thing of a kind that is not there: such lists are empty."""

    name: str


class ScriptsAnswer(Answer):
    """Scripts: there are none."""

    txt2img: list[str]
    img2img: list[str]


class MemoryAnswer(Answer):
    """Memory, which this server does not watch."""

    ram: dict[str, Any]
    cuda: dict[str, Any]


class ModelListAnswer(Answer):
    """Models of ControlNet: there are none."""

    model_list: list[str]


class ModuleListAnswer(Answer):
    """Preprocessors of ControlNet: none but the one that does nothing."""

    module_list: list[str]
    module_detail: dict[str, Any]


class ControlTypesAnswer(Answer):
    """Kinds of ControlNet."""

    control_types: dict[str, Any]


class VersionAnswer(Answer):
    """Version of ControlNet's API; 0: there is none."""

    version: int
