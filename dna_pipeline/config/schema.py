"""Schemas of pipeline.yaml and of a sidecar's head, and the checked configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

from dna_pipeline.base.clock import to_minute
from dna_pipeline.config.hours import Hours
from dna_pipeline.stages.base import Metadata

if TYPE_CHECKING:
    from dna_pipeline.providers.checkpoints import Models

SUBMIT_INBOX = "submit"
"""Name of the virtual inbox for the jobs of `dna-pipeline submit`; it has no watched folder."""


def _folder(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("should be a path")
    if not value.strip():
        raise ValueError("should not be empty; `.` is the folder of pipeline.yaml")
    return as_path(value)


def as_path(text: str) -> Path:
    """The path that a text in pipeline.yaml stands for, `~` being the person's home."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - keeps `~` where there is no home


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise ValueError("should be auto, cpu, mps, cuda or cuda:N")
    return text


def _hours(text: str) -> str:
    return str(Hours.parse(text))


def _time(text: str) -> str:
    parse_time(text)
    return text


def _web_address(text: str) -> str:
    if not re.match(r"https?://\S+\Z", text):
        raise ValueError("should be an address that begins with http:// or https://")
    return text


def _version(number: int) -> int:
    if number != 1:
        raise ValueError("should be 1")
    return number


FilePath = Annotated[Path, BeforeValidator(_folder)]
Seconds = Annotated[float, Field(ge=0, le=30 * 86400, allow_inf_nan=False)]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PathsSpec(_Spec):
    """`paths:`, relative to pipeline.yaml."""

    data: FilePath = Path("data")
    outbox: FilePath = Path("outbox")


class RuntimeSpec(_Spec):
    """`runtime:`."""

    device: Annotated[str, AfterValidator(_device)] = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    stage_timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1800
    idle_unload_s: Seconds = 0
    preload: list[str] = []
    pause_after_failures: Annotated[int, Field(ge=0, le=1000)] = 5


class RetentionSpec(_Spec):
    """`retention:`, the time for which data of ended jobs is kept. Logs are rotated by size."""

    events_days: Annotated[float, Field(gt=0, le=36500, allow_inf_nan=False)] = 30
    work_hours: Annotated[float, Field(gt=0, le=87600, allow_inf_nan=False)] = 24


class InboxSpec(_Spec):
    """One entry of `inboxes:`. `None` means that a default depends on another key."""

    path: FilePath
    name: Annotated[str, Field(min_length=1)] | None = None
    pipeline: str
    originals: Literal["archive", "delete", "keep"] = "archive"
    on_change: Literal["latest", "all"] | None = None
    existing: Literal["process", "ignore"] = "process"
    sidecar: Literal["optional", "required"] = "optional"
    sidecar_wait_seconds: Seconds | None = None
    prompt_files: bool = False
    recursive: bool = False
    settle_seconds: Seconds = 2
    rescan_seconds: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = 30
    watch: Literal["auto", "native", "poll"] = "auto"
    include: list[str] = []
    ignore: list[str] = []
    priority: Priority = 0
    defaults: dict[str, Any] = {}
    latest: bool | None = None
    hours: Annotated[str, AfterValidator(_hours)] | None = None
    source_roots: list[FilePath] = []
    on_duplicate: Literal["skip", "run"] = "skip"
    metadata: Metadata | None = None


class SigningSpec(_Spec):
    """`c2pa:`, the certificate that results are signed with. Paths are relative to
    pipeline.yaml."""

    certificate: FilePath
    key: FilePath
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = "es256"
    timestamp_url: Annotated[str, AfterValidator(_web_address)] | None = None


class PipelineFile(_Spec):
    """Top keys of pipeline.yaml. Each part is read by itself, so that no fault hides another."""

    version: Annotated[int, AfterValidator(_version)]
    paths: dict[str, Any] | None = None
    runtime: dict[str, Any] | None = None
    retention: dict[str, Any] | None = None
    metadata: Metadata | None = None
    c2pa: dict[str, Any] | None = None
    models: dict[str, Any] | None = None
    pipelines: dict[str, Any]
    inboxes: list[Any] | None = None


