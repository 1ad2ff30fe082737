"""Advice for a key in the wrong place: where it belongs in a stage, pipeline.yaml or a sidecar.

Each function of that kind returns a clause for the message about the key, or "" if the nearest
valid key is the best advice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dna_pipeline.config.file_parts import (
    PathsSpec,
    RetentionSpec,
    RuntimeSpec,
    ServeSpec,
    SigningSpec,
)
from dna_pipeline.config.schema import (
    HEAD_KEYS,
    InboxSpec,
    Pipeline,
    PipelineFile,
)
from dna_pipeline.config.sentences import closest_key
from dna_pipeline.stages import registry

if TYPE_CHECKING:
    from dna_pipeline.stages.base import Stage

_ALMOST = 0.85
"""Similarity from which a word counts as a misspelled valid key, before any other explanation."""
_MOST_NAMED = 3

Stages = Mapping[str, "type[Stage]"]
"""Stages by the keys that may hold their parameters, the most likely ones first."""


def stages_of(pipelines: Iterable[Pipeline]) -> dict[str, type[Stage]]:
    """The stages of some pipelines by their ids, then by their types."""
    specs = [stage for pipeline in pipelines for stage in pipeline.stages]
    ids = {spec.id: registry.stage_class(spec.type) for spec in specs}
    return ids | {spec.type: registry.stage_class(spec.type) for spec in specs}


def known_stages() -> dict[str, type[Stage]]:
    """All stages of this package by their types."""
    return {kind: registry.stage_class(kind) for kind in registry.STAGES}


def stages_near(name: object, pipelines: Mapping[str, Pipeline]) -> Stages:
    """The stages of all pipelines; those of the named pipeline come first."""
    own = [pipelines[name]] if isinstance(name, str) and name in pipelines else []
    return stages_of(own) | stages_of(pipelines.values())


def notation(unit: str, stage: str, parameter: str) -> str:
    """The notation of a stage's parameter in a document of that unit (see `Document.unit`)."""
    if unit == "row":
        return f"the column `{stage}.{parameter}`"
    if unit == "--set":
        return f"`--set {stage}.{parameter}=…`"
    return f"`{stage}: {{{parameter}: …}}`"


def is_almost(key: str, valid_keys: Iterable[str]) -> bool:
    """True if the key is most likely a misspelling of a valid one."""
    return bool(get_close_matches(key.casefold(), [k.casefold() for k in valid_keys], 1, _ALMOST))


def with_parameter(key: str, stages: Stages) -> list[str]:
    """The keys of the stages that have such a parameter, by any of its names."""
    return [name for name, stage in stages.items() if key in parameters(stage)]


def parameters(stage: type[Stage]) -> set[str]:
    """All names of a stage's parameters: their own, aliases, and those of other programs."""
    return {*stage.model_fields, *stage.aliases, *stage.foreign_words}


def own_name(stage: type[Stage], key: str) -> str:
    """The valid name of a parameter; for a name of other programs, ours."""
    return stage.foreign_words.get(key, key)


def at_top(key: str, unit: str, stages: Stages, others: Stages) -> str:
    """Advice for an unknown key of a sidecar.

    Args:
        stages: the stages of the job's pipeline.
        others: the stages of all pipelines, and all stages of this package.
    """
    if is_almost(key, {*HEAD_KEYS, *stages}):
        return ""
    if clause := (_parameter_of(key, unit, stages) or _of_another(key, stages, others)):
        return clause
    if clause := in_pipeline_file(key):
        return clause
    spelled = {name: key_ for key_, stage in stages.items() for name in parameters(stage)}
    near = closest_key(key, [*HEAD_KEYS, *stages, *spelled])
    if near is None or near in {*HEAD_KEYS, *stages}:
        return ""
    return _parameter_of(near, unit, stages)


def _parameter_of(key: str, unit: str, stages: Stages) -> str:
    names = with_parameter(key, stages)[:_MOST_NAMED]
    choices = [notation(unit, name, own_name(stages[name], key)) for name in names]
    return f"did you mean {' or '.join(choices)}?" if choices else ""


