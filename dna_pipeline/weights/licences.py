"""Licences of published weights, by the SHA-256 of their files.

A manifest must not guess a licence from a name: a folder called `sd15` may hold weights that were
trained further, under other terms. A file with one of these hashes is the published file. Hashes
of configurations and vocabularies are not listed, since such files do not decide the licence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from dna_pipeline.weights.pins import PUBLISHED, Pins

NOT_KNOWN = "not known"
"""Entry of the manifest if neither the configuration nor a hash names the licence."""

LICENCES: Mapping[str, str] = {
    sha256: licence
    for sha256, licence in Pins(json.loads(PUBLISHED.read_bytes())).hashes.items()
    if licence is not None
}
"""Licence of each published file, by its SHA-256.

ISNet is not listed: its code is free, but the terms of its training set are not.
"""


def licence_of(hashes: Iterable[str]) -> str:
    """Licence of a model that is loaded from files with these hashes.

    `NOT_KNOWN` unless every file is listed and all of them have the same licence.
    """
    licences = {LICENCES.get(sha256, NOT_KNOWN) for sha256 in hashes}
    return licences.pop() if len(licences) == 1 else NOT_KNOWN
