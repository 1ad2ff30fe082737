"""What outside the files themselves keeps work from being done, or changes how: for `check`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.clock import to_second
from dna_pipeline.operations import torch_build

if TYPE_CHECKING:
    from pathlib import Path

    from dna_pipeline.base.reachability import Look
    from dna_pipeline.config.schema import Config, Inbox
    from dna_pipeline.ledger.queries import Queries


def remark(code: str, text: str, *, stops: bool = False) -> dict[str, Any]:
    """One entry of `remarks`; `stops` says that jobs do not run until something is done."""
    return {"code": code, "text": text, "stops": stops}


def of_inbox(config: Config, inbox: Inbox, views: Queries | None, look: Look) -> str | None:
    """What keeps an inbox from being watched; None if nothing does."""
    from dna_pipeline.intake.inbox_folders import missing_sentence
    from dna_pipeline.operations.daemon.lock import keeper

    reach = look(inbox.path)
    if reach.is_silent:
        return f"{inbox.path} {reach.why}"
    if not inbox.path.is_dir():
        was_watched = views is not None and inbox.name in views.watched_inboxes()
        return missing_sentence(config, inbox, was_watched=was_watched, look=look)
    if inbox.keeps and (other := keeper(inbox.path, config.data)) is not None:
        return (
            f"{inbox.path} keeps its originals and is watched by another daemon ({other}), so "
            "`watch` and `run` would not start; give it `originals: archive`, or another folder"
        )
    return None


def of_surroundings(config: Config, views: Queries | None, look: Look) -> list[dict[str, Any]]:
    """Remarks on daemons, pauses, hours and torch, each with what to do."""
    return [
        *_daemon(config),
        *_sharers(config, look),
        *_pauses(views),
        *_hours(config),
        *_torch(config),
    ]


def _daemon(config: Config) -> list[dict[str, Any]]:
    from dna_pipeline.operations.daemon.lock import holder, is_held

    if not is_held(config.data):
        return []
    text = (
        f"a daemon works on {config.data} ({daemon_words(holder(config.data))}): it takes in what "
        "lies here by itself; another `watch` or `run` would not start"
    )
    return [remark("data_held", text)]


def _sharers(config: Config, look: Look) -> list[dict[str, Any]]:
    """Daemons on other data folders that take files from the same inboxes."""
    from dna_pipeline.intake.claiming import claims, owner
    from dna_pipeline.ledger import health
    from dna_pipeline.operations.daemon.lock import is_held

    own = health.known_id(config.ledger_path)
    found: list[dict[str, Any]] = []
    for inbox in config.inboxes:
        if inbox.keeps or not look(inbox.path).is_there:
            continue
        for root in _roots(inbox.path, claims.claim_roots):
            if root.name != own and owner.is_alive(root, time.time(), is_held):
                who = daemon_words(owner.read(root))
                text = (
                    f"inbox {inbox.name} is watched by another daemon as well ({who}): each file "
                    "is done by the one that takes it first; stop one if that is not wanted"
                )
                found.append(remark("inbox_shared", text))
    return found


def _roots(inbox: Path, claim_roots: Any) -> list[Path]:
    try:
        return claim_roots(inbox)
    except OSError:
        return []


def _pauses(views: Queries | None) -> list[dict[str, Any]]:
    if views is None:
        return []
    holds = [hold for hold in views.holds() if hold["code"] == "paused"]
    whole = "the queue is "
    return [
        remark("paused", hold["detail"] if hold["jobs"] is not None else whole + hold["detail"])
        for hold in holds
    ]


def _hours(config: Config) -> list[dict[str, Any]]:
    from dna_pipeline.base.times import utcnow

    rests = [inbox.hours_reason(utcnow()) for inbox in config.inboxes]
    return [remark("hours", why) for why in rests if why is not None]


def _torch(config: Config) -> list[dict[str, Any]]:
    if not any(model.needs_device for model in config.models.values()):
        return []
    if (text := torch_build.remark(config.runtime.device)) is None:
        return []
    return [remark("torch_for_cpu", text, stops=config.runtime.device != "auto")]


def daemon_words(facts: Mapping[str, Any] | None) -> str:
    """Which daemon it is, by what it said of itself."""
    if facts is None or "pid" not in facts:
        return "it did not say which"
    said = f"process {facts['pid']}"
    if host := facts.get("host"):
        said += f" on {host}"
    try:
        return f"{said}, since {to_second(datetime.fromisoformat(facts['since']))}"
    except (KeyError, TypeError, ValueError):
        return said
