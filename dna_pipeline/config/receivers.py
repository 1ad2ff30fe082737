"""Receivers of notifications, as `notify:` in pipeline.yaml declares them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from dna_pipeline.config.message_fields import problem_of
from dna_pipeline.config.yaml12 import KeyPath, is_list, is_mapping

EventType = Literal[
    "job.completed", "job.failed", "batch.ended", "queue.ended", "hold.begun", "hold.ended",
    "pause.begun", "pause.ended",
]  # fmt: skip
"""Types of the messages that a receiver may choose."""

KINDS: Mapping[str, str] = {
    "job.completed": "completed", "job.failed": "failed", "batch.ended": "batch_ended",
    "queue.ended": "queue_ended", "hold.begun": "hold_begun", "hold.ended": "hold_ended",
    "pause.begun": "pause_begun", "pause.ended": "pause_ended",
}  # fmt: skip
"""Kinds of the ledger's events by these words."""

DEFAULT_EVENTS: tuple[EventType, ...] = tuple(
    name for name in get_args(EventType) if not name.startswith("job.")
)
"""All but single jobs: a batch of a thousand failures would be a thousand messages."""

Format = Literal["standard", "slack", "discord", "ntfy"]

_EITHER = "set `command` (a program and its arguments) or `url` (a webhook)"
_BOTH = "a receiver is a command or a webhook; remove `command` or `url`"


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SecretSpec(_Spec):
    """A text that is not written into pipeline.yaml. One of the two keys is set."""

    env: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="environment variable of the daemon that holds it",
        json_schema_extra={"default_words": "none"},
    )
    file: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="file that holds it, relative to pipeline.yaml; read for each message",
        json_schema_extra={"default_words": "none"},
    )


_NONE: dict[str, JsonValue] = {"default_words": "none"}


class ReceiverSpec(_Spec):
    """One entry of `notify:`: a command or a webhook."""

    name: Annotated[str, Field(min_length=1, max_length=60)] | None = Field(
        None,
        description="name of the receiver in commands and in `status`; no two share one",
        json_schema_extra={"default_words": "the program's name, or the address's host"},
    )
    command: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="program and arguments, run without a shell for each message, with the message "
        "as JSON on standard input; arguments may hold fields such as {line}",
        json_schema_extra=_NONE,
    )
    url: str | SecretSpec | None = Field(
        None,
        description="address that each message is sent to by POST, or where it is to be read",
        json_schema_extra=_NONE,
    )
    format: Format | None = Field(
        None,
        description="form of the body; standard is that of Standard Webhooks 1.0",
        json_schema_extra={"default_words": "standard, unless body is set"},
    )
    body: Any = Field(
        None,
        description="body of your own, text or a mapping that becomes JSON, whose texts may hold "
        "fields such as {line}",
        json_schema_extra={"default_words": "that of format", "values": "text, mapping or list"},
    )
    secret: SecretSpec | None = Field(
        None,
        description="where to read the secret that signs webhooks (`whsec_…`), or ntfy's token",
        json_schema_extra={"default_words": "messages are not signed"},
    )
    events: Annotated[list[EventType], Field(min_length=1)] = Field(
        list(DEFAULT_EVENTS), description="what the receiver is told of"
    )


@dataclass(frozen=True, slots=True)
class Secret:
    """A place where a secret is read: an environment variable, or a file by its absolute path."""

    env: str | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """A receiver of notifications: a command or, where that is empty, a webhook.

    Attributes:
        url: address, or where it is read; it may hold a secret of Slack or Discord.
        body: template of the body; None for that of `format`.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str | Secret | None = field(default=None, repr=False)
    format: Format = "standard"
    body: Any = None
    secret: Secret | None = None
    events: tuple[EventType, ...] = DEFAULT_EVENTS

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the ledger's events that the receiver gets."""
        return tuple(KINDS[name] for name in self.events)

    @property
    def fingerprint(self) -> str:
        """Hash of all settings but the choice of events, which hides what they are."""
        values = {key: value for key, value in asdict(self).items() if key != "events"}
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def place(self) -> str:
        """The program, or the host of the address without what may be secret."""
        if self.command:
            return self.command[0]
        if isinstance(self.url, str):
            return host_of(self.url)
        return "the address that is read from its place"


