"""Gives images companions, as no pairing does yet: `cat_m.png` is the mask of `cat.png`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import Candidate, Pairing
from dna_pipeline.intake.discovery.pairing import pair

END = "_m.png"


def mask_name(image: str) -> str:
    """Name of the mask of an image, without its folder."""
    return PurePath(image).stem + END


def pair_with_masks(inbox: Inbox, paths: Iterable[str], *rest: Any) -> Pairing:
    """Pair as the program does, with the masks among `paths` given to their images."""
    paths = list(paths)
    masks = {path for path in paths if path.endswith(END)}
    pairing = pair(inbox, [path for path in paths if path not in masks], *rest)
    return replace(pairing, ready=[_with_mask(candidate, masks) for candidate in pairing.ready])


def _with_mask(candidate: Candidate, masks: set[str]) -> Candidate:
    mask = (candidate.image or "").removesuffix(".png") + END
    return replace(candidate, companions=(("mask", mask),)) if mask in masks else candidate
