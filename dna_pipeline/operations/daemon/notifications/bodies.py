"""Bodies and headers of webhooks: Standard Webhooks 1.0, Slack, Discord, ntfy, or a template."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import Any

from dna_pipeline import __version__
from dna_pipeline.config.message_fields import fill, fill_all
from dna_pipeline.config.receivers import ReceiverConfig
from dna_pipeline.operations.daemon.notifications.messages import Message

DISCORD_CHARS = 2000
"""Longest text that Discord takes."""

_PREFIX = "whsec_"
_BAD_NEWS = ("job.failed", "hold.begun", "pause.begun", "dropped")

Request = tuple[bytes, dict[str, str]]
"""Body and headers."""


def make_request(receiver: ReceiverConfig, message: Message, secret: str | None) -> Request:
    """Give body and headers of a message. Raises ValueError if the secret is no key."""
    content, headers = _content(receiver, message)
    headers["user-agent"] = f"dna-pipeline/{__version__}"
    if receiver.body is None and receiver.format == "ntfy":
        if secret is not None:
            headers["authorization"] = f"Bearer {_header(secret)}"
    elif receiver.body is not None or receiver.format == "standard":
        headers |= webhook_headers(message.id, int(time.time()), content, secret)
    return content, headers


def webhook_headers(
    message_id: str, timestamp: int, content: bytes, secret: str | None
) -> dict[str, str]:
    """Give the headers of Standard Webhooks 1.0.

    Args:
        timestamp: Unix seconds of this attempt.
        secret: `whsec_` and the key in base64; several, with blanks between them, while a key is
            changed. None: the message is not signed.

    Raises:
        ValueError: a key is not in base64.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if secret is not None:
        signed = f"{message_id}.{timestamp}.".encode() + content
        signatures = [f"v1,{_signature(key, signed)}" for key in secret.split()]
        headers["webhook-signature"] = " ".join(signatures)
    return headers


def _signature(secret: str, signed: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it should be `whsec_` and the key in base64") from None
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _content(receiver: ReceiverConfig, message: Message) -> Request:
    if isinstance(receiver.body, str):
        text = fill(receiver.body, message.fields())
        return text.encode(), {"content-type": "text/plain; charset=utf-8"}
    if receiver.body is not None:
        return _json(fill_all(receiver.body, message.fields()))
    match receiver.format:
        case "standard":
            return _json(message.body())
        case "slack":
            return _json({"text": _slack(message.line)})
        case "discord":
            # Names of files must not call all members, as @everyone would.
            text = message.line[:DISCORD_CHARS]
            return _json({"content": text, "allowed_mentions": {"parse": []}})
        case "ntfy":
            tag = "warning" if message.type in _BAD_NEWS else "white_check_mark"
            headers = {"content-type": "text/plain; charset=utf-8", "title": "dna-pipeline"}
            return message.line.encode(), headers | {"tags": tag}


def _json(value: Any) -> Request:
    return json.dumps(value).encode(), {"content-type": "application/json"}


def _slack(text: str) -> str:
    """Escape the three signs that Slack reads as its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _header(secret: str) -> str:
    if not (secret.isascii() and secret.isprintable()):
        raise ValueError("it should be one line of ASCII letters")
    return secret
