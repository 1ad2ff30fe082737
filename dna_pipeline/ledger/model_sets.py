"""Model sets: the names of a job's models and LoRAs, and their text in the column `jobs.models`.

The text only groups jobs that wait for the same files. Names are read from the stages, where each
stands alone, since a name may hold any character that pipeline.yaml accepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

_LORA = "lora:"
"""Mark before the name of a LoRA in a text."""


def names_in(stages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the models in stages, as `jobs.stages` has them; sorted, each once."""
    models = (stage["params"].get("model") for stage in stages)
    return sorted({name for name in models if name is not None})


def text_of(names: Iterable[str], loras: Iterable[str] = ()) -> str:
    """Return the text for a set of models and LoRAs, different for different sets.

    The names are joined by commas, as people read and query them. If a name would make that
    ambiguous, the text is a JSON list.
    """
    ordered, adapters = sorted(set(names)), sorted(set(loras))
    if all(map(_is_plain, [*ordered, *adapters])):
        return ",".join([*ordered, *(f"{_LORA}{name}" for name in adapters)])
    return json.dumps([ordered, adapters] if adapters else ordered)


def _is_plain(name: str) -> bool:
    return (
        name.isprintable() and bool(name) and "," not in name and not name.startswith(("[", _LORA))
    )
