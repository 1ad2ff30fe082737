"""Gives images companions, as no pairing does yet: `cat_m.png` is the mask of `cat.png`."""

from __future__ import annotations

import pytest

from dna_pipeline.intake.planning import finder
from tests.conftest import load_script

pair_with_masks = load_script("masks").pair_with_masks


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "pair", pair_with_masks)
