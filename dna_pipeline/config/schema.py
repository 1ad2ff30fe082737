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
    ConfigDict,
    Field,
    JsonValue,
)

from dna_pipeline.base.clock import to_minute
from dna_pipeline.base.layout import KEPT_RESULTS, WILDCARDS
from dna_pipeline.config import result_names
from dna_pipeline.config.file_parts import (
    FilePath,
    RetentionSpec,
    RuntimeSpec,
    Seconds,
    ServeSpec,
    Spec,
)
from dna_pipeline.config.hours import HOURS_PATTERN, Hours
from dna_pipeline.stages.base import Metadata, Reuse

if TYPE_CHECKING:
    from dna_pipeline.config.receivers import ReceiverConfig
    from dna_pipeline.providers.checkpoints import Models

SUBMIT_INBOX = "submit"
"""Name of the virtual inbox for the jobs of `dna-pipeline submit`; it has no watched folder."""


def _hours(text: str) -> str:
    return str(Hours.parse(text))


def _time(text: str) -> str:
    parse_time(text)
    return text


def _version(number: int) -> int:
    if number != 1:
        raise ValueError("should be 1")
    return number


ResultName = Annotated[str, AfterValidator(result_names.check_text)]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]


_EACH_OWN: dict[str, JsonValue] = {"default_words": "that of each key"}


class InboxSpec(Spec):
    """One entry of `inboxes:`. `None` means that a default depends on another key."""

    path: FilePath = Field(description="folder that is watched; relative to pipeline.yaml")
    name: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="name of the inbox in the outbox and in commands; no two inboxes share one",
        json_schema_extra={"default_words": "the folder's own name"},
    )
    pipeline: str = Field(
        description="pipeline that images run through; a sidecar may name another"
    )
    originals: Literal["archive", "delete", "keep"] = Field(
        "archive",
        description="archive: moved into the result's `source/`; delete: removed once the result "
        "is durable; keep: copied, never touched",
    )
    on_change: Literal["latest", "all"] | None = Field(
        None,
        description="when a file changes that is queued already. latest: the new version takes its "
        "place; all: each version runs",
        json_schema_extra={"default_words": "latest if originals is keep, else all"},
    )
    existing: Literal["process", "ignore"] = Field(
        "process", description="files that lay in the inbox before it was first watched"
    )
    sidecar: Literal["optional", "required"] = Field(
        "optional", description="required: an image waits for its sidecar, and fails without one"
    )
    sidecar_wait_seconds: Seconds | None = Field(
        None,
        description="how long an image waits for its sidecar, counted from the last change in its "
        "folder",
        json_schema_extra={"unit": "s", "default_words": "5, or 3600 if sidecar is required"},
    )
    prompt_files: bool = Field(
        False, description="take cat.txt beside cat.png for its prompt and parameters"
    )
    recursive: bool = Field(
        False, description="watch subfolders too; the outbox has the same subfolders"
    )
    settle_seconds: Seconds = Field(
        2,
        description="how long size and times of a file must stand still before it is ready",
        json_schema_extra={"unit": "s"},
    )
    rescan_seconds: Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)] = Field(
        30,
        description="time between two full scans, which find what no event announced",
        json_schema_extra={"unit": "s"},
    )
    watch: Literal["auto", "native", "poll"] = Field(
        "auto",
        description="native: by events of the system; poll: by scans alone, for network shares; "
        "auto: chosen by the kind of file system",
    )
    include: list[str] = Field([], description="globs of the images to take in; empty: all images")
    ignore: list[str] = Field(
        [], description="globs of names to leave alone, besides those that are always ignored"
    )
    priority: Priority = Field(0, description="priority of the inbox's jobs; higher runs first")
    defaults: dict[str, Any] = Field(
        {},
        description="parameters by stage type or id that count more than the pipeline's, and less "
        "than a sidecar's",
    )
    latest: bool | None = Field(
        None,
        description="also keep the newest result of each input in the outbox's `latest/` folder",
        json_schema_extra={"default_words": "true if originals is keep, else false"},
    )
    hours: Annotated[str, AfterValidator(_hours)] | None = Field(
        None,
        description='hours in which the jobs may run, in quotes; "22:00-06:00 Europe/Berlin" is by '
        "the clock there, without a zone by this machine's",
        json_schema_extra={
            "default_words": "always",
            "pattern": HOURS_PATTERN,
            "values": 'two times like "22:00-06:00"',
        },
    )
    source_roots: list[FilePath] = Field(
        [],
        description="folders outside the inbox whose images job files and tables may name; they "
        "are only read",
    )
    on_duplicate: Literal["skip", "run"] = Field(
        "skip", description="rows of a batch that were done before: skipped, or run again"
    )
    metadata: Metadata | None = Field(
        None,
        description="what the files of all stages say of their making; see the parameter of stages",
        json_schema_extra={"default_words": "as the pipeline's stages have it"},
    )
    reuse: Reuse | None = Field(
        None,
        description="whether stages take results of earlier jobs; see the parameter of stages",
        json_schema_extra={"default_words": "as the pipeline's stages have it"},
    )
    result_name: ResultName | None = Field(
        None,
        description="name of each result's folder, before `-` and the job's id, with placeholders "
        "like {stem}, {row}, {img2img.strength} and {meta.asset}",
        json_schema_extra={"default_words": "{stem}, in a matrix with its values"},
    )


