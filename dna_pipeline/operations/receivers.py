"""Receivers of notifications: how far they are, and a message that tries them."""

from __future__ import annotations

import platform
import shutil
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.quantities import number_of
from dna_pipeline.base.times import format_time, utcnow

if TYPE_CHECKING:
    from dna_pipeline.base.reachability import Look
    from dna_pipeline.config.receivers import ReceiverConfig
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
    """List name and problem of the receivers of pipeline.yaml that are behind, whose address or
    secret this process cannot read, or whose program it does not find."""
    from dna_pipeline.operations.daemon.notifications.sending import secret_problem

    rows = {row["name"]: row for row in list_receivers(queries)} if queries else {}
    problems: list[tuple[str, str]] = []
    for receiver in config.receivers:
        row = rows.get(receiver.name)
        text = secret_problem(receiver) or _program_problem(receiver)
        if text is None and row is not None:
            text = problem_sentence(row)
        if text is not None:
            problems.append((receiver.name, text))
    return problems


def _program_problem(receiver: ReceiverConfig) -> str | None:
    if not receiver.command or shutil.which(receiver.command[0]) is not None:
        return None
    return (
        f"no program {receiver.command[0]} is found; install it, or name the program with its "
        "whole path"
    )


def metrics_problem(config: Config, look: Look) -> str | None:
    """Say why the file of `metrics:` cannot be written, if its folder is missing or silent."""
    if config.metrics is None:
        return None
    folder = config.metrics.parent
    if (reach := look(folder)).is_silent:
        return f"{folder} {reach.why}; no metrics are written until then"
    if folder.is_dir():
        return None
    return f"the folder {folder} is missing; make it, else no metrics are written"


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
