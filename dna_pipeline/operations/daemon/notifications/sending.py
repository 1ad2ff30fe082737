"""Sending of one message to one receiver, by a command or a webhook."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from dna_pipeline.base import programs
from dna_pipeline.base.naming import printable
from dna_pipeline.config.message_fields import fill
from dna_pipeline.config.receivers import ReceiverConfig, Secret, address_problem
from dna_pipeline.operations.daemon.notifications.bodies import make_request
from dna_pipeline.operations.daemon.notifications.messages import Message, plain
from dna_pipeline.operations.daemon.notifications.outcome import PROBLEM_CHARS, Outcome

LIMIT_S = 15.0
"""Time in which a receiver has to take a message."""

SECRET_BYTES = 64 << 10


Send = Callable[[ReceiverConfig, Message], Outcome]


class SecretError(Exception):
    """A secret cannot be read. The text names the place and what to do."""


def send(receiver: ReceiverConfig, message: Message) -> Outcome:
    """Send a message, within `LIMIT_S`. Raises nothing that a receiver or its settings cause."""
    try:
        if receiver.command:
            return _run(receiver, message)
        return _post(receiver, message)
    except SecretError as error:
        return Outcome(str(error))


def secret_problem(receiver: ReceiverConfig) -> str | None:
    """Say why the receiver's address or secret cannot be read; None if they can."""
    try:
        _address(receiver)
        _secret_of(receiver)
    except SecretError as error:
        return str(error)
    return None


def _run(receiver: ReceiverConfig, message: Message) -> Outcome:
    fields = message.fields()
    command = [receiver.command[0], *(_argument(a, fields) for a in receiver.command[1:])]
    try:
        output = programs.run(command, LIMIT_S, json.dumps(message.body()).encode() + b"\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return Outcome(plain(f"{receiver.command[0]}: {why}", PROBLEM_CHARS))
    if output.code == 0:
        return Outcome()
    said = plain(output.errors.strip().rpartition("\n")[2], PROBLEM_CHARS)
    status = f"ended with {output.code}" if output.code >= 0 else f"was killed by {-output.code}"
    return Outcome(f"{plain(receiver.command[0])} {status}{f': {said}' if said else ''}")


def _argument(template: str, fields: dict[str, str]) -> str:
    """Fill an argument. What a field begins with must not make it an option of the program."""
    text = fill(template, fields)
    return f" {text}" if text.startswith("-") and not template.startswith("-") else text


def _post(receiver: ReceiverConfig, message: Message) -> Outcome:
    from dna_pipeline.operations.daemon.notifications import webhook

    url, secret = _address(receiver), _secret_of(receiver)
    try:
        content, headers = make_request(receiver, message, secret)
    except ValueError as error:
        raise SecretError(f"the secret cannot sign: {error}") from None
    return webhook.post(url, content, headers, LIMIT_S)


def _address(receiver: ReceiverConfig) -> str:
    if not isinstance(receiver.url, Secret):
        return receiver.url or ""
    url = _read(receiver.url, "url").strip()
    if (problem := address_problem(url)) is not None:
        raise SecretError(f"the address in {_place(receiver.url)} {problem}")
    return url


def _secret_of(receiver: ReceiverConfig) -> str | None:
    return None if receiver.secret is None else _read(receiver.secret, "secret")


def _read(place: Secret, key: str) -> str:
    """Read a secret, without blanks around it. Raises `SecretError`."""
    if place.env is not None:
        text = os.environ.get(place.env, "")
        if not text.strip():
            raise SecretError(f"`{key}`: ${place.env} is not set for the daemon")
        return text.strip()
    try:
        assert place.file is not None
        with place.file.open("rb") as file:
            text = file.read(SECRET_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        raise SecretError(f"`{key}`: {_place(place)} cannot be read: {error.strerror}") from None
    if not text:
        raise SecretError(f"`{key}`: {_place(place)} is empty")
    return text


def _place(place: Secret) -> str:
    return f"${place.env}" if place.env is not None else plain(printable(place.file or ""))
