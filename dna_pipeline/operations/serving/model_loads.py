"""Models as requests name them, and requests to load one before a job needs it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from dna_pipeline.config.schema import Config, Pipeline
from dna_pipeline.ledger import model_loads
from dna_pipeline.ledger.store import set_setting
from dna_pipeline.operations.serving.pipelines import models_of
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.submissions import Submissions

CHUNK_SIZE = "old_api:chunk_size"
"""Setting with the `chunk_size` of the requests for a mesh that give none."""


def missing_weights(config: Config, pipeline: Pipeline) -> str | None:
    """A sentence about the first model of a pipeline whose weights are not there; None if all
    are."""
    for name in models_of(pipeline):
        provider = config.models.get(name)
        if provider is None:
            return f"model {name!r} is not there"
        if (why := provider.missing()) is not None:
            return f"model {name!r}: {why}"
    return None


def find_model(config: Config, text: str) -> str | None:
    """Find a configured model by its name, or by its path as pipeline.yaml, this machine or the old
    backend writes it; None if there is none. Looks at no path that a request names."""
    text = text.strip()
    if text in config.models:
        return text
    spelling = _normal(text)
    for name, provider in config.models.declared.items():
        if spelling in _spellings(config, provider.weight_paths):
            return name
    return None


def _spellings(config: Config, paths: Iterable[Path]) -> set[str]:
    """A model's paths: absolute, below the data folder, with `data/` before it, and the name
    alone."""
    spellings: set[str] = set()
    for path in paths:
        spellings |= {_normal(str(path)), path.name}
        if path.is_relative_to(config.data):
            below = path.relative_to(config.data).as_posix()
            spellings |= {below, f"data/{below}", f"{config.data.name}/{below}"}
        if path.is_relative_to(config.file.parent):
            spellings.add(path.relative_to(config.file.parent).as_posix())
    return spellings


def _normal(text: str) -> str:
    return os.path.normpath(text.replace("\\", "/")) if text else ""


def request(submissions: Submissions, model: str) -> int:
    """Ask the daemon to have a model loaded; give the request's number."""
    return submissions.transact(lambda s: model_loads.request(s, model))


def withdraw(submissions: Submissions, number: int) -> None:
    """Take a request back, if no daemon has it yet."""
    submissions.transact(lambda s: model_loads.withdraw(s, number))


def state(readers: Readers, number: int) -> dict[str, Any] | None:
    """Read a request: its `state` is requested, taken, done or failed. None if it is no more."""
    with readers.lend() as queries:
        return queries.model_load(number)


def kept_chunk_size(readers: Readers) -> int | None:
    """The `chunk_size` that a request has set for later ones; None if none has."""
    if not readers.has_ledger():
        return None
    with readers.lend() as queries:
        text = queries.setting(CHUNK_SIZE)
    return None if text is None else int(text)


def keep_chunk_size(submissions: Submissions, size: int) -> None:
    """Set the `chunk_size` for later requests."""
    submissions.transact(partial(set_setting, name=CHUNK_SIZE, value=str(size)))
