"""Hashes of the code that makes results: a result is taken only from the code that runs now."""

from __future__ import annotations

import hashlib
import inspect
from functools import cache
from pathlib import Path

import dna_pipeline

ROOT = Path(dna_pipeline.__file__).parent
_OF_RESULTS = ("base", "execution/worker", "media", "providers", "stages", "weights")
"""The folders whose code may decide the bytes of a result."""


@cache
def program_sha256() -> str:
    """SHA-256 of the version and of the modules that make results.

    The version alone would do for a release. A program that is run from its sources changes without
    one.
    """
    digest = hashlib.sha256(dna_pipeline.__version__.encode())
    for folder in _OF_RESULTS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(f"\0{path.relative_to(ROOT).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def plugin_sha256(kind: type) -> str:
    """SHA-256 of the module that a stage or provider of another package is in; "" for one of ours,
    which is part of `program_sha256`.

    Raises OSError if that module has no file that can be read.
    """
    if kind.__module__.partition(".")[0] == dna_pipeline.__name__:
        return ""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except TypeError as error:
        raise OSError(f"{kind.__module__} has no file") from error