class SidecarHead(BaseModel):
    """The keys of a sidecar other than stages."""

    # Built when the first sidecar is read, since most commands read none.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)

    image: str | None = None
    images: str | Annotated[list[str], Field(min_length=1)] | None = None
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = None
    count: Annotated[int, Field(ge=1, le=100_000)] | None = None
    max_failures: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    on_duplicate: Literal["skip", "run"] | None = None
    pipeline: str | None = None
    priority: Priority | None = None
    not_before: Annotated[str, AfterValidator(_time)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | Literal["from_content"] | None = None
    seed_offset: Annotated[int, Field(ge=0, le=2**32)] | None = None
    tags: list[str] = []
    meta: dict[str, Any] = {}
    metadata: Metadata | None = None


HEAD_KEYS = frozenset(SidecarHead.model_fields)


def parse_time(text: str) -> datetime:
    """An RFC 3339 or ISO 8601 time as UTC; without a zone it is local. Raises ValueError."""
    wrong = ValueError("should be a date and time like 2026-12-01T22:00:00+01:00")
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        raise wrong
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise wrong from None


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage as a pipeline declares it. `params` has parameters by their own names, no aliases."""

    id: str
    type: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An ordered list of stages, each of which takes the result of the one before it."""

    name: str
    stages: tuple[StageSpec, ...]


@dataclass(frozen=True, slots=True)
class Inbox:
    """A watched folder with all defaults filled in."""

    name: str
    path: Path
    pipeline: str
    originals: Literal["archive", "delete", "keep"] = "archive"
    on_change: Literal["latest", "all"] = "all"
    existing: Literal["process", "ignore"] = "process"
    sidecar_required: bool = False
    sidecar_wait_s: float = 5
    prompt_files: bool = False
    recursive: bool = False
    settle_s: float = 2
    rescan_s: float = 30
    watch: Literal["auto", "native", "poll"] = "auto"
    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    priority: int = 0
    defaults: Mapping[str, dict[str, Any] | None] = field(default_factory=dict[str, Any])
    latest: bool = False
    hours: Hours | None = None
    source_roots: tuple[Path, ...] = ()
    on_duplicate: Literal["skip", "run"] = "skip"
    pairs_masks: bool = False
    """True if the inbox's pipeline, with the inbox's defaults, asks for masks beside the images."""
    metadata: Metadata | None = None
    """Value of that parameter for all stages of its jobs; None: as the pipeline has it."""
    line: int = field(default=0, compare=False)
    """Line of the inbox's path in pipeline.yaml; 0 if it has none."""

    @property
    def keeps(self) -> bool:
        """True if intake copies the files and never touches the originals."""
        return self.originals == "keep"

    def hours_reason(self, now: datetime) -> str | None:
        """Reason why the inbox's jobs may not run at that time, with its end; None if they may."""
        if self.hours is None or self.hours.contain(now):
            return None
        begin = to_minute(self.hours.begin_after(now))
        return f"inbox {self.name!r} rests until {begin}; its hours are {self.hours}"


@dataclass(frozen=True, slots=True)
class Signing:
    """How results are signed, with absolute paths.

    Attributes:
        algorithm: of the key, as C2PA names it.
        timestamp_url: of the authority that is asked over the network when the signature was made;
            None: no authority is asked.
    """

    certificate: Path
    key: Path
    algorithm: str = "es256"
    timestamp_url: str | None = None


@dataclass(frozen=True)
class Config:
    """A valid pipeline.yaml with absolute paths."""

    file: Path
    data: Path
    outbox: Path
    runtime: RuntimeSpec
    models: Models
    pipelines: Mapping[str, Pipeline]
    inboxes: tuple[Inbox, ...]
    retention: RetentionSpec = field(default_factory=RetentionSpec)
    signing: Signing | None = None
    """None: results are not signed."""

    @property
    def ledger_path(self) -> Path:
        return self.data / "ledger.db"

    @property
    def work(self) -> Path:
        return self.data / "work"

    @property
    def claims(self) -> Path:
        """Folder of the claims that are copies: of kept, submitted and retried files."""
        return self.data / "claims"

    @property
    def recovered(self) -> Path:
        """Folder for files that the ledger does not know; the program never removes them."""
        return self.data / "recovered"

    @property
    def wildcards(self) -> Path:
        """Folder of the wildcard files that prompts may name."""
        return self.data / "wildcards"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    def models_in_pipelines(self) -> set[str]:
        """The names of the models that stages of pipelines name."""
        stages = (stage for pipeline in self.pipelines.values() for stage in pipeline.stages)
        names = (stage.params.get("model") for stage in stages)
        return {name for name in names if name is not None}

    def inbox(self, name: str) -> Inbox | None:
        """The inbox of that name, the virtual one of `submit` included."""
        if name == SUBMIT_INBOX:
            first = next(iter(self.pipelines))
            return Inbox(name=SUBMIT_INBOX, path=self.data / "submit", pipeline=first)
        return next((inbox for inbox in self.inboxes if inbox.name == name), None)


def find_config(option: Path | None) -> Path:
    """Path of pipeline.yaml: from `--config`, else `$DNA_CONFIG`, else in the current folder."""
    if option is None:
        option = Path(os.environ.get("DNA_CONFIG") or "pipeline.yaml")
    return option.absolute()


_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


def is_valid_id(text: str) -> bool:
    """True if the text may be a stage's id, which is part of file names and of column names."""
    return _ID.fullmatch(text) is not None
