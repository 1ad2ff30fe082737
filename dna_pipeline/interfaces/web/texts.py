"""Keeps paths of the server out of the texts that clients get.

Messages for people at the machine name files by their whole paths. Clients need not know where the
folders lie, and the tail of a path tells them enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dna_pipeline.config.schema import Config

Hide = Callable[[str], str]

_END = r"(?=[/\\\s'\"`,;:()\[\]{}<>|]|\.?$|\.\s)"
"""End of a path that is a folder's: the folder itself, or something in it."""

# A whole path: at the start of a word, with at least two parts; of Unix, of a Windows drive, or of
# a share. The paths of the API itself are none.
_ANY_PATH = re.compile(
    r"(?:(?<![\w:/\\.~…-])|(?<=file://))"
    r"(?:/(?!(?:api|sdapi|controlnet|data/output|docs|metrics)(?:/|\b))|[A-Za-z]:[\\/]|\\\\)"
    r"(?:[^\s/\\'\"`,;:()\[\]{}<>|]+[/\\])+"
    r"(?P<name>[^\s/\\'\"`,;:()\[\]{}<>|]*)"
)


class PathHider:
    """Shortens the paths of the server in texts.

    A path below a folder of pipeline.yaml begins with that folder's name instead: `data/models/…`,
    `outbox/mesh/…`, `mesh/chair.png` for an inbox. Of other paths, only the last part stays.
    """

    def __init__(self, config: Config) -> None:
        self._names = _names(config)
        pattern = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True)))
        self._pattern = re.compile(f"(?:{pattern}){_END}")

    def __call__(self, text: str) -> str:
        """Shorten all paths in a message."""
        if "/" not in text and "\\" not in text:
            return text
        return _ANY_PATH.sub(lambda match: f"…/{match['name']}", self.below_folders(text))

    def below_folders(self, text: str) -> str:
        """Shorten only the paths below folders of pipeline.yaml: for texts that people wrote, such
        as prompts, in which other strokes stand for something else."""
        if "/" not in text and "\\" not in text:
            return text
        return self._pattern.sub(lambda match: self._names[match[0]], text)


def _names(config: Config) -> dict[str, str]:
    """Names by which clients know the folders of pipeline.yaml, by their paths."""
    folders: dict[Path, str] = {}
    if config.file.parent != config.file.parent.parent:
        folders[config.file.parent] = "."
    for inbox in config.inboxes:
        folders |= dict.fromkeys(inbox.source_roots, "source_roots")
    folders |= {inbox.path: inbox.name for inbox in config.inboxes}
    folders |= {config.outbox: "outbox", config.data: "data"}
    return {str(folder): name for folder, name in folders.items()}


def hide_in(value: Any, hide: Hide) -> Any:
    """Shorten the paths in all texts of a plain JSON value, keys of mappings included."""
    match value:
        case str():
            return hide(value)
        case dict():
            return {hide_in(key, hide): hide_in(each, hide) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
        case list() | tuple():
            return [hide_in(each, hide) for each in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value
