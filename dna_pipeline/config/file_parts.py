"""Schemas of the parts of pipeline.yaml that are about the program as a whole."""

from __future__ import annotations

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)

if TYPE_CHECKING:
    pass


def _folder(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("should be a path")
    if not value.strip():
        raise ValueError("should not be empty; `.` is the folder of pipeline.yaml")
    return as_path(value)


def as_path(text: str) -> Path:
    """The path that a text in pipeline.yaml stands for, `~` being the person's home."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - keeps `~` where there is no home


_DEVICES = "auto|cpu|mps|cuda(:[0-9]{1,3})?"


_LISTED = "cpu|cuda(:[0-9]{1,3})?"
BATCH_ON_CUDA = 4
"""Most jobs that share a turn with a graphics card, if `runtime.batch_size` is auto. A CPU computes
one picture as fast as each of several."""

_MAX_WORKERS = 64


def _device(value: str | list[str]) -> str | list[str]:
    if isinstance(value, str):
        if not re.fullmatch(_DEVICES, value):
            raise ValueError("should be auto, cpu, mps, cuda or cuda:N, or a list of devices")
        return value
    if not 1 <= len(value) <= _MAX_WORKERS:
        raise ValueError(f"should list from 1 to {_MAX_WORKERS} devices")
    names: set[str] = set()
    for device in value:
        if not re.fullmatch(_LISTED, device):
            raise ValueError(f"should list cpu, cuda or cuda:N, not {device!r}")
        name = "cuda:0" if device == "cuda" else device
        if name in names and name != "cpu":
            raise ValueError(f"lists {name} twice; two workers would share its memory")
        names.add(name)
    return value


_DEVICE_SCHEMA: dict[str, JsonValue] = {
    "anyOf": [
        {"type": "string", "pattern": f"^({_DEVICES})$"},
        {
            "type": "array",
            "items": {"type": "string", "pattern": f"^({_LISTED})$"},
            "minItems": 1,
            "maxItems": _MAX_WORKERS,
        },
    ],
    "values": "auto, cpu, cuda, cuda:N, mps, or a list like [cuda:0, cuda:1]",
}


def _web_address(text: str) -> str:
    if not re.match(r"https?://\S+\Z", text):
        raise ValueError("should be an address that begins with http:// or https://")
    return text


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(f"should be a network like 192.168.1.0/24 ({error})") from None


FilePath = Annotated[Path, BeforeValidator(_folder)]
Seconds = Annotated[float, Field(ge=0, le=30 * 86400, allow_inf_nan=False)]


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PathsSpec(Spec):
    """`paths:`, relative to pipeline.yaml."""

    data: FilePath = Field(
        default=Path("data"),
        description="folder of the ledger, models, work files and logs; $DNA_DATA_DIR overrides it",
    )
    outbox: FilePath = Field(
        default=Path("outbox"),
        description="folder where results appear; $DNA_OUTPUT_DIR overrides it",
    )


def _cluster(text: str) -> str:
    if text != "auto" and not re.fullmatch(_CLUSTER, text):
        raise ValueError("should be auto, or HOST:PORT of the cluster's head")
    return text


_CLUSTER = r"[\w.-]+:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5}"


class RaySpec(Spec):
    """`runtime.ray:`, with `executor: ray`."""

    address: Annotated[str, AfterValidator(_cluster)] = Field(
        default="auto",
        description="the cluster; auto: the one that `ray start` has this machine join; else "
        "HOST:PORT of its head. This machine has to be part of it",
        json_schema_extra={"pattern": f"^(auto|{_CLUSTER})$", "values": "auto, or HOST:PORT"},
    )
    workers: Annotated[int, Field(ge=1, le=_MAX_WORKERS)] = Field(
        default=1,
        description="number of workers in the whole cluster; with `device: cuda`, each takes a "
        "card, with `device: cpu` as many cores as it has threads",
    )
    work_dir: Literal["shared", "transfer"] = Field(
        default="shared",
        description="shared: all machines see the data folder and the inboxes, at the same paths; "
        "transfer: images and results are carried by Ray, and each machine has models of its own "
        "at the same paths",
    )


class RuntimeSpec(Spec):
    """`runtime:`."""

    device: Annotated[str | list[str], AfterValidator(_device)] = Field(
        default="auto",
        description="device that models run on; auto: the first GPU, or the CPU if there is none; "
        "a list: several devices, with a worker for each",
        json_schema_extra=_DEVICE_SCHEMA,
    )
    threads_per_worker: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None,
        description="threads that each worker computes with on the CPU",
        json_schema_extra={
            "default_words": "all cores, shared by the workers of a list",
        },
    )
    jobs_per_worker: Annotated[int, Field(ge=1, le=16)] = Field(
        default=3,
        description="jobs that a worker has at once: while one uses the device, pictures of others "
        "are read or written; 1: one after another",
    )
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="most pictures that img2img redraws at once, of jobs that differ in picture, "
        "prompt and seed alone; auto: 4 on CUDA, else 1. Pixels may differ slightly from those of "
        "a picture that is redrawn alone",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto",
        description="number type that models compute in; auto: float16 on CUDA, bfloat16 on CPUs "
        "that compute in it (for full-size models), else float32",
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="how often the worker may end during one job before the job fails"
    )
    stage_timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1800,
        description="longest time of one stage of a job",
        json_schema_extra={"unit": "s"},
    )
    idle_unload_s: Seconds = Field(
        default=0,
        description="time without work after which models leave the device; 0: they stay",
        json_schema_extra={"unit": "s"},
    )
    model_window_s: Seconds = Field(
        default=300,
        description="how long a job whose models are not loaded lets others of its priority pass "
        "whose models are, counted in the time that these take; 0: jobs keep their places",
        json_schema_extra={"unit": "s"},
    )
    preload: list[str] = Field(
        default=[],
        description="models, by their names in `models:`, that `watch` loads before the first job",
    )
    pause_after_failures: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=5,
        description="equal failures in a row that pause a pipeline; faults of the input do not "
        "count; 0: never",
    )

    executor: Literal["local", "ray"] = Field(
        default="local",
        description="where the workers run; local: on this machine; ray: on the machines of a Ray "
        "cluster, for which `device` has to be cuda or cpu",
    )
    ray: RaySpec = Field(
        default=RaySpec(),
        description="the Ray cluster, with `executor: ray`",
        json_schema_extra={"default_words": "that of each key"},
    )

    @model_validator(mode="after")
    def _has_device_for_ray(self) -> Self:
        if self.executor == "ray" and self.device not in ("cuda", "cpu"):
            raise ValueError(
                "`device` should be cuda or cpu with `executor: ray`, so that Ray knows what a "
                "worker takes; `ray.workers` says how many there are"
            )
        return self

    @property
    def most_together(self) -> int:
        """Most jobs that share a turn with a device."""
        return BATCH_ON_CUDA if self.batch_size == "auto" else self.batch_size

    @property
    def devices(self) -> tuple[str, ...]:
        """The device of each worker."""
        if self.executor == "ray":
            return (str(self.device),) * self.ray.workers
        return (self.device,) if isinstance(self.device, str) else tuple(self.device)


class RetentionSpec(Spec):
    """`retention:`, how long data of ended jobs is kept. Logs are rotated by size."""

    events_days: Annotated[float, Field(gt=0, le=36500, allow_inf_nan=False)] = Field(
        default=30,
        description="time for which the events of ended jobs are kept",
        json_schema_extra={"unit": "days"},
    )
    work_hours: Annotated[float, Field(gt=0, le=87600, allow_inf_nan=False)] = Field(
        default=24,
        description="time for which work files and half-made folders that a crash left are kept",
        json_schema_extra={"unit": "hours"},
    )
    reuse_days: Annotated[float, Field(gt=0, le=36500, allow_inf_nan=False)] = Field(
        default=30,
        description="time since its last use for which a stage's result is kept for later jobs",
        json_schema_extra={"unit": "days"},
    )
    reuse_bytes: Annotated[int, Field(ge=0, lt=1 << 63)] = Field(
        default=10 << 30,
        description="most that results kept for later jobs may take; 0: none is kept",
        json_schema_extra={"unit": "bytes"},
    )


class SigningSpec(Spec):
    """`c2pa:`, the certificate that results are signed with. Paths are relative to
    pipeline.yaml."""

    certificate: FilePath = Field(
        description="PEM file of the certificate, followed by those that vouch for it"
    )
    key: FilePath = Field(description="PEM file of the certificate's private key")
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = Field(
        "es256", description="algorithm of the signatures, which must fit the key"
    )
    timestamp_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        None,
        description="address of a service that confirms the time of each signature; without it, "
        "nothing is sent over the network",
        json_schema_extra={"default_words": "none"},
    )


class ServeSpec(Spec):
    """`serve:`, what `dna-pipeline serve` offers to programs and browsers. Paths are relative to
    pipeline.yaml."""

    img2img: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="pipeline that requests for a restyled picture run through",
        json_schema_extra={"default_words": "the first whose only stage is img2img"},
    )
    triposr: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="pipeline that requests for a mesh run through",
        json_schema_extra={"default_words": "the first with triposr and without img2img"},
    )
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = Field(
        default=100,
        description="priority of the jobs of requests that wait for their result, so that they go "
        "ahead of the bulk",
    )
    max_upload_mib: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=256, description="largest body of a request", json_schema_extra={"unit": "MiB"}
    )
    hosts: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="names by which browsers may address the server, besides this machine's own",
    )
    networks: list[Annotated[str, AfterValidator(_network)]] = Field(
        default=[],
        description="networks, like 192.168.1.0/24, whose programs need no token",
    )
    proxies: list[Annotated[str, AfterValidator(_network)]] = Field(
        default=[],
        description="addresses of proxies whose word is taken for the client's address and for "
        "https",
    )
    certificate: FilePath | None = Field(
        default=None,
        description="PEM file of the certificate, followed by those that vouch for it; makes it "
        "https",
        json_schema_extra={"default_words": "none"},
    )
    key: FilePath | None = Field(
        default=None,
        description="PEM file of the certificate's private key",
        json_schema_extra={"default_words": "in the certificate's file"},
    )
