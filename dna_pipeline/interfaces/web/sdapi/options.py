"""Options that programs set for all their later requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dna_pipeline.config.sentences import shown
from dna_pipeline.interfaces.web.sdapi.errors import Refusal

SETTING = "sdapi.options"
"""Name of the ledger's setting that keeps them."""

CHECKPOINT, CLIP_SKIP, FORMAT = "sd_model_checkpoint", "CLIP_stop_at_last_layers", "samples_format"

_FORMATS = {"png": "png", "webp": "webp", "jpg": "jpeg", "jpeg": "jpeg"}
MOST_LAYERS = 12


@dataclass(frozen=True, slots=True)
class Options:
    """The options that are kept; None where the pipeline decides.

    Attributes:
        checkpoint: our name of a model.
        samples_format: one of `png`, `webp`, `jpg`, `jpeg`.
    """

    checkpoint: str | None = None
    clip_skip: int | None = None
    samples_format: str | None = None

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Options:
        """The options from the values of the ledger; one that cannot be read counts as not set."""
        checkpoint, layer, samples = (kept.get(key) for key in (CHECKPOINT, CLIP_SKIP, FORMAT))
        return cls(
            checkpoint if isinstance(checkpoint, str) else None,
            layer if isinstance(layer, int) and 1 <= layer <= MOST_LAYERS else None,
            samples if samples in _FORMATS else None,
        )


def layer_of(value: object) -> int:
    """The layer of the text encoder, counted from its end; 0 and 1 mean the last one. Raises
    `Refusal`."""
    try:
        layer = int(str(value).strip().removesuffix(".0"))
    except ValueError:
        layer = -1
    if not 0 <= layer <= MOST_LAYERS:
        raise Refusal(f"{CLIP_SKIP}: should be from 1 to {MOST_LAYERS}, not {shown(value)}")
    return max(layer, 1)


def format_of(value: object) -> str:
    """The format of a result's file, in our words; PNG if it is left open. Raises `Refusal`."""
    if value in (None, ""):
        return "png"
    if (name := _FORMATS.get(str(value).strip().casefold().removeprefix("."))) is None:
        raise Refusal(f"{FORMAT}: should be png, jpg or webp, not {shown(value)}")
    return name
