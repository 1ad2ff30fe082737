"""An inbox that takes in masks, and weights that are there as far as the daemon asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from tests.integration.conftest import Site

MASKED = {"pipeline": "two_stages", "defaults": {"img2img": {"mask": "file"}}}


@pytest.fixture
def make_masked(make_site: Callable[..., Site]) -> Callable[..., Site]:
    """Makes the site of an inbox with the given keys, whose images have masks beside them."""
    return partial(make_site, **MASKED)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> None:
    for question in ("missing", "mismatch"):
        monkeypatch.setattr(Diffusers, question, lambda _: None)
