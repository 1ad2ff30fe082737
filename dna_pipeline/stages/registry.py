"""The stages and providers by their names.

The values are import strings, so that a module, and what it needs, loads only when it is used.
Other packages add theirs through the entry point groups `dna_pipeline.stages` and
`dna_pipeline.providers`; a name of ours cannot be replaced that way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import ConfigError

if TYPE_CHECKING:
    from dna_pipeline.providers.base import Provider
    from dna_pipeline.stages.base import Stage

STAGES: dict[str, str] = {
    "img2img": "dna_pipeline.stages.img2img.stage:Img2Img",
    "remove_background": "dna_pipeline.stages.remove_background:RemoveBackground",
    "triposr": "dna_pipeline.stages.triposr.stage:TripoSR",
}

PROVIDERS: dict[str, str] = {
    "diffusers": "dna_pipeline.providers.stable_diffusion.provider:Diffusers",
    "triposr": "dna_pipeline.providers.triposr.provider:TripoSRModel",
    "rembg": "dna_pipeline.providers.matting.rembg:Rembg",
    "border_key": "dna_pipeline.providers.matting.border_key:BorderKey",
}


@cache
def _import_strings() -> dict[str, dict[str, str]]:
    # One look at the metadata of all packages serves both groups: it takes a twentieth of the start
    # of a command.
    theirs = entry_points()
    return {
        group: {e.name: e.value for e in theirs.select(group=f"dna_pipeline.{group}")} | ours
        for group, ours in (("stages", STAGES), ("providers", PROVIDERS))
    }


def _load(group: str, name: str) -> Any:
    value = _import_strings()[group][name]
    module, _, attribute = value.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        kind = group.removesuffix("s")
        raise ConfigError(f"the {kind} {name!r} ({value}) cannot be loaded: {error}") from error


def stage_types() -> list[str]:
    """Names of all stages, ours first."""
    return sorted(_import_strings()["stages"], key=lambda n: (n not in STAGES, n))


def provider_names() -> list[str]:
    """Names of all providers, ours first."""
    return sorted(_import_strings()["providers"], key=lambda n: (n not in PROVIDERS, n))


def stage_class(name: str) -> type[Stage]:
    """The stage of that type. Raises KeyError where there is none, ConfigError if it is broken."""
    return _load("stages", name)


def provider_class(name: str) -> type[Provider]:
    """The provider of that name. Raises KeyError where there is none, ConfigError if broken."""
    return _load("providers", name)


def needed_files(stages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the files besides their models that stages, as `jobs.stages` has them, cannot do
    without; sorted, each once."""
    return sorted({name for stage in valid_stages(stages) for name in stage.needed_files()})


def extra_files(stages: Iterable[Mapping[str, Any]], data: Path) -> dict[str, Path]:
    """Files in the data folder that stages may read besides input and model, by name.

    Raises:
        WeightsMissing: one that a stage needs is not there.
    """
    return {n: p for stage in valid_stages(stages) for n, p in stage.extra_files(data).items()}


def valid_stage(kind: str, params: Mapping[str, Any]) -> Stage | None:
    """The stage of that type with these parameters; None if its class is gone or has changed, which
    the worker reports."""
    try:
        return stage_class(kind).model_validate(params)
    except (KeyError, ValueError, ConfigError):
        return None


def valid_stages(stages: Iterable[Mapping[str, Any]]) -> Iterator[Stage]:
    """The stages, as `jobs.stages` has them, without those that are not valid any more."""
    for stage in stages:
        if (valid := valid_stage(stage["type"], stage["params"])) is not None:
            yield valid