def _of_another(key: str, stages: Stages, others: Stages) -> str:
    names = [name for name in with_parameter(key, others) if name not in stages]
    if not names:
        return ""
    clause = f"it is a parameter of {' and '.join(names[:_MOST_NAMED])}"
    return f"{clause}, which this pipeline does not have; it has: {', '.join(stages)}"


def in_stage(key: str, unit: str, stage: type[Stage], stages: Stages, others: Stages) -> str:
    """Advice for an unknown parameter of a stage."""
    if key in stage.foreign_words:
        return f"did you mean {stage.foreign_words[key]!r}?"
    if is_almost(key, parameters(stage)):
        return ""
    if key in {*stages, *others}:
        return f"{key} is a stage of its own; move it to the left, under no other"
    if names := with_parameter(key, stages)[:_MOST_NAMED]:
        choices = " or ".join(notation(unit, name, own_name(stages[name], key)) for name in names)
        return f"it is a parameter of {' and '.join(names)}: write {choices}"
    if key in HEAD_KEYS:
        return f"`{key}` belongs to no stage; move it to the left, under none"
    return _of_another(key, stages, others)


def in_pipeline_file(key: str) -> str:
    """Advice for a key of pipeline.yaml in a sidecar."""
    if key in InboxSpec.model_fields:
        return "it belongs to an inbox in pipeline.yaml, not to a sidecar"
    if part := _part(key):
        return f"it belongs into pipeline.yaml, below `{part}`, not into a sidecar"
    if key in PipelineFile.model_fields:
        return "it belongs into pipeline.yaml, not into a sidecar"
    return ""


def _part(key: str) -> str:
    parts: dict[str, Any] = {
        "runtime": RuntimeSpec, "retention": RetentionSpec, "paths": PathsSpec, "c2pa": SigningSpec,
        "serve": ServeSpec,
    }  # fmt: skip
    if key in InboxSpec.model_fields or key in known_stages():
        return ""  # more likely those than the keys of `serve` of the same names
    return next((name for name, model in parts.items() if key in model.model_fields), "")


def at_top_of_pipeline_file(key: str) -> str:
    """Advice for an unknown key of pipeline.yaml."""
    if is_almost(key, PipelineFile.model_fields):
        return ""
    if part := _part(key):
        return f"it belongs below `{part}`"
    if key in InboxSpec.model_fields:
        return "it belongs to an entry of `inboxes`"
    stages = known_stages()
    if key in {*HEAD_KEYS, *stages} or with_parameter(key, stages):
        return "it belongs into a sidecar, the YAML beside an image, or into a stage of `pipelines`"
    return ""


def in_inbox(key: str, stages: Stages) -> str:
    """Advice for an unknown key of an inbox.

    Args:
        stages: the stages of its pipeline, then the others.
    """
    if is_almost(key, InboxSpec.model_fields):
        return ""
    if key in stages:
        return f"write it below `defaults`: `defaults: {{{key}: …}}`"
    if names := with_parameter(key, stages)[:1]:
        name = own_name(stages[names[0]], key)
        return f"did you mean `defaults: {{{names[0]}: {{{name}: …}}}}`?"
    if part := _part(key):
        return f"it belongs below `{part}`, for all inboxes together"
    return "it belongs into a sidecar, the YAML beside an image" if key in HEAD_KEYS else ""


def in_defaults(key: str, stages: Stages, others: Stages) -> str:
    """Advice for an unknown key of an inbox's `defaults`.

    Args:
        stages: the stages of its pipeline.
        others: the stages of all pipelines.
    """
    if is_almost(key, others):
        return ""
    if clause := _parameter_of(key, "line", stages) or _parameter_of(key, "line", others):
        return clause
    if key in InboxSpec.model_fields:
        return "it belongs to the inbox itself; move it to the left"
    return "it belongs into a sidecar, the YAML beside an image" if key in HEAD_KEYS else ""
