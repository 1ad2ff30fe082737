"""A configuration with a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.store import Ledger
from tests.ledgers import lay_out
from tests.serving import PIPELINE_YAML


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE_YAML)
    return load_config(file, {})


@pytest.fixture
def ledger(config: Config) -> Iterator[Ledger]:
    lay_out(config.ledger_path)
    with closing(Ledger(config.ledger_path)) as ledger:
        yield ledger
