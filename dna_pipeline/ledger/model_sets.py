"""The models that a job uses: their names in its stages, and the text in the column `jobs.models`.

The text groups jobs that wait for the same files, and nothing more. Names are read from the stages,
where they stand one by one: a name may hold any character that pipeline.yaml accepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def names_in(stages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the models of stages as `jobs.stages` has them, sorted, each once."""
    named = (stage["params"].get("model") for stage in stages)
    return sorted({name for name in named if name is not None})


def text_of(names: Iterable[str]) -> str:
    """The text for a set of models: the same for the same set, another for any other.

    Names joined by commas, as people read and query them; a JSON list where one of the names would
    make that ambiguous.
    """
    listed = sorted(set(names))
    return ",".join(listed) if all(map(_is_plain, listed)) else json.dumps(listed)


def _is_plain(name: str) -> bool:
    return name.isprintable() and bool(name) and "," not in name and not name.startswith("[")
