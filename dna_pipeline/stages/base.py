"""The base class of stages: a model of the parameters, and a short `run`.

The fields of a stage's class are its parameters, which a pipeline, an inbox or a sidecar may set,
with their constraints, units and defaults. Importing a stage's module imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from dna_pipeline.base.files import Artifact
from dna_pipeline.providers.base import Device, KeptParts, ModelCache

A = TypeVar("A")
T = TypeVar("T")

Kind = Literal["image", "mesh"]

Metadata = Literal["full", "marks", "none"]
Reuse = Literal["on", "off"]
Authorship = Literal["keeps", "reworks", "generates"]

LATER_IN_ALL: dict[str, Any] = {"metadata": "full"}
"""`Stage.later_parameters` of every stage."""

NOT_OF_RESULT = frozenset({"reuse"})
"""Parameters that decide how a stage comes to its result and not what that is. Keys and recipes
leave them out."""

FromContent = Literal["from_content"]
Seed = Annotated[int, Field(lt=2**63)] | FromContent
"""A seed as people write it: a negative one is drawn at random for each job, `from_content` is
computed from the image's bytes."""


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """A file that a stage reads besides its input and its model."""

    path: Path
    sha256: str


class DeviceTurns(Protocol):
    """Does some work when it is the job's turn to have the device."""

    def take(self, work: Callable[[], T]) -> T: ...

    def share(self, key: Hashable, item: A, work: Callable[[Sequence[A]], Sequence[T]]) -> T: ...


class AtOnce(DeviceTurns):
    """Does all work at once, for a job that is alone."""

    def take(self, work: Callable[[], T]) -> T:
        return work()

    def share(self, key: Hashable, item: A, work: Callable[[Sequence[A]], Sequence[T]]) -> T:
        return work([item])[0]


@dataclass(slots=True)
class StageContext:
    """The input, the work folder and the models that a running stage may use.

    Attributes:
        stage_id: the stage's id within its pipeline.
        stem: start of every file name that the stage writes; holds the id where types repeat.
        source: the image to read; never written.
        work_dir: the only folder to write to; exists.
        models: loads models by name.
        on_step: reports `(step, steps)` and raises `Cancelled` when the job is to stop.
        low_memory_level: how often memory has run out in this stage already; above 0, work with
            less of it and say so in `warnings`.
        warnings: sentences for the manifest.
        computed_on: set by a stage that did not compute where its model does, or has no model;
            for the manifest.
        extra_files: the files of `Stage.extra_files`, by their names there.
        model_facts: set by a stage: facts for the manifest about its model that only the run
            brings; see `Stage.model_facts`.
        recipe: the manifest's facts about the input and the stages up to this one, without those
            that differ from run to run; for files that carry them along. Empty unless the stage's
            `metadata` is `full`.
        companions: the image's further files by their roles, such as `mask`; only those of
            `Stage.companions`, and of the files beside the image only those that no stage before
            it got. Never written.
        parts: parts of the work that were kept, and a place to keep them; None if the stage has to
            compute all of it.
        turns: see `on_device`.
        batch_size: set by a stage whose work was shared: number of the jobs that shared it.
        is_degraded: set by a stage that did without something that failed and may work again, so
            that another run may give other bytes; the result is not kept for later jobs.
    """

    stage_id: str
    stem: str
    source: Path
    work_dir: Path
    models: ModelCache
    on_step: Callable[[int, int], None]
    low_memory_level: int = 0
    warnings: list[str] = field(default_factory=list[str])
    computed_on: Device | None = None
    recipe: dict[str, Any] = field(default_factory=dict[str, Any])
    extra_files: Mapping[str, ExtraFile] = field(default_factory=dict[str, ExtraFile])
    model_facts: dict[str, Any] = field(default_factory=dict[str, Any])
    companions: dict[str, Path] = field(default_factory=dict[str, Path])
    parts: KeptParts | None = None
    turns: DeviceTurns = field(default_factory=AtOnce)
    batch_size: int = 1
    is_degraded: bool = False

    def on_device(self, work: Callable[[], T]) -> T:
        """Do some work with the stage's model, which is loaded then; gives what it gives.

        Other jobs have the device at other times. So reading, encoding and writing files, which
        need none, belong outside. Only for stages with `asks_for_device`.
        """
        return self.turns.take(work)

    def on_device_together(
        self, key: Hashable, item: A, work: Callable[[Sequence[A]], Sequence[T]]
    ) -> T:
        """As `on_device`, for work that jobs of the same stage type and model, with an equal key,
        may share.

        Args:
            item: what this job's part of the work is done with.
            work: gets the items of some jobs, and gives something for each. What goes wrong with
                one of them has to be a part of what it gives: an error ends the worker if there
                are several.
        """
        return self.turns.share(key, item, work)

    def path(self, suffix: str) -> Path:
        """Path of the artifact `<stem><suffix>`, e.g. `ctx.path(".matte.png")`."""
        return self.work_dir / f"{self.stem}{suffix}"


