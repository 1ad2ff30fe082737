"""What a stage is: a model of its parameters and a short `run`.

The class is the parameters: its fields are what a pipeline, an inbox or a sidecar may set, with
their constraints, units and defaults. Importing a stage's module imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from dna_pipeline.base.files import Artifact
from dna_pipeline.providers.base import Device, ModelCache

Kind = Literal["image", "mesh"]

FromContent = Literal["from_content"]
Seed = Annotated[int, Field(lt=2**63)] | FromContent
"""A seed as it is written: negative means drawn for each job, `from_content` the image's own."""


@dataclass(slots=True)
class StageContext:
    """What a running stage may touch.

    Attributes:
        stage_id: the stage's id within its pipeline.
        stem: start of every file name it writes; holds the id where types repeat.
        source: the image to read; never written.
        work_dir: the one folder to write to; exists.
        models: loads models by name.
        on_step: reports `(step, steps)` and raises `Cancelled` when the job is to stop.
        thrift: how often memory has run out in this stage already; above 0, work with less of it
            and say so in `warnings`.
        warnings: sentences for the manifest.
        computed_on: set by a stage that did not compute where its model does, or has no model;
            for the manifest.
        recipe: what the manifest will say of the input and of the stages up to this one, without
            what differs from run to run; for files that carry it along.
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

    def path(self, suffix: str) -> Path:
        """Where the artifact `<stem><suffix>` belongs, e.g. `ctx.path(".matte.png")`."""
        return self.work_dir / f"{self.stem}{suffix}"


class Stage(BaseModel, ABC):
    """Base of all stages. Frozen: a resolved stage is a value that is stored and sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: ClassVar[str]
    consumes: ClassVar[Kind] = "image"
    produces: ClassVar[Kind] = "image"
    weight: ClassVar[float] = 1.0
    """Share of a job's time beside other stages, for the progress of the whole job."""
    file_words: ClassVar[frozenset[str]] = frozenset()
    """What follows the stem in the names of its files: `matte` in `cat.matte.png`. No stage that
    has its id there may be called so."""
    needs_model: ClassVar[bool] = True
    max_oom_retries: ClassVar[int] = 1
    """How often the stage is run again where memory runs out, with `StageContext.thrift` raised;
    the other models have left the device by then."""
    aliases: ClassVar[dict[str, str]] = {}
    """Other accepted spellings of parameters, each with the name it stands for."""
    foreign_words: ClassVar[dict[str, str]] = {}
    """Names that other programs have for parameters, each with ours. They are not accepted, since
    the meaning may differ a little, but answered with the right one."""
    later_parameters: ClassVar[dict[str, Any]] = {}
    """Parameters that came after the stage's first release, each with its default then. A job's
    identity leaves them out at that value: what was done before an update is not done again."""
    templates: ClassVar[tuple[str, ...]] = ()
    """The parameters whose text may hold fields and wildcards (see `config/templates.py`); the
    stage's parameter `seed` decides what those choose."""

    model: str | None = Field(None, description="name of the model, from `models:`")

    def resolved(self, draw: Callable[[], int], content: int | None = None) -> Self:
        """All that is left to chance or to the image made definite.

        Args:
            draw: gives seeds of 32 bits.
            content: the seed that the image's bytes stand for; what is to come from them stays
                `from_content` where they are not known.
        """
        seed: int | str | None = getattr(self, "seed", None)
        if isinstance(seed, int) and seed < 0:
            return self.model_copy(update={"seed": draw()})
        if seed == "from_content" and content is not None:
            return self.model_copy(update={"seed": content})
        return self

    @classmethod
    def advice(cls, name: str, value: object) -> str:  # noqa: ARG003 - for those that know some
        """How to write what was meant by a wrong value of that parameter; "" if that is unknown.

        Called with what other programs call the same, such as a sampler's label.
        """
        return ""

    def check(self) -> None:
        """Raise a `JobError` for values that are valid one by one but not together."""

    def disk_bytes(self, width: int, height: int) -> int:
        """About how much it writes at most, for a job's picture of that size."""
        return 8 * width * height

    def work(self, width: int, height: int) -> float:
        """What its time grows with, for an input of that size, in a unit of its own."""
        return width * height

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what the next stage reads, for an input of that size."""
        return width, height

    @abstractmethod
    def run(self, ctx: StageContext) -> list[Artifact]:
        """Do the work; the files made, the one that the next stage reads first."""

    def params(self) -> dict[str, Any]:
        """All parameters by their names, as plain JSON values."""
        return self.model_dump(mode="json")
