"""Forms for the parameters of a pipeline's stages, from the models that check them.

The form has nothing of its own: names, ranges, units, descriptions and defaults are those of the
stages, so that a new stage or parameter has its field at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dna_pipeline.config.schema import Config, Pipeline, StageSpec
from dna_pipeline.config.yaml12 import dumps
from dna_pipeline.operations.serving.form_values import FieldProblem, WrongFields, parameters_of
from dna_pipeline.stages import registry

Kind = Literal["choice", "number", "text", "long_text"]
Schema = Mapping[str, Any]

_COMMON: Mapping[str, Sequence[str]] = {
    "img2img": (
        "prompt", "negative_prompt", "strength", "steps", "guidance_scale", "seed", "sampler",
        "model",
    ),
    "remove_background": ("alpha_matting", "force"),
    "triposr": ("resolution", "foreground_ratio", "target_faces", "bake_texture", "formats",
                "turntable"),
}  # fmt: skip
"""Parameters that people set most, in the order of the form; the rest is folded away."""
_MOST_COMMON = 6
"""Number of the first parameters of another stage are shown unfolded."""
_ENDLESS = 1e12
"""A bound so far off that nobody needs to know it."""
_WORDS = {"true": "yes", "false": "no", "null": "none"}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a form.

    Attributes:
        name: of the field, `stage.parameter`.
        kind: `choice` has `choices`; the others are written.
        choices: value and words of each.
        default: what holds if the field stays empty, in words.
        range: in words; "" if there is none.
        unit: "" if there is none.
    """

    name: str
    label: str
    kind: Kind
    description: str
    default: str
    choices: tuple[tuple[str, str], ...] = ()
    range: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class StageForm:
    """The fields of a stage: those that people set most, and all others."""

    id: str
    type: str
    common: tuple[Field, ...]
    others: tuple[Field, ...]


def forms_of(config: Config, pipeline: Pipeline) -> list[StageForm]:
    """The forms of a pipeline's stages, in their order."""
    return [_form(config, stage) for stage in pipeline.stages]


def values_of(
    pipeline: Pipeline, fields: Mapping[str, str], emptied: Collection[str] = ()
) -> dict[str, Any]:
    """Read the fields of a pipeline's forms; give keys and values as a sidecar has them.

    An empty field counts as absent, so that the pipeline's value holds.

    Args:
        emptied: names of the prompts that are to be empty, whatever the pipeline has. Names of
            other fields are passed over.

    Raises:
        WrongFields: with the names that the fields have.
    """
    values: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    for stage in pipeline.stages:
        prefix = f"{stage.id}."
        own = {
            name.removeprefix(prefix): text
            for name, text in fields.items()
            if name.startswith(prefix) and text.strip()
        }
        for name in prompts_of(stage):
            if prefix + name not in emptied:
                continue
            if name in own:
                text = "has a text, and is ticked to be empty; take one of them back"
                problems.append(FieldProblem(prefix + name, text))
            own[name] = ""
        try:
            parameters = parameters_of(stage.type, own)
        except WrongFields as error:
            problems += [FieldProblem(f"{prefix}{p.name}", p.text) for p in error.problems]
            continue
        if parameters:
            values[stage.id] = parameters
    if problems:
        raise WrongFields(problems)
    return values


def prompts_of(stage: StageSpec) -> tuple[str, ...]:
    """Names of the parameters of a stage that are texts for a model, whose empty text is a
    value."""
    return registry.stage_class(stage.type).templates


def emptied_in(pipeline: Pipeline, texts: Mapping[str, str]) -> frozenset[str]:
    """Names of the prompts that are empty among texts that `changes_of` gave."""
    prompts = {f"{stage.id}.{name}" for stage in pipeline.stages for name in prompts_of(stage)}
    return frozenset(name for name, text in texts.items() if not text and name in prompts)


