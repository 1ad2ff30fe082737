"""Parameters of one stage from any place: pipeline, inbox defaults or sidecar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from dna_pipeline.config import templates
from dna_pipeline.config.problems import (
    Problem,
    dotted,
    from_validation,
    no_hint,
    wrong_key,
    wrong_value,
)
from dna_pipeline.config.sentences import nearest, shown
from dna_pipeline.config.yaml12 import Document, KeyPath, is_mapping
from dna_pipeline.config.yaml_faults import without_blank
from dna_pipeline.stages import registry

if TYPE_CHECKING:
    from dna_pipeline.config.schema import StageSpec
    from dna_pipeline.providers.checkpoints import Models
    from dna_pipeline.stages.base import Stage


def rename_aliases(
    stage: type[Stage], params: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Parameters by their own names and in their own words, and the keys that repeat a parameter
    in another spelling."""
    renamed: dict[str, Any] = {}
    twice: list[str] = []
    for key, value in params.items():
        name = stage.aliases.get(key, key)
        if name in renamed:
            twice.append(key)
        renamed[name] = value
    return stage.translated(renamed), twice


def parameter_keys(stages: Mapping[str, type[Stage]]) -> dict[str, None]:
    """The keys of all parameters of some stages, like `img2img.strength`, by their own names and
    by their aliases, in order.

    Args:
        stages: by the keys that hold their parameters.
    """
    return {
        f"{key}.{name}": None
        for key, stage in stages.items()
        for name in (*stage.model_fields, *stage.aliases)
    }


def takes_text(stages: Iterable[type[Stage]], parameter: str) -> bool:
    """True if the parameter may be any text, so that `12` or `no` is text there."""
    fields = (s.model_fields.get(s.aliases.get(parameter, parameter)) for s in stages)
    return any(f is not None and str in (f.annotation, *get_args(f.annotation)) for f in fields)


def check_params(
    stage: type[Stage],
    document: Document,
    path: KeyPath,
    value: object,
    *,
    other_keys: Iterable[str] = (),
    hint: Callable[[str], str] = no_hint,
) -> tuple[dict[str, Any], list[Problem]]:
    """Check the parameters at `path` by themselves; other parameters may be set elsewhere.

    Args:
        value: the value at `path`. Null counts as an empty mapping, `model: null` as no model.
        other_keys: further keys that are valid beside the parameters.
        hint: returns where an unknown key belongs, "" if that is unknown.

    Returns:
        The parameters by their own names, and their problems.
    """
    if value is None:
        return {}, []
    if not is_mapping(value):
        text = f"should be a mapping of parameters to values, not {shown(value)}"
        mend = without_blank(value) if isinstance(value, str) else None
        return {}, [wrong_value(document, path, f"{text}; {mend}" if mend else text)]
    params, twice = rename_aliases(stage, value)
    if params.get("model") is None:
        params.pop("model", None)
    problems = [_given_twice(stage, document, (*path, key), value) for key in twice]
    problems += _wrong_templates(stage, document, path, value)
    try:
        stage.model_validate(params)
    except ValidationError as error:
        problems += from_validation(
            error,
            document,
            path,
            stage,
            spelled={stage.aliases.get(key, key): key for key in value},
            other_keys=[*stage.aliases, *other_keys],
            partial=True,
            hint=hint,
            advice=stage.advice,
        )
    return params, problems


def _wrong_templates(
    stage: type[Stage], document: Document, path: KeyPath, params: Mapping[str, Any]
) -> list[Problem]:
    problems: list[Problem] = []
    for key, text in params.items():
        if isinstance(text, str) and stage.aliases.get(key, key) in stage.templates:
            try:
                templates.check(text)
            except templates.TemplateError as error:
                problems.append(wrong_value(document, (*path, key), str(error)))
    return problems


def _given_twice(
    stage: type[Stage], document: Document, path: KeyPath, params: Mapping[str, Any]
) -> Problem:
    aliases, last = stage.aliases, str(path[-1])
    first = next(key for key in params if aliases.get(key, key) == aliases.get(last, last))
    return wrong_key(document, path, f"'{dotted(path)}' means the same as {first!r}; keep one")


def with_defaults(
    stage: type[Stage],
    spec: StageSpec,
    defaults: Mapping[str, Mapping[str, Any] | None],
    for_all: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The parameters of a pipeline's stage, with those that an inbox sets for all stages, and its
    defaults for the stage's type and id."""
    params = spec.params | dict(for_all or {})
    for key in keys_of(spec):
        overrides, _ = rename_aliases(stage, defaults.get(key) or {})
        params |= {k: v for k, v in overrides.items() if k != "model" or v is not None}
    return params


def uses_masks(
    stages: Iterable[StageSpec], defaults: Mapping[str, Mapping[str, Any] | None]
) -> bool:
    """True if a stage asks for a mask beside the image, with an inbox's defaults applied."""
    kinds = ((registry.stage_class(spec.type), spec) for spec in stages)
    return any(
        "mask" in kind.companion_roles and with_defaults(kind, spec, defaults).get("mask") == "file"
        for kind, spec in kinds
    )


def keys_of(spec: StageSpec) -> tuple[str, ...]:
    """The keys that may hold such a stage's parameters; the last one has precedence."""
    return tuple(dict.fromkeys((spec.type, spec.id)))


def model_problem(models: Models, stage_type: str, name: str | None) -> str | None:
    """Reason why the model of that name cannot run such a stage; None if it can.

    Without a name, the reason why the stage needs one.
    """
    if name is not None:
        provider = models.get(name)
        if provider is not None and stage_type in provider.stages:
            return None
        if (text := models.ambiguity(name)) is not None:
            return text
    fitting = [n for n, provider in models.items() if stage_type in provider.stages]
    if name is None and not registry.stage_class(stage_type).needs_model:
        return None
    if name is None:
        which = (
            f"several fit: {', '.join(sorted(fitting))}"
            if fitting
            else "none that fits is declared"
        )
        return f"needs a model; {which}"
    if name in models:
        return f"the model {name!r} is not one for {stage_type}; {nearest(name, fitting)}"
    return f"no model is called {name!r}; {nearest(name, fitting)}"
