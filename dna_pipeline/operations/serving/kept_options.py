"""Options that a program sets once for all its later requests, kept in the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dna_pipeline.config.yaml12 import is_mapping
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import get_setting, set_setting
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.submissions import Submissions


def read(readers: Readers, name: str) -> dict[str, Any]:
    """Read the options that are kept under a name. Raises `ConfigError` if there is no ledger."""
    with readers.lend() as queries:
        return _parsed(queries.setting(name))


def change(submissions: Submissions, name: str, options: Mapping[str, Any]) -> None:
    """Set some of the options that are kept under a name, each to a plain JSON value; None removes
    one. Raises `ConfigError` if there can be no ledger."""

    def merge(session: Transaction) -> None:
        merged = _parsed(get_setting(session, name)) | dict(options)
        left = {key: value for key, value in merged.items() if value is not None}
        set_setting(session, name, json.dumps(left, sort_keys=True) if left else None)

    submissions.transact(merge)


def _parsed(text: str | None) -> dict[str, Any]:
    """The options of a setting; none if it cannot be read, since any may be set anew."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return dict(value) if is_mapping(value) else {}
