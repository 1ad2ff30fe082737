"""A server's site with an empty ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.site import Site
from tests.ledgers import lay_out
from tests.serving import PIPELINE_YAML


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE_YAML)
    config = load_config(tmp_path / "pipeline.yaml", {})
    lay_out(config.ledger_path)
    return config


@pytest.fixture
def site(config: Config) -> Iterator[Site]:
    with closing(Site(config)) as site:
        yield site
