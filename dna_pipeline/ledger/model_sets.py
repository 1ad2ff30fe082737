"""Model sets: the names of a job's models and LoRAs, and their text in the column `jobs.models`.

The text only groups jobs that wait for the same files. Names are read from the stages, where each
stands alone, since a name may hold any character that pipeline.yaml accepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

_LORA = "lora:"
"""The beginning of the name of an extra file."""


def names_in(stages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the models in stages, as `jobs.stages` has them; sorted, each once."""
    models = (stage["params"].get("model") for stage in stages)
    return sorted({name for name in models if name is not None})


def text_of(names: Iterable[str], files: Iterable[str] = ()) -> str:
    """Return the text for a set of models and extra files, different for different sets.

    The names are joined by commas, as people read and query them. If a name would make that
    ambiguous, the text is a JSON list.

    Args:
        files: names that begin with the kind of the file, such as `lora:clay`.
    """
    models, others = sorted(set(names)), sorted(set(files))
    looks_like_file = any(name.startswith(_LORA) for name in models)
    if all(map(_is_plain, [*models, *others])) and not looks_like_file:
        return ",".join([*models, *others])
    return json.dumps([models, others] if others else models)


@lru_cache(maxsize=4096)
def names_of(text: str) -> frozenset[str]:
    """Return the names of the models in the text of a set, its extra files left out."""
    if not text.startswith("["):
        return frozenset(n for n in text.split(",") if n and not n.startswith(_LORA))
    parts: list[Any] = json.loads(text)
    has_files = any(isinstance(part, list) for part in parts)
    return frozenset(parts[0] if has_files else parts)


def _is_plain(name: str) -> bool:
    return name.isprintable() and bool(name) and "," not in name and not name.startswith("[")