class PipelineFile(Spec):
    """Top keys of pipeline.yaml. Each part is read by itself, so that no fault hides another."""

    version: Annotated[int, AfterValidator(_version)] = Field(
        description="version of the file's format", json_schema_extra={"const": 1}
    )
    paths: dict[str, Any] | None = Field(
        None, description="folders of the program", json_schema_extra=_EACH_OWN
    )
    runtime: dict[str, Any] | None = Field(
        None,
        description="device, number type, limits and what is loaded when",
        json_schema_extra=_EACH_OWN,
    )
    retention: dict[str, Any] | None = Field(
        None,
        description="how long data that nobody needs any more is kept",
        json_schema_extra=_EACH_OWN,
    )
    metadata: Metadata | None = Field(
        None,
        description="what the files of all stages say of their making; see the parameter of stages",
        json_schema_extra={"default_words": "full"},
    )
    reuse: Reuse | None = Field(
        None,
        description="whether stages take results of earlier jobs; see the parameter of stages",
        json_schema_extra={"default_words": "on"},
    )
    c2pa: dict[str, Any] | None = Field(
        None,
        description="certificate that results are signed with, as C2PA lays down",
        json_schema_extra={"default_words": "results are not signed"},
    )
    notify: list[Any] | None = Field(
        None,
        description="receivers, each a command or a webhook, of messages about jobs, batches, the "
        "queue, holds and pauses",
        json_schema_extra={"default_words": "none"},
    )
    metrics: FilePath | None = Field(
        None,
        description="file for Prometheus that `watch` replaces every 15 seconds, ending in .prom, "
        "for node_exporter's textfile collector",
        json_schema_extra={"default_words": "none"},
    )
    serve: dict[str, Any] | None = Field(
        None,
        description="what `dna-pipeline serve` offers, and to whom",
        json_schema_extra=_EACH_OWN,
    )
    models: dict[str, Any] | None = Field(
        None,
        description="weights by names of your choice, each with the provider that runs them",
        json_schema_extra={"default_words": "none"},
    )
    pipelines: dict[str, Any] = Field(
        description="lists of stages by names of your choice; each stage takes the result of the "
        "one before it"
    )
    inboxes: list[Any] | None = Field(
        None,
        description="watched folders, each with its pipeline",
        json_schema_extra={"default_words": "none"},
    )


