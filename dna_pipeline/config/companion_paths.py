"""Find the paths of companions, such as masks, that a document names, before it is resolved.

The parameter that names a companion has the name of its role. Which stage counts, and with which
value, is known only once the document is resolved. Until then a file that is named in vain is
waited for too long at most.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.yaml12 import Document, KeyPath, is_list, is_mapping
from dna_pipeline.stages import registry

_IS_PATH = re.compile(r"\.\w+\s*$")


def paths_in(document: Document) -> list[str]:
    """The paths of companions that a sidecar, a job file or a row names, each once."""
    return list(dict.fromkeys(path for _, path, _ in named_companions(document)))


def named_companions(document: Document) -> Iterator[tuple[str, str, KeyPath]]:
    """The companions that a sidecar, a job file or a row names: the role of each, its path, and the
    place of the key that names it."""
    for key, value in document.value.items():
        if key == "matrix" and is_mapping(value):
            for name, choices in value.items():
                role = str(name).rpartition(".")[2]
                values = choices if is_list(choices) else ()
                pairs = _named_paths((role, choice) for choice in values)
                yield from ((role, path, (key, name)) for role, path in pairs)
        elif is_mapping(value):
            yield from ((role, path, (key, role)) for role, path in _named_paths(value.items()))


def paths_of_inbox(config: Config, inbox: Inbox) -> list[Path]:
    """The files of companions that pipeline.yaml names for an inbox and its own pipeline."""
    pipeline = config.pipelines[inbox.pipeline]
    mappings: list[Mapping[str, Any]] = [stage.params for stage in pipeline.stages]
    mappings += [params for params in inbox.defaults.values() if params]
    paths = (path for params in mappings for path in _paths(params.items()))
    return [config.file.parent / path for path in dict.fromkeys(paths)]


def paths_in_config(config: Config) -> frozenset[str]:
    """The paths of companions that pipeline.yaml names, as written."""
    mappings: list[Mapping[str, Any]] = [
        stage.params for pipeline in config.pipelines.values() for stage in pipeline.stages
    ]
    for inbox in config.inboxes:
        mappings += [params for params in inbox.defaults.values() if params]
    return frozenset(path for params in mappings for path in _paths(params.items()))


def apart_from_config(config: Config, params: dict[str, Any]) -> dict[str, Any]:
    """Rewrite the paths of companions in a sidecar's parameters that pipeline.yaml has too.

    A relative path counts from the file that names it, so the same text means two files. The
    sidecar's gets a `./`, which leads to the same file: `masks/a.png` becomes `./masks/a.png`. The
    paths of pipeline.yaml stay as written, and so do the dedup keys and manifests of its jobs.
    """
    paths = dict(_named_paths(params.items()))
    relative = {name: path for name, path in paths.items() if not path.startswith("/")}
    if not relative:
        return params
    own = paths_in_config(config)
    return params | {name: _unlike(path, own) for name, path in relative.items() if path in own}


def _unlike(path: str, others: Container[str]) -> str:
    while path in others:
        path = f"./{path}"
    return path


def _paths(values: Iterable[tuple[object, Any]]) -> Iterator[str]:
    return (path for _, path in _named_paths(values))


def _named_paths(values: Iterable[tuple[object, Any]]) -> Iterator[tuple[str, str]]:
    """The parameters that name companions by paths, each with its path."""
    for name, value in values:
        # The roles are asked for last: they import the stages of other packages, which may be slow.
        if isinstance(value, str) and _IS_PATH.search(value) and name in roles():
            yield str(name), value.strip()


@cache
def roles() -> frozenset[str]:
    """The roles of companions that stages may read."""
    kinds = map(registry.stage_class, registry.stage_types())
    return frozenset(role for kind in kinds for role in kind.companion_roles)
