"""Finds what was published in an outbox. Imports no SQLAlchemy, so that commands start soon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dna_pipeline.base.layout import SOURCE
from dna_pipeline.publish import cancelled_rows
from dna_pipeline.publish.manifest import ERROR_NAME, NAME


def find_results(outbox: Path) -> Iterator[Path]:
    """Find the manifest files of all published folders, and those of cancelled rows.

    `source` of a published folder is skipped: its files were dropped, whatever their names are.
    """
    for folder, below, names in os.walk(outbox):
        paths = [Path(folder, name) for name in sorted({NAME, ERROR_NAME} & set(names))]
        if cancelled_rows.is_shared(folder):
            paths += cancelled_rows.manifests(Path(folder))
        excluded = {SOURCE} if paths else set[str]()
        below[:] = sorted(n for n in below if not n.startswith(".") and n not in excluded)
        yield from paths