def changes_of(pipeline: Pipeline, stages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Write texts into the fields so that a new job has the parameters of an earlier one.

    Args:
        stages: those of the job, each with `id`, `type` and `params`.
    """
    texts: dict[str, str] = {}
    by_id = {stage.id: stage for stage in pipeline.stages}
    for done in stages:
        stage = by_id.get(done["id"])
        if stage is None or stage.type != done["type"]:
            continue
        before = _all_parameters(stage)
        for name, value in done["params"].items():
            if name in before and _plain(before[name]) != _plain(value):
                texts[f"{stage.id}.{name}"] = _text(value)
    return texts


def to_yaml(values: Mapping[str, Any]) -> str:
    """Write keys and values as a sidecar that people can read and edit."""
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines.append(f"{key}:")
            lines += [f"  {name}: {dumps(each)}" for name, each in value.items()]  # pyright: ignore[reportUnknownVariableType]
        else:
            lines.append(f"{key}: {dumps(value)}")
    return "".join(f"{line}\n" for line in lines)


def _form(config: Config, stage: StageSpec) -> StageForm:
    properties: dict[str, Schema] = registry.stage_class(stage.type).model_json_schema()[
        "properties"
    ]
    first = _COMMON.get(stage.type) or list(properties)[:_MOST_COMMON]
    common = [name for name in first if name in properties]
    others = [name for name in properties if name not in common]
    fields = {name: _field(config, stage, name, properties[name]) for name in properties}
    return StageForm(
        stage.id,
        stage.type,
        tuple(fields[name] for name in common),
        tuple(fields[name] for name in others),
    )


def _field(config: Config, stage: StageSpec, name: str, schema: Schema) -> Field:
    kinds: list[Schema] = [schema, *schema.get("anyOf", ())]
    choices = _choices(config, stage, name, schema)
    return Field(
        name=f"{stage.id}.{name}",
        label=name.replace("_", " "),
        kind=_kind(stage, name, schema, choices),
        description=schema.get("description", ""),
        default=_default(stage, name, schema),
        choices=tuple((each, _WORDS.get(each, each)) for each in choices),
        range=next((words for each in kinds if (words := _range(each))), ""),
        unit=schema.get("unit", ""),
    )


def _kind(stage: StageSpec, name: str, schema: Schema, choices: Sequence[str]) -> Kind:
    if choices:
        return "choice"
    if name in prompts_of(stage):
        return "long_text"
    return "number" if schema.get("type") in ("integer", "number") else "text"


def _choices(config: Config, stage: StageSpec, name: str, schema: Schema) -> list[str]:
    """All values that a parameter may have; none if they cannot be listed."""
    if name == "model":
        return [key for key, model in config.models.items() if stage.type in model.stages]
    parts: Sequence[Schema] = schema.get("anyOf", (schema,))
    values: list[str] = []
    for part in parts:
        if part.get("type") == "array":
            return []
        if part.get("type") == "boolean":
            values += ["true", "false"]
        elif part.get("type") == "null":
            values.append("null")
        elif "enum" in part or "const" in part:
            values += [_text(value) for value in part.get("enum", [part.get("const")])]
        else:
            return []
    return values


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    parts = [
        f"{words} {value:,}"
        for words, value in (
            ("above", above), ("at least", low), ("below", below), ("at most", high),
        )
        if value is not None and abs(value) < _ENDLESS
    ]  # fmt: skip
    return ", ".join(parts)


def _default(stage: StageSpec, name: str, schema: Schema) -> str:
    """Say in words what holds if nobody says anything, as the pipeline or the stage has it."""
    if name in stage.params:
        return _text(stage.params[name])
    if "default_words" in schema:
        return schema["default_words"]
    text = _text(schema.get("default", ""))
    return _WORDS.get(text, text)


def _all_parameters(stage: StageSpec) -> dict[str, Any]:
    """The parameters that a job of the pipeline has if nobody says anything."""
    model = registry.stage_class(stage.type)
    fields = model.model_fields.items()
    return {name: field.get_default(call_default_factory=True) for name, field in fields} | dict(
        stage.params
    )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _text(value: Any) -> str:
    """A value as a field has it, which `parameters_of` reads back."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):  # pyright: ignore[reportUnknownVariableType]
        return ", ".join(value)  # pyright: ignore[reportUnknownArgumentType]
    return json.dumps(value, ensure_ascii=False, default=str)
