"""Words of the text `parameters` in a PNG, as AUTOMATIC1111 spells them."""

from __future__ import annotations

from typing import Any

HASH_CHARS = 10
"""Characters of a checkpoint's SHA-256 that AUTOMATIC1111 and Civitai show as its hash."""


def short_hash(sha256: str | None) -> str:
    """The hash of a file as AUTOMATIC1111 writes it; "" for an unknown one."""
    return (sha256 or "")[:HASH_CHARS]


def model_hash(recipe: dict[str, Any]) -> str:
    """The short hash of the model of a recipe's last stage; "" if the recipe names none.

    That of a model in a folder is the start of the hash that the manifest has, which no other
    program shows.
    """
    stages: list[dict[str, Any]] = recipe.get("stages", [])
    model: dict[str, Any] | None = stages[-1]["model"] if stages else None
    return short_hash(model["sha256"]) if model else ""