class Stage(BaseModel, ABC):
    """Base of all stages. Frozen: a resolved stage is a value that is stored and sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: ClassVar[str]
    consumes: ClassVar[Kind] = "image"
    produces: ClassVar[Kind] = "image"
    weight: ClassVar[float] = 1.0
    """The stage's part of a job's time, relative to other stages; for the job's progress."""
    file_words: ClassVar[frozenset[str]] = frozenset()
    """Words that follow the stem in the names of the stage's files: `matte` in `cat.matte.png`. An
    id that is written there too must not be one of these words."""
    needs_model: ClassVar[bool] = True
    asks_for_device: ClassVar[bool] = False
    """True if `run` uses its model within `StageContext.on_device` alone. Another stage has the
    device from the begin of its `run` to the end."""
    max_oom_retries: ClassVar[int] = 1
    """Most times that the stage is run again after memory ran out, each time with a
    `StageContext.low_memory_level` one higher; other models are unloaded before."""
    aliases: ClassVar[dict[str, str]] = {}
    """Other names of parameters that are accepted, each with the name that it stands for."""
    foreign_words: ClassVar[dict[str, str]] = {}
    """Names that other programs have for parameters, each with ours. They are not accepted, since
    their meaning may differ a little, but the error message gives our name."""
    other_words: ClassVar[dict[str, str]] = {}
    """By parameter, a regular expression of the further texts that `translated` accepts for it, so
    that editors accept them too. It is one for Python and for ECMAScript."""
    later_parameters: ClassVar[dict[str, Any]] = {}
    """Parameters that were added after the stage's first release, each with the default that it was
    added with. The dedup key leaves a parameter out at that value, so that a job done before an
    update counts as the same job afterwards."""
    authorship: ClassVar[Authorship] = "keeps"
    """The part that a generative model has in the result: it `reworks` the image that the stage
    reads, or `generates` all that is seen of the result. A stage that only measures, cuts or
    converts `keeps` what the image was."""
    templates: ClassVar[tuple[str, ...]] = ()
    """The parameters whose text may hold fields and wildcards (see `config/templates.py`); the
    stage's parameter `seed` decides what those choose."""

    companion_roles: ClassVar[frozenset[str]] = frozenset()
    """Roles of the companions that the stage may read. A companion that lies beside the image goes
    to the first stage of a job that needs its role, and to no other."""

    part: ClassVar[str] = ""
    """Kind of the part of its work that the stage keeps in `StageContext.parts`; "" if none."""
    part_params: ClassVar[frozenset[str]] = frozenset()
    """The parameters that decide that part; the others cost only the rest of the work."""

    metadata: Metadata = Field(
        "full",
        description="what the files say of their making: full: marks, and the recipe with its "
        "prompts; marks: no recipe and no prompt; none: nothing",
    )
    reuse: Reuse = Field(
        "on",
        description="on: take the result of an earlier job that asked for the same, and keep this "
        "one for later jobs; off: compute it",
    )
    model: str | None = Field(
        None,
        description="name of the model, from `models:`",
        json_schema_extra={"default_words": "the only one that fits"},
    )

    def resolved(self, draw: Callable[[], int], content: int | None = None) -> Self:
        """The same stage with a definite seed.

        Args:
            draw: gives seeds of 32 bits.
            content: the seed that the image's bytes stand for; None while they are unknown, and a
                seed `from_content` stays so.
        """
        seed: int | str | None = getattr(self, "seed", None)
        if isinstance(seed, int) and seed < 0:
            return self.model_copy(update={"seed": draw()})
        if seed == "from_content" and content is not None:
            return self.model_copy(update={"seed": content})
        return self

    @classmethod
    def translated(cls, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters with words of other programs replaced by ours, where the meaning is clear.

        Args:
            params: some of the parameters, by their own names; values may be wrong in any way.
        """
        return params

    @classmethod
    def advice(cls, name: str, value: object) -> str:  # noqa: ARG003 - for those that know some
        """Advice on how to write a wrong value of that parameter; "" if there is none.

        A wrong value may be another program's word for the same, such as a sampler's label.
        """
        return ""

    def check(self) -> None:
        """Raise a `JobError` for values that are valid one by one but not together."""

    def needed_files(self) -> list[str]:
        """Names of the files that `extra_files` cannot do without, as far as the parameters name
        them; a job waits until all are there."""
        return []

    def extra_files(self, data: Path) -> dict[str, Path]:
        """Files in the data folder, besides input and model, that the stage may read.

        By names that begin with the kind of the file: `lora:clay`. Their bytes count in the stage's
        key and in the dedup key.

        Raises:
            WeightsMissing: one of `needed_files` is not there.
        """
        return {}

    def model_facts(self, files: Mapping[str, ExtraFile]) -> dict[str, Any]:
        """Keys of the manifest's entry of the model that say which files change it."""
        return {}

    def companions(self) -> dict[str, str]:
        """The companions that the stage needs with these parameters, by their roles: the path by
        which the parameters name it, or "" for the one that is found beside the image."""
        return dict.fromkeys(self.companion_roles, "")

    def disk_bytes(self, width: int, height: int) -> int:
        """Bytes that the stage writes at most, about, for a job's picture of that size."""
        return 8 * width * height

    def work(self, width: int, height: int) -> float:
        """Amount of work for an input of that size, in any unit: the stage's time is assumed to be
        a linear function of it."""
        return width * height

    def part_share(self) -> float:
        """Share of the stage's time that is saved if `part` was kept: from 0 to 1."""
        return 0.0

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the picture that the next stage reads, for an input of that size."""
        return width, height

    def is_ready(self, model: Any) -> bool:
        """True if `prepare` has nothing to do for the loaded model."""
        return True

    def prepare(self, model: Any) -> None:
        """Do what `run` would wait for the first time, such as compiling code. It belongs to the
        phase `loading`, which has a time limit of its own."""

    @abstractmethod
    def run(self, ctx: StageContext) -> list[Artifact]:
        """Do the work, and return the files; the first is the one that the next stage reads."""

    def params(self) -> dict[str, Any]:
        """All parameters by their names, as plain JSON values."""
        return self.model_dump(mode="json")

    def result_params(self) -> dict[str, Any]:
        """The parameters that decide the result, without those of `NOT_OF_RESULT`."""
        return {n: value for n, value in self.params().items() if n not in NOT_OF_RESULT}
