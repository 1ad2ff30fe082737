"""The options that are kept in the ledger for all requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dna_pipeline.interfaces.web.sdapi.options import (
    CHECKPOINT,
    CLIP_SKIP,
    FORMAT,
    SETTING,
    Options,
    format_of,
    layer_of,
)
from dna_pipeline.interfaces.web.sdapi.translation import require_checkpoint
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving import kept_options
from dna_pipeline.operations.serving.catalogue import list_checkpoints


def read_options(site: Site) -> Options:
    """The options that are set; none before there is a ledger."""
    if not site.config.ledger_path.exists():
        return Options()
    return Options.of(kept_options.read(site.readers, SETTING))


def change_options(site: Site, options: Mapping[str, Any]) -> None:
    """Set those of the options that have an effect here; null or "" gives one back to the pipeline.

    Raises:
        Refusal: a checkpoint is not there, or a value is wrong. Nothing is set then.
    """
    changes: dict[str, Any] = {}
    if CHECKPOINT in options:
        name = options[CHECKPOINT]
        is_blank = name in (None, "")
        listed = [] if is_blank else list_checkpoints(site.config)
        changes[CHECKPOINT] = None if is_blank else require_checkpoint(listed, name).name
    if CLIP_SKIP in options:
        value = options[CLIP_SKIP]
        changes[CLIP_SKIP] = None if value in (None, "") else layer_of(value)
    if FORMAT in options:
        value = options[FORMAT]
        changes[FORMAT] = None if value in (None, "") else format_of(value)
    if changes:
        kept_options.change(site.submissions, SETTING, changes)