class SidecarHead(BaseModel):
    """The keys of a sidecar other than stages."""

    # Built when the first sidecar is read, since most commands read none.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)

    image: str | None = Field(
        None,
        description="the image that this file is about, relative to the file; makes it a job file",
        json_schema_extra={"default_words": "the image of the file's name"},
    )
    images: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="images or globs, relative to this file: a job for each; makes it a job file",
        json_schema_extra={"default_words": "none"},
    )
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        None,
        description="lists of values by keys like img2img.strength: a job for each combination",
        json_schema_extra={"default_words": "none"},
    )
    count: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None,
        description="how many jobs to make of each image, each with the next seeds",
        json_schema_extra={"default_words": "1"},
    )
    max_failures: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        None,
        description="wrong or failed rows above which the batch is paused",
        json_schema_extra={"default_words": "no limit"},
    )
    on_duplicate: Literal["skip", "run"] | None = Field(
        None,
        description="rows of the batch that were done before: skipped, or run again",
        json_schema_extra={"default_words": "the inbox's"},
    )
    pipeline: str | None = Field(
        None,
        description="the pipeline to run, by its name in pipeline.yaml",
        json_schema_extra={"default_words": "the inbox's"},
    )
    priority: Priority | None = Field(
        None,
        description="higher runs first",
        json_schema_extra={"default_words": "the inbox's"},
    )
    not_before: Annotated[str, AfterValidator(_time)] | None = Field(
        None,
        description="earliest start; without a zone it is local",
        json_schema_extra={
            "default_words": "at once",
            "pattern": r"^\d{4}-\d\d-\d\d",
            "values": "date and time like 2026-12-01T22:00:00+01:00",
        },
    )
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | Literal["from_content"] | None = Field(
        None,
        description="seed for every stage that takes one; negative: drawn for each job; "
        "from_content: made of the image's bytes",
        json_schema_extra={"default_words": "each stage's own"},
    )
    seed_offset: Annotated[int, Field(ge=0, le=2**32)] | None = Field(
        None,
        description="number that is added to each seed; `count` sets it",
        json_schema_extra={"default_words": "0"},
    )
    tags: list[str] = Field([], description="words of your choice, copied to manifest and ledger")
    meta: dict[str, Any] = Field(
        {}, description="values of your choice, copied to the manifest; prompts may use them"
    )
    metadata: Metadata | None = Field(
        None,
        description="what the files of all stages say of their making; see the parameter of stages",
        json_schema_extra={"default_words": "as the inbox and the pipeline have it"},
    )
    reuse: Reuse | None = Field(
        None,
        description="whether stages take results of earlier jobs; see the parameter of stages",
        json_schema_extra={"default_words": "as the inbox and the pipeline have it"},
    )
    result_name: ResultName | None = Field(
        None,
        description="name of the result's folder, before `-` and the job's id, with placeholders "
        "like {stem}, {row}, {img2img.strength} and {meta.asset}",
        json_schema_extra={"default_words": "the inbox's"},
    )


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
    reuse: Reuse | None = None
    """Values of these parameters for all stages of its jobs; None: as the pipeline has it."""
    result_name: str | None = None
    """Template of the names of result folders; None: the image's stem."""
    line: int = field(default=0, compare=False)
    """Line of the inbox's path in pipeline.yaml; 0 if it has none."""

    @property
    def keeps(self) -> bool:
        """True if intake copies the files and never touches the originals."""
        return self.originals == "keep"

    @property
    def for_all_stages(self) -> dict[str, Any]:
        """Parameters that the inbox sets for all stages of its jobs."""
        values = {"metadata": self.metadata, "reuse": self.reuse}
        return {name: value for name, value in values.items() if value is not None}

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
    receivers: tuple[ReceiverConfig, ...] = ()
    metrics: Path | None = None
    """None: no metrics are written."""
    serve: ServeSpec = field(default_factory=ServeSpec)

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
        return self.data / WILDCARDS

    @property
    def thumbnails(self) -> Path:
        """Folder of small pictures of results, by the hashes of their files."""
        return self.data / "thumbnails"

    @property
    def kept_results(self) -> Path:
        """Folder of the results of stages that later jobs may take."""
        return self.data / KEPT_RESULTS

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


ID_PATTERN = "[A-Za-z][A-Za-z0-9_]{0,39}"
"""Regular expression of a stage's id."""


def is_valid_id(text: str) -> bool:
    """True if the text may be a stage's id, which is part of file names and of column names."""
    return re.fullmatch(ID_PATTERN, text) is not None
