"""Loads the configuration, and compares where its folders really lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from dna_pipeline.base.reachability import Look, brief_looks
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config


def load(file: Path, env: Mapping[str, str] = os.environ) -> Config:
    """Read and check pipeline.yaml; links in the paths of its folders are followed.

    Raises:
        ConfigError: as `load_config` raises it.
    """
    with brief_looks() as look:
        return load_config(file, env, cache(partial(_real, look)))


def load_to_write(file: Path) -> Config:
    """Read and check pipeline.yaml for a command that may write to the data folder.

    Raises:
        ConfigError: also where that folder holds other people's files and no ledger.
    """
    # Imported here, since commands that only read do without it, and start sooner.
    from dna_pipeline.operations.ownership import check_data_folder

    config = load(file)
    with brief_looks() as look:
        check_data_folder(config, look)
    return config


def _real(look: Look, folder: Path) -> Path:
    """Return the folder without links; as it is written where it does not answer."""
    return folder if look(folder).is_silent else Path(os.path.realpath(folder))
