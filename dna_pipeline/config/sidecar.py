"""Sidecars, and the resolution of a job's parameters from all their sources.

Precedence: sidecar, the inbox's `defaults`, the pipeline's stage, the stage's own defaults.
Everything is resolved here, once, at intake; random seeds are drawn here and recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from dna_pipeline.base.errors import (
    JobError,
    SidecarInvalid,
    UnknownModel,
    UnknownPipeline,
)
from dna_pipeline.config import misplaced_keys, result_names
from dna_pipeline.config.companion_paths import apart_from_config
from dna_pipeline.config.image_metadata import MetadataError, parameters_of
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.parameters import (
    check_params,
    keys_of,
    model_problem,
    parameter_keys,
    with_defaults,
)
from dna_pipeline.config.problems import (
    MAX_COLLECTED,
    Problem,
    dotted,
    error_of,
    from_validation,
    joined,
    not_json,
    unknown_key,
    wrong_key,
    wrong_value,
)
from dna_pipeline.config.schema import (
    HEAD_KEYS,
    Config,
    Inbox,
    Pipeline,
    SidecarHead,
    StageSpec,
    parse_time,
)
from dna_pipeline.config.sentences import nearest, shown
from dna_pipeline.config.templates import Lines, TemplateError, fill, no_files
from dna_pipeline.config.yaml12 import Document, KeyPath, YamlError, loads
from dna_pipeline.config.yaml_faults import without_blank
from dna_pipeline.stages import companions, registry
from dna_pipeline.stages.base import LATER_IN_ALL, NOT_OF_RESULT

if TYPE_CHECKING:
    from dna_pipeline.stages.base import Stage

Texts = Callable[[], Mapping[str, str]]
"""Gives the texts in a picture by their keywords. Raises `MetadataError`."""


@dataclass(frozen=True, slots=True)
class ResolvedStage:
    """A stage with a definite value of every parameter, as the worker runs it."""

    id: str
    type: str
    params: dict[str, Any]


@dataclass(frozen=True)
class JobSpec:
    """The work of one job.

    Without slots, since it keeps what its stages need once it was asked: thousands of images
    without a sidecar share one spec.

    Attributes:
        not_before: an aware UTC time.
        result_name: name of the result's folder, before the job's id; None: the image's stem.
    """

    pipeline: str
    stages: tuple[ResolvedStage, ...]
    priority: int = 0
    not_before: datetime | None = None
    tags: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict[str, Any])
    result_name: str | None = None

    @cached_property
    def stage_values(self) -> list[dict[str, Any]]:
        """Its stages as plain values, as `jobs.stages` has them."""
        return [{"id": s.id, "type": s.type, "params": s.params} for s in self.stages]

    @cached_property
    def needed_companions(self) -> list[tuple[str, str]]:
        """Role and reference of the companions that its stages need, each once."""
        return companions.needed(self.stage_values)

    @cached_property
    def needed_files(self) -> list[str]:
        """Names of the files besides their models that its stages cannot do without; sorted."""
        return registry.needed_files(self.stage_values)

    def identity(self) -> dict[str, Any]:
        """The work as plain values, for the dedup key.

        Equal in all versions of the program that do the same work: a parameter that a later version
        added is left out if it has the value that acts like the earlier version. So an update of
        the program repeats no jobs. The name of the result's folder and `reuse` do not
        count.
        """
        values = asdict(self)
        del values["result_name"]
        for stage in values["stages"]:
            later = LATER_IN_ALL | registry.stage_class(stage["type"]).later_parameters
            params = stage["params"]
            stage["params"] = {
                name: value
                for name, value in params.items()
                if name not in NOT_OF_RESULT and (name not in later or later[name] != value)
            }
        return values


def parse_sidecar(data: bytes) -> Document:
    """The document of a sidecar; an empty file gives an empty one. Raises `SidecarInvalid`."""
    try:
        document = loads(data)
    except YamlError as error:
        raise SidecarInvalid(str(error)) from None
    if document.value is None:
        return Document({}, {})
    if not isinstance(document.value, dict):
        expectation = "should be keys with values, like `img2img: {strength: 0.6}`"
        text = document.value
        mend = without_blank(text) if isinstance(text, str) else None
        message = f"line 1: {expectation}, not {shown(text)}"
        raise SidecarInvalid(f"{message}; {mend}" if mend else message)
    return document


def resolve(
    config: Config,
    inbox: Inbox,
    document: Document | None,
    draw: Callable[[], int],
    context: JobContext | None = None,
    seeds: Mapping[str, int] | None = None,
    lines: Lines = no_files,
    texts: Texts | None = None,
) -> JobSpec:
    """Resolve the parameters of one job.

    Args:
        document: the sidecar; None if there is none.
        draw: returns a random integer in [0, 2³²), for each seed that is left to chance.
        context: facts of the image; None if there is no image yet.
        seeds: by stage id, seeds from an earlier draw, used in place of new ones.
        lines: gives the lines of wildcard files, which prompts may name.
        texts: gives the texts in the image, for stages with `from_metadata`; None if the image is
            not there yet.

    Raises:
        SidecarInvalid: wrong keys. ParameterInvalid: wrong values. UnknownPipeline, UnknownModel,
        NoEffectiveSteps: as they say. The detail has one line for each fault.
    """
    context = context or JobContext(inbox=inbox.name)
    return _Resolver(config, inbox, document or Document({}, {}), context, lines, texts).resolve(
        draw, seeds or {}
    )


class _Resolver:
    """Collects all problems, so that a person can correct them at once and not key by key."""

    def __init__(
        self,
        config: Config,
        inbox: Inbox,
        document: Document,
        context: JobContext,
        lines: Lines,
        texts: Texts | None,
    ) -> None:
        self.config = config
        self.lines = lines
        self.texts = texts
        self.literal: dict[str, set[str]] = {}
        """By stage, texts that come from the image, and so hold no fields and wildcards."""
        self.inbox = inbox
        self.context = context
        self.document = document
        self.entries: dict[str, Any] = document.value
        self.problems: list[Problem] = []
        self.faults: list[JobError] = []
        """Errors with codes of their own."""
        self.stages: misplaced_keys.Stages = {}
        self.others: misplaced_keys.Stages = {}

    def resolve(self, draw: Callable[[], int], seeds: Mapping[str, int]) -> JobSpec:
        head = self._head()
        pipeline = self._pipeline(head.pipeline)
        self._check_keys(pipeline)
        self._check_offset(pipeline, head.seed_offset)
        self._check_result_name(head, pipeline)
        layers = [(spec, self._parameters(spec, head)) for spec in self._used_stages(pipeline)]
        self.problems += not_json(self.document, self.problems)
        if self.problems:
            self._raise_with_rest(layers)
        results = [(spec, self._stage(spec, params)) for spec, params in layers]
        stages = [(spec, stage) for spec, stage in results if stage is not None]
        for spec, stage in stages:
            self._judge(spec, stage)
        self._raise_problems()
        data = self.context.fields() | {
            "pipeline": pipeline.name, "tags": ", ".join(head.tags), "meta": head.meta,
        }  # fmt: skip
        offset = head.seed_offset or 0
        definite = [
            (spec, self._filled(spec, self._definite(spec, stage, draw, seeds, offset), data))
            for spec, stage in stages
        ]
        self._raise_problems()
        for spec, stage in definite:
            self._judge(spec, stage)  # prompts are whole only now
        result_name = self._result_name(head, definite, data)
        self._raise_problems()
        return JobSpec(
            pipeline=pipeline.name,
            stages=tuple(
                ResolvedStage(spec.id, spec.type, stage.params()) for spec, stage in definite
            ),
            priority=self.inbox.priority if head.priority is None else head.priority,
            not_before=parse_time(head.not_before) if head.not_before else None,
            tags=tuple(head.tags),
            meta=head.meta,
            result_name=result_name,
        )

    def _result_name(
        self,
        head: SidecarHead,
        stages: Sequence[tuple[StageSpec, Stage]],
        data: Mapping[str, Any],
    ) -> str | None:
        """The name of the result's folder; None if no template applies, or nothing is left of it.

        A placeholder of the sidecar must have a value. One of the inbox or of a matrix stands for
        nothing where a job has none, since that is no fault of the job.
        """
        own = head.result_name
        template = own or self.inbox.result_name or self.context.result_name
        if template is None:
            return None
        values: dict[str, Any] = {**data, "priority": head.priority, "not_before": head.not_before}
        for spec, stage in reversed(stages):
            params = stage.params()
            values["seed"] = params.get("seed", values.get("seed"))
            names = {name: name for name in params} | dict(stage.aliases)
            for key in reversed(keys_of(spec)):
                values |= {f"{key}.{word}": params[name] for word, name in names.items()}
                values[key] = params
        try:
            return result_names.fill(template, values, strict=own is not None) or None
        except TemplateError as error:
            self.problems.append(wrong_value(self.document, ("result_name",), str(error)))
            return None

    def _check_result_name(self, head: SidecarHead, pipeline: Pipeline) -> None:
        if head.result_name is None:
            return
        keys = parameter_keys(misplaced_keys.stages_of([pipeline]))
        values = {**self.context.fields(), "meta": head.meta}
        try:
            result_names.check_fields(head.result_name, keys)
            for name in result_names.placeholders(head.result_name):
                if name.startswith("meta."):
                    result_names.fill(f"{{{name}}}", values, strict=True)
        except TemplateError as error:
            self.problems.append(wrong_value(self.document, ("result_name",), str(error)))

    def _definite(
        self,
        spec: StageSpec,
        stage: Stage,
        draw: Callable[[], int],
        seeds: Mapping[str, int],
        offset: int,
    ) -> Stage:
        """The stage with its seed. One from an earlier draw has its offset already."""
        is_drawn_before = False

        def next_seed() -> int:
            nonlocal is_drawn_before
            is_drawn_before = spec.id in seeds
            return seeds[spec.id] if is_drawn_before else draw()

        result = stage.resolved(next_seed, self.context.content)
        seed: int | str | None = getattr(result, "seed", None)
        if not offset or is_drawn_before or not isinstance(seed, int):
            return result
        return result.model_copy(update={"seed": (seed + offset) % 2**63})

    def _check_offset(self, pipeline: Pipeline, offset: int | None) -> None:
        """Refuse several jobs that would be the same."""
        stages = [registry.stage_class(spec.type) for spec in pipeline.stages]
        if offset is not None and not any("seed" in stage.model_fields for stage in stages):
            text = f"no stage of the pipeline {pipeline.name!r} has a seed, so all are the same"
            self.problems.append(wrong_value(self.document, ("count",), text))

    def _raise_problems(self) -> None:
        if (error := error_of(self.problems)) is not None:
            raise joined([error, *self.faults])
        if self.faults:
            raise joined(self.faults)

    def _raise_with_rest(self, layers: Iterable[tuple[StageSpec, dict[str, Any]]]) -> NoReturn:
        """Raise the problems, with the faults of each stage as it is without its wrong values."""
        problems = list(self.problems)
        for spec, params in layers:
            places = [problem.where.split(".") for problem in problems]
            wrong = {place[1] for place in places if place[0] in keys_of(spec) and place[1:]}
            aliases = registry.stage_class(spec.type).aliases
            wrong |= {aliases[name] for name in wrong if name in aliases}
            rest = {name: value for name, value in params.items() if name not in wrong}
            if (stage := self._stage(spec, rest)) is not None:
                self._judge(spec, stage)
        self.problems = problems
        self._raise_problems()
        raise AssertionError("there are problems")

    def _judge(self, spec: StageSpec, stage: Stage) -> None:
        """Note what is wrong with a stage as a whole, and with its model."""
        try:
            stage.check()
        except JobError as error:
            error.where = error.where or spec.id
            self.faults.append(error)
        try:
            self._check_model(spec, stage.model)
        except UnknownModel as error:
            self.faults.append(error)

    def _head(self) -> SidecarHead:
        values = {key: value for key, value in self.entries.items() if value is not None}
        try:
            return SidecarHead.model_validate(values)
        except ValidationError as error:
            self.problems += from_validation(error, self.document, (), SidecarHead)
            wrong = {item["loc"][0] for item in error.errors()}
        if "pipeline" in wrong:
            self._raise_problems()
        rest = {key: value for key, value in values.items() if key not in wrong}
        return SidecarHead.model_validate(rest)

    def _pipeline(self, requested: str | None) -> Pipeline:
        name = self.inbox.pipeline if requested is None else requested
        pipeline = self.config.pipelines.get(name)
        if pipeline is None:
            start = "" if requested is None else self.document.start(("pipeline",))
            near = nearest(name, self.config.pipelines)
            text = f"{start}no pipeline is called {shown(name)}; {near}"
            unknown = UnknownPipeline(text, where="pipeline")
            before = error_of(self.problems)
            raise joined([unknown] if before is None else [before, unknown])
        return pipeline

    def _check_keys(self, pipeline: Pipeline) -> None:
        self.stages = misplaced_keys.stages_of([pipeline])
        in_config = misplaced_keys.stages_of(self.config.pipelines.values())
        self.others = in_config | misplaced_keys.known_stages()
        stages = {key for spec in pipeline.stages for key in keys_of(spec)}
        others = {
            key for p in self.config.pipelines.values() for s in p.stages for key in keys_of(s)
        }
        others |= set(registry.stage_types())
        for key in self.entries:
            if key in HEAD_KEYS or key in stages:
                continue
            if len(self.problems) >= MAX_COLLECTED:
                break
            stage, _, parameter = key.partition(".")
            if parameter and stage in stages:
                way = misplaced_keys.notation(self.document.unit, stage, parameter)
                text = f"unknown key '{dotted((key,))}'; write it as {way}"
            elif key in others:
                names = ", ".join(dict.fromkeys(spec.id for spec in pipeline.stages))
                text = f"the pipeline {pipeline.name!r} has no stage {key!r}; it has: {names}"
            else:
                unit = self.document.unit
                hint = misplaced_keys.at_top(key, unit, self.stages, self.others)
                valid_keys = HEAD_KEYS | stages
                self.problems.append(unknown_key(self.document, (key,), valid_keys, hint))
                continue
            self.problems.append(wrong_key(self.document, (key,), text))

    def _used_stages(self, pipeline: Pipeline) -> list[StageSpec]:
        """The stages of the job: `remove_background: false` leaves that stage out.

        Only a stage whose result is of the kind that it takes can be left out.
        """
        used = [spec for spec in pipeline.stages if not self._is_left_out(spec)]
        if not used:
            key = next(k for k in keys_of(pipeline.stages[0]) if self.entries.get(k) is False)
            text = f"leaves out the last stage of the pipeline {pipeline.name!r}; keep one"
            self.problems.append(wrong_value(self.document, (key,), text))
        return used

    def _is_left_out(self, spec: StageSpec) -> bool:
        values = (self.entries[key] for key in reversed(keys_of(spec)) if key in self.entries)
        return _leaves_out(registry.stage_class(spec.type), next(values, None))

    def _parameters(self, spec: StageSpec, head: SidecarHead) -> dict[str, Any]:
        """The sidecar's parameters for a stage, each part checked by itself."""
        kind = registry.stage_class(spec.type)
        result: dict[str, Any] = {}
        parts: list[tuple[KeyPath, Any]] = [
            ((key,), None if _leaves_out(kind, value := self.entries.get(key)) else value)
            for key in keys_of(spec)
        ]
        for_all = {"metadata": head.metadata, "reuse": head.reuse, "seed": head.seed}
        parts.insert(0, ((), {name: value for name, value in for_all.items()
                              if value is not None and name in kind.model_fields}))  # fmt: skip
        for path, value in parts:
            hint = partial(
                misplaced_keys.in_stage, unit=self.document.unit, stage=kind, stages=self.stages,
                others=self.others,
            )  # fmt: skip
            params, problems = check_params(kind, self.document, path, value, hint=hint)
            self.problems += problems
            result |= params
        return apart_from_config(self.config, result)

    def _stage(self, spec: StageSpec, params: dict[str, Any]) -> Stage | None:
        """The stage with the parameters of all sources; None if they are not valid together."""
        kind = registry.stage_class(spec.type)
        try:
            return kind.model_validate(self._merged(kind, spec, params))
        except ValidationError as error:
            key = next((key for key in reversed(keys_of(spec)) if self.entries.get(key)), None)
            line = self.document.line((key,)) if key else 0
            for problem in from_validation(error, self.document, (spec.id,), kind):
                text = f"{problem.text} (with the values that apply besides)"
                self.problems.append(replace(problem, text=text, line=line))
            return None

    def _merged(self, kind: type[Stage], spec: StageSpec, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters of all sources; those of the sidecar win over those in the image."""
        values = with_defaults(kind, spec, self.inbox.defaults, self.inbox.for_all_stages)
        if (values | params).get("from_metadata") is not True or self.texts is None:
            return values | params
        try:
            own = parameters_of(self.texts())
        except MetadataError as error:
            if "prompt" not in params:
                where = dotted((spec.id, "from_metadata"))
                text = f"{where}: {error}"
                self.problems.append(Problem(where, text, 0, wrong_key=False))
            return values | params
        theirs = params.keys() | ({"schedule"} if "sampler" in params else set[str]())
        own = kind.translated({key: own[key] for key in own.keys() - theirs})
        self.literal[spec.id] = own.keys() & set(kind.templates)
        return values | own | params

    def _filled(self, spec: StageSpec, stage: Stage, data: dict[str, Any]) -> Stage:
        """The stage with its templates filled in."""
        seed: int | str = getattr(stage, "seed", 0)
        texts: dict[str, str] = {}
        literal = self.literal.get(spec.id, set())
        for name in (name for name in stage.templates if name not in literal):
            try:
                texts[name] = fill(getattr(stage, name), data | {"seed": seed}, seed, self.lines)
            except TemplateError as error:
                self.problems.append(self._wrong_template(spec, name, error))
        return stage.model_copy(update=texts)

    def _wrong_template(self, spec: StageSpec, name: str, error: TemplateError) -> Problem:
        path = self._place(spec, name)
        if path is not None:
            return wrong_value(self.document, path, str(error))
        where = dotted((spec.id, name))
        return Problem(where, f"{where}: {error} (as pipeline.yaml has it)", 0, wrong_key=False)

    def _check_model(self, spec: StageSpec, name: str | None) -> None:
        text = model_problem(self.config.models, spec.type, name)
        if text is None:
            return
        path = self._place(spec, "model")
        start = f"{self.document.start(path)}{dotted(path)}" if path else spec.id
        raise UnknownModel(f"{start}: {text}", where=f"{spec.id}.model")

    def _place(self, spec: StageSpec, name: str) -> KeyPath | None:
        """Path at which the sidecar sets that parameter, in any spelling; None if it does not."""
        aliases = registry.stage_class(spec.type).aliases
        spellings = [name, *(alias for alias, own in aliases.items() if own == name)]
        paths = [(key, word) for key in reversed(keys_of(spec)) for word in spellings]
        return next((path for path in paths if self.document.has(path)), None)


def _leaves_out(kind: type[Stage], value: object) -> bool:
    """True if the value of a stage's key means that the stage does not run."""
    return value is False and kind.consumes == kind.produces
