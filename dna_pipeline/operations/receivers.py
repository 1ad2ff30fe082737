"""Receivers of notifications: how far they are, and a message that tries them."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.quantities import number_of
from dna_pipeline.base.times import format_time, utcnow

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.ledger.queries import Queries


def list_receivers(queries: Queries) -> list[dict[str, Any]]:
    """List the receivers that the ledger knows, as the field `receivers` of `status.json`."""
    return [
        {
            "name": row["name"], "state": row["state"], "behind": row["behind"],
            "attempts": row["failures"], "problem": row["problem"],
            **{key: None if (at := row[key]) is None else format_time(at)
               for key in ("behind_since", "next_at")},
        }
        for row in queries.receivers()
    ]  # fmt: skip


def problem_sentence(receiver: Mapping[str, Any]) -> str | None:
    """Say what is wrong with an entry of `receivers`; None if nothing is."""
    problem = receiver["problem"]
    if problem is None:
        return None
    if receiver["state"] == "ended":
        return f"gets no more messages: {problem}; change its entry in `notify:` to begin again"
    lacks = number_of(receiver["behind"], "message")
    return f"lacks {lacks} after {number_of(receiver['attempts'], 'attempt')}: {problem}"


def of_config(config: Config, queries: Queries | None) -> list[tuple[str, str]]:
    """List name and problem of the receivers of pipeline.yaml that are behind, or whose address or
    secret this process cannot read."""
    from dna_pipeline.operations.daemon.notifications.sending import secret_problem

    rows = {row["name"]: row for row in list_receivers(queries)} if queries else {}
    problems: list[tuple[str, str]] = []
    for receiver in config.receivers:
        row = rows.get(receiver.name)
        text = secret_problem(receiver)
        if text is None and row is not None:
            text = problem_sentence(row)
        if text is not None:
            problems.append((receiver.name, text))
    return problems


def try_receivers(config: Config, name: str | None) -> list[dict[str, Any]]:
    """Send a test message to each receiver, or to one; list `name`, `place` and `problem`, which is
    None where the receiver took the message.

    Raises:
        ConfigError: there is no receiver of that name, or none at all.
    """
    from dna_pipeline.ledger import health
    from dna_pipeline.operations.daemon.notifications.messages import MessageWriter
    from dna_pipeline.operations.daemon.notifications.sending import send

    names = [receiver.name for receiver in config.receivers]
    if not names:
        raise ConfigError(f"{config.file}: no receivers; add a list `notify:` (docs/notify.md)")
    if name is not None and name not in names:
        raise ConfigError(f"no receiver is called {name!r}; there are: {', '.join(names)}")
    writer = MessageWriter(health.known_id(config.ledger_path) or "new", config.outbox)
    results: list[dict[str, Any]] = []
    for receiver in config.receivers:
        if name in (None, receiver.name):
            message = writer.test(platform.node(), uuid.uuid4().hex[:12], utcnow())
            problem = send(receiver, message).problem or None
            entry = {"name": receiver.name, "place": receiver.place, "problem": problem}
            results.append(entry)
    return results
