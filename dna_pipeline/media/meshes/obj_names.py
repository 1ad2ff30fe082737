"""How an OBJ, an MTL and a PLY name the files beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from shutil import copyfileobj

from dna_pipeline.base.files import write_atomic

SUFFIXES = frozenset({".obj", ".mtl", ".ply"})
"""Suffixes of files that name other files."""

_NO_WORD = re.compile(r"^-+|[\s#\"'`\\\x00-\x1f\x7f-\x9f]+")
_REFERENCE = re.compile(rb"^(mtllib |map_Kd |comment TextureFile )(.*)$", re.MULTILINE)
_HEAD_BYTES = 4096
"""In our files what names others stands before this."""


def word(name: str) -> str:
    """A name as OBJ and MTL can say it, whose words end at white space.

    White space, `#` (a comment), quotes, `\\` (goes on in the next line) and control characters
    become `_`, and so does a hyphen at the start, which begins an option of `map_Kd`. Other
    letters stay, in UTF-8.
    """
    return _NO_WORD.sub("_", name) or "mesh"


def copy_renamed(source: Path, target: Path, names: Mapping[str, str]) -> None:
    """Copy a file that was written here and calls files beside it by other names now; durably.

    Args:
        names: the new names by the old ones.
    """

    def renamed(match: re.Match[bytes]) -> bytes:
        return match[1] + names.get(old := match[2].decode(), old).encode()

    with source.open("rb") as reader:
        head = _REFERENCE.sub(renamed, reader.read(_HEAD_BYTES))
        write_atomic(target, lambda file: (file.write(head), copyfileobj(reader, file)))
