"""Obstacles outside the dropped files that keep jobs from starting or change how they run.

Read by `check` and `status`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from dna_pipeline.base.reachability import Look
    from dna_pipeline.config.schema import Config, Inbox
    from dna_pipeline.ledger.queries import Queries


def remark(code: str, text: str, *, stops: bool = False) -> dict[str, Any]:
    """One entry of `remarks`. `stops`: no job runs until a person has done something."""
    return {"code": code, "text": text, "stops": stops}


def of_inbox(config: Config, inbox: Inbox, queries: Queries | None, look: Look) -> str | None:
    """Say why an inbox cannot be watched; None if it can."""
    from dna_pipeline.intake.inbox_folders import missing_sentence
    from dna_pipeline.operations.daemon.lock import keeper

    reach = look(inbox.path)
    if reach.is_silent:
        return f"{inbox.path} {reach.why}"
    if not inbox.path.is_dir():
        was_watched = queries is not None and inbox.name in queries.watched_inboxes()
        return missing_sentence(config, inbox, was_watched=was_watched, look=look)
    if inbox.keeps and (other := keeper(inbox.path, config.data)) is not None:
        return (
            f"{inbox.path} keeps its originals and is watched by another daemon ({other}), so "
            "`watch` and `run` would not start; give it `originals: archive`, or another folder"
        )
    return None


def of_surroundings(config: Config, queries: Queries | None, look: Look) -> list[dict[str, Any]]:
    """List remarks on daemons, pauses, hours and torch; each says what people can do."""
    return [*of_daemons(config, look), *_pauses(queries), *_hours(config), *_torch(config),
            *_executor(config), *_signing(config), *_receivers(config, queries),
            *_metrics(config, look)]  # fmt: skip


def of_daemons(config: Config, look: Look) -> list[dict[str, Any]]:
    """List remarks on daemons that work on the same data folder or the same inboxes.

    Raises OSError if the lock of the data folder cannot be read.
    """
    return [*_daemon(config), *_other_daemons(config, look)]


def _daemon(config: Config) -> list[dict[str, Any]]:
    from dna_pipeline.operations.daemon.lock import daemon_words, holder, is_held

    if not is_held(config.data):
        return []
    text = (
        f"a daemon works on {config.data} ({daemon_words(holder(config.data))}): it takes in what "
        "lies here by itself; another `watch` or `run` would not start"
    )
    return [remark("data_held", text)]


def _other_daemons(config: Config, look: Look) -> list[dict[str, Any]]:
    """Daemons on other data folders that take files from the same inboxes."""
    from dna_pipeline.intake.claiming import owner
    from dna_pipeline.ledger import health
    from dna_pipeline.operations.daemon.lock import daemon_words, is_held

    own = health.known_id(config.ledger_path)
    remarks: list[dict[str, Any]] = []
    for inbox in config.inboxes:
        if inbox.keeps or not look(inbox.path).is_there:
            continue
        for root in _roots(inbox.path):
            if root.name != own and owner.is_alive(root, time.time(), is_held):
                who = daemon_words(owner.read(root))
                text = (
                    f"inbox {inbox.name} is watched by another daemon as well ({who}): each file "
                    "is done by the one that takes it first; stop one if that is not wanted"
                )
                remarks.append(remark("inbox_shared", text))
    return remarks


def _roots(inbox: Path) -> list[Path]:
    from dna_pipeline.base.layout import claim_roots

    try:
        return claim_roots(inbox)
    except OSError:
        return []


def _pauses(queries: Queries | None) -> list[dict[str, Any]]:
    if queries is None:
        return []
    holds = [hold for hold in queries.holds() if hold["code"] == "paused"]
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
    from dna_pipeline.operations import torch_build

    is_here = config.runtime.executor == "local"
    if not is_here or not any(model.needs_device for model in config.models.values()):
        return []
    remarks = map(torch_build.remark, config.runtime.devices)
    if (text := next(filter(None, remarks), None)) is None:
        return []
    stops = config.runtime.device != "auto" and "cpu" not in config.runtime.devices
    return [remark("torch_for_cpu", text, stops=stops)]


def _executor(config: Config) -> list[dict[str, Any]]:
    from dna_pipeline.base.errors import ConfigError
    from dna_pipeline.operations.daemon.executors import check_executor

    try:
        check_executor(config)
    except ConfigError as error:
        return [remark("ray_missing", str(error), stops=True)]
    return []


def _signing(config: Config) -> list[dict[str, Any]]:
    from dna_pipeline.base.errors import SigningUnavailable
    from dna_pipeline.execution.scheduler import signer_of

    if (signer := signer_of(config)) is None:
        return []
    try:
        signer.try_out(may_go_online=False)
    except SigningUnavailable as error:
        text = f"{error}; jobs wait until results can be signed, or c2pa is taken out"
        return [remark(error.code, text, stops=True)]
    return []


def _receivers(config: Config, queries: Queries | None) -> list[dict[str, Any]]:
    from dna_pipeline.operations.receivers import of_config

    return [
        remark("receiver_behind", f"receiver {name} of `notify:`: {text}")
        for name, text in of_config(config, queries)
    ]


def _metrics(config: Config, look: Look) -> list[dict[str, Any]]:
    from dna_pipeline.operations.receivers import metrics_problem

    text = metrics_problem(config, look)
    return [] if text is None else [remark("metrics_not_written", f"`metrics:`: {text}")]
