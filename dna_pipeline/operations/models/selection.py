"""Joins the models of pipeline.yaml with those that are published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.providers.base import Provider
from dna_pipeline.weights.pins import PinnedModel, Pins, Placement


def configured(config: Config, name: str) -> Provider:
    """The model of that name in pipeline.yaml. Raises `ConfigError` if there is none."""
    if (provider := config.models.get(name)) is None:
        have = ", ".join(config.models)
        raise ConfigError(f"there is no model {name!r}; pipeline.yaml has {have}")
    return provider


@dataclass(slots=True)
class Selection:
    """Models to fetch.

    Attributes:
        remarks: sentences about models that are there already.
        unknown: sentences about models that are missing or wrong, and that a pull cannot mend.
    """

    placements: list[Placement] = field(default_factory=list[Placement])
    remarks: list[str] = field(default_factory=list[str])
    unknown: list[str] = field(default_factory=list[str])


def select(config: Config, pins: Pins, names: Sequence[str], *, full: bool) -> Selection:
    """Choose the models to fetch: the named ones, else those that pipeline.yaml lacks.

    A name is that of a model of pipeline.yaml, else that of a published one.

    Args:
        full: True for float32, where there is a choice.

    Raises:
        ConfigError: there is no such model, or it is not published.
    """
    selection = Selection()
    for name in names or config.models.declared:
        provider = config.models.get(name)
        if provider is not None:
            _select_configured(selection, pins, name, provider, full)
        else:
            _select_published(selection, config, _find(config, pins, name), pins, full)
    if names and selection.unknown:
        raise ConfigError("\n".join(selection.unknown))
    selection.placements = _unique(selection.placements)
    return selection


def _select_configured(
    selection: Selection, pins: Pins, name: str, provider: Provider, full: bool
) -> None:
    missing = provider.missing()
    placements = provider.published(pins)
    if missing is None:
        if (why := provider.mismatch()) is not None:
            selection.unknown.append(f"{name}: {why}; {provider.way_to_replace()}")
        elif provider.weights()[1]:
            selection.remarks.append(f"{name}: {provider.weights()[0]} is there already")
    elif placements:
        selection.placements += [_variant(pins, one, full) for one in placements]
    else:
        selection.unknown.append(
            f"{name}: {missing}. No published model fits this entry; "
            "`dna-pipeline models list --known` lists them"
        )


def _find(config: Config, pins: Pins, name: str) -> PinnedModel:
    if name in pins.models:
        return pins.models[name]
    names = [*config.models, *pins.models]
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"there is no model {name!r}: {hint}pipeline.yaml has {', '.join(config.models)}; "
        f"published are {', '.join(pins.models)}"
    )


def _select_published(
    selection: Selection, config: Config, model: PinnedModel, pins: Pins, full: bool
) -> None:
    placement = _variant(pins, _place(config, pins, model), full)
    if placement.target.exists() and not placement.lacking():
        if wrong := _mismatch_at(config, placement.target):
            selection.unknown.append(f"{model.name}: {wrong}")
            return
        selection.remarks.append(f"{model.name}: {placement.target} is there already")
        return
    selection.placements.append(placement)


def _mismatch_at(config: Config, target: Path) -> str:
    """Sentence about a wrong file at a place that pipeline.yaml names; "" if there is none."""
    for provider in config.models.declared.values():
        if target in provider.weight_paths and (why := provider.mismatch()) is not None:
            return f"{why}; {provider.way_to_replace()}"
    return ""


def _place(config: Config, pins: Pins, model: PinnedModel) -> Placement:
    """Place of a published model: where pipeline.yaml expects it, else its own below the data
    folder."""
    for provider in config.models.values():
        for placement in provider.published(pins):
            if model in pins.variants(placement.model) and not model.is_file:
                return replace(placement, model=model)
            if placement.model == model:
                return placement
    return Placement(model, config.data / Path(model.target))


def _variant(pins: Pins, placement: Placement, full: bool) -> Placement:
    """The placement with the model in float32, if that is wanted, or if a folder that is not
    complete holds files of it already."""
    model = placement.model
    other = pins.models.get(model.full)
    if other is None or (model.is_file and placement.target.name != Path(model.target).name):
        return placement
    if model.is_file:
        target = placement.target.with_name(Path(other.target).name)
        return Placement(other, target) if full else placement
    is_begun = any(
        file.is_weights and file not in model.files and (placement.target / file.path).is_file()
        for file in other.files
    )
    return replace(placement, model=other) if full or is_begun else placement


def _unique(placements: Iterable[Placement]) -> list[Placement]:
    """The placements, each target once."""
    return [*{placement.target: placement for placement in placements}.values()]
