"""Gives images companions, as no pairing does: `cat_m.png` is the mask of `cat.png`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import Candidate, Pairing
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.planning import finder

END = "_m.png"


def pair_with_masks(inbox: Inbox, paths: Iterable[str], *rest: Any) -> Pairing:
    paths = list(paths)
    masks = {path for path in paths if path.endswith(END)}
    pairing = pair(inbox, [path for path in paths if path not in masks], *rest)
    return replace(pairing, ready=[_with_mask(candidate, masks) for candidate in pairing.ready])


def _with_mask(candidate: Candidate, masks: set[str]) -> Candidate:
    mask = (candidate.image or "").replace(".png", END)
    return replace(candidate, companions=(("mask", mask),)) if mask in masks else candidate


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "pair", pair_with_masks)
