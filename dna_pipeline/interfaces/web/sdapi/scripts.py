"""Scripts and extensions that a request wants to run. There are none here, so most of what programs
send by default has to pass, and what would change the picture has to be refused or said."""

from __future__ import annotations

from typing import Any

from dna_pipeline.config.sentences import shown
from dna_pipeline.config.yaml12 import is_list, is_mapping
from dna_pipeline.interfaces.web.sdapi.errors import Refusal
from dna_pipeline.interfaces.web.sdapi.requests import Img2ImgRequest

CONTROLNET = "controlnet"
UNITS = "controlnet_units"
"""Key in which older programs send units of ControlNet."""
NO_CONTROLNET = (
    "ControlNet is not done here: redraw the picture without it, or disable the unit ({})"
)

_NOTHING = frozenset({"", "none"})
_WITHOUT_MODEL = "reference"
"""Start of the names of modules that need no model to have an effect."""


def check_scripts(request: Img2ImgRequest, warnings: list[str]) -> None:
    """Raise `Refusal` for a script or for a unit of ControlNet that would change the picture, and
    warn of other extensions that would."""
    if (request.script_name or "").strip().casefold() not in _NOTHING:
        raise Refusal(
            f"script_name: there is no script {shown(request.script_name)} here; leave it out",
            code="script_not_found",
        )
    for name, content in (request.alwayson_scripts or {}).items():
        arguments = content.get("args") if is_mapping(content) else content
        if name.strip().casefold() == CONTROLNET:
            _check_units(arguments)
        elif _has_effect(arguments):
            warnings.append(f"The script {shown(name)} had no effect: there is none here.")
    _check_units((request.model_extra or {}).get(UNITS))


def _check_units(units: object) -> None:
    for unit in units if is_list(units) else [units]:
        if (model := _model_in_use(unit)) is not None:
            raise Refusal(NO_CONTROLNET.format(model[:80]), code="controlnet_not_supported")


def _model_in_use(unit: object) -> str | None:
    """The model or module of a unit that would have an effect; None for any other."""
    if is_mapping(unit):
        enabled, module, model = (unit.get(key) for key in ("enabled", "module", "model"))
        enabled = enabled is None or enabled
    elif is_list(unit) and len(unit) > 2:  # enabled, module, model, …
        enabled, module, model = unit[:3]
    else:
        return None
    if not enabled:
        return None
    if model is not None and str(model).strip().casefold() not in _NOTHING:
        return str(model)
    return str(module) if str(module).casefold().startswith(_WITHOUT_MODEL) else None


def _has_effect(arguments: object) -> bool:
    """True if an extension with these arguments would do something, as far as can be told."""
    if not is_list(arguments) or not arguments:
        return bool(arguments) and is_mapping(arguments)
    first: Any = arguments[0]
    if is_mapping(first):
        model = str(first.get("ad_model", first.get("model", "?"))).casefold()
        return first.get("enabled") is not False and model not in _NOTHING
    return first not in (False, None, 0, "")