def host_of(url: str) -> str:
    """Scheme and host of an address, without the path, a name and a password."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}"


def address_problem(url: str) -> str | None:
    """The reason why this is no address of a webhook; None if it is one. It quotes nothing, since
    an address may be a secret."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if is_address and not re.search(r"[\s\x00-\x1f\x7f]", url):
        return None
    return "should be an address that begins with http:// or https:// and names a host"


def problems_of(spec: ReceiverSpec, keys: Collection[str]) -> Iterator[tuple[KeyPath, str]]:
    """Find what is wrong with the keys of a receiver together, or with texts in them: key and
    sentence.

    Args:
        keys: all keys of the entry, those with wrong values too.
    """
    if ("command" in keys) == ("url" in keys):
        yield (), _BOTH if "url" in keys else _EITHER
    for key in ("format", "body", "secret"):
        if spec.command is not None and getattr(spec, key) is not None:
            yield (key,), f"`{key}` is for webhooks; this receiver is a command"
    if spec.format is not None and spec.body is not None:
        yield ("body",), "`body` takes the place of `format`; set one of them"
    if spec.format in ("slack", "discord") and spec.secret is not None:
        text = f"{spec.format} takes no signature: its address is the secret, as in"
        yield ("secret",), f"{text} `url: {{env: NAME}}`"
    for name in ("url", "secret"):
        yield from _source_problems(name, getattr(spec, name))
    yield from _template_problems(("command",), spec.command)
    yield from _template_problems(("body",), spec.body)


def _source_problems(key: str, value: object) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, SecretSpec) and (value.env is None) == (value.file is None):
        yield (key,), "should have one key, `env` (an environment variable) or `file`"
    if isinstance(value, str) and (text := address_problem(value)) is not None:
        yield (key,), text


def _template_problems(path: KeyPath, value: object) -> Iterator[tuple[KeyPath, str]]:
    """Find wrong fields in all texts of a template."""
    if isinstance(value, str):
        if (text := problem_of(value)) is not None:
            yield path, text
    elif is_mapping(value):
        for key, item in value.items():
            yield from _template_problems((*path, key), item)
    elif is_list(value):
        for index, item in enumerate(value):
            yield from _template_problems((*path, index), item)


def make_receiver(spec: ReceiverSpec, home: Path) -> ReceiverConfig:
    """Make the value of a valid entry; `home` is the folder of pipeline.yaml."""
    url = _secret(spec.url, home) if isinstance(spec.url, SecretSpec) else spec.url
    return ReceiverConfig(
        name=spec.name or _default_name(spec),
        command=_command(spec.command or [], home),
        url=url,
        format=spec.format or "standard",
        body=spec.body,
        secret=None if spec.secret is None else _secret(spec.secret, home),
        events=tuple(dict.fromkeys(spec.events)),
    )


def _command(words: list[str], home: Path) -> tuple[str, ...]:
    """The command; a program with a path is looked for from the folder of pipeline.yaml."""
    if not words or not {"/", "\\"} & set(words[0]):
        return tuple(words)
    return (str(home / Path(words[0]).expanduser()), *words[1:])


def _default_name(spec: ReceiverSpec) -> str:
    if spec.command:
        return PurePath(spec.command[0]).name or spec.command[0]
    if isinstance(spec.url, str):
        return urlsplit(spec.url).hostname or "webhook"
    return "webhook"


def _secret(spec: SecretSpec, home: Path) -> Secret:
    file = None if spec.file is None else home / Path(spec.file).expanduser()
    return Secret(spec.env, file)
