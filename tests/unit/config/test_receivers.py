"""`notify:` and `metrics:` in pipeline.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.message_fields import FIELDS, fill, fill_all, problem_of
from dna_pipeline.config.receivers import (
    DEFAULT_EVENTS,
    ReceiverConfig,
    Secret,
    host_of,
)
from dna_pipeline.config.schema import Config

HEAD = """\
version: 1
models: {matte: {provider: rembg, name: u2net}}
pipelines: {cut: [{remove_background: {model: matte}}]}
"""


def load(folder: Path, text: str) -> Config:
    (folder / "pipeline.yaml").write_text(HEAD + text)
    return load_config(folder / "pipeline.yaml", {})


def receivers(folder: Path, *entries: str) -> tuple[ReceiverConfig, ...]:
    return load(folder, "notify:\n" + "".join(f"  - {entry}\n" for entry in entries)).receivers


def problem(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value).replace(f"{folder}/pipeline.yaml: line 4: ", "")


def test_nobody_is_told_by_default(tmp_path: Path):
    config = load(tmp_path, "")
    assert (config.receivers, config.metrics) == ((), None)


def test_defaults(tmp_path: Path):
    (tool, hook) = receivers(
        tmp_path, '{command: [notify-send, "{line}"]}', '{url: "http://10.0.0.5:8080/a?b"}'
    )
    assert tool == ReceiverConfig("notify-send", ("notify-send", "{line}"))
    assert (hook.name, hook.format, hook.events) == ("10.0.0.5", "standard", DEFAULT_EVENTS)
    assert hook.place == "http://10.0.0.5:8080"
    assert not any(name.startswith("job.") for name in DEFAULT_EVENTS)


def test_all_keys(tmp_path: Path):
    (one,) = receivers(
        tmp_path,
        "{name: chat, url: {env: CHAT}, body: {text: '{line}'}, secret: {file: a.key}, "
        "events: [job.failed, job.failed, queue.ended]}",
    )
    assert one == ReceiverConfig(
        "chat", (), Secret(env="CHAT"), body={"text": "{line}"},
        secret=Secret(file=tmp_path / "a.key"), events=("job.failed", "queue.ended"),
    )  # fmt: skip
    assert one.kinds == ("failed", "queue_ended")


def test_a_program_with_a_path_lies_beside_the_file(tmp_path: Path):
    (one, other) = receivers(tmp_path, "{command: [./tell.sh]}", "{command: [tell, ./a]}")
    assert one.command == (str(tmp_path / "tell.sh"),)
    assert one.name == "tell.sh"
    assert other.command == ("tell", "./a")


WRONG = {
    "notify: [{}]": "notify[0]: set `command` (a program and its arguments) or `url` (a webhook)",
    'notify: [{command: [a], url: "http://a"}]': "notify[0]: a receiver is a command or a webhook; "
    "remove `command` or `url`",
    'notify: [{command: [a, "{lien}"]}]': "notify[0].command[1]: unknown field '{lien}'; did you "
    "mean 'line'?",
    'notify: [{url: "http://a", body: {x: ["{line"]}}]': "notify[0].body.x[0]: a single '{'; write "
    "'{{' for the sign itself",
    'notify: [{url: "ftp://a/TOKEN"}]': "notify[0].url: should be an address that begins with "
    "http:// or https:// and names a host",
    "notify: [{command: [a], format: slack}]": "notify[0].format: `format` is for webhooks; this "
    "receiver is a command",
    'notify: [{url: "http://a", format: ntfy, body: x}]': "notify[0].body: `body` takes the place "
    "of `format`; set one of them",
    "notify: [{url: {env: A}, format: slack, secret: {env: B}}]": "notify[0].secret: slack takes "
    "no signature: its address is the secret, as in `url: {env: NAME}`",
    "notify: [{url: {env: A, file: b}}]": "notify[0].url: should have one key, `env` (an "
    "environment variable) or `file`",
    "notify: [{command: [a]}, {command: [a]}]": "notify[1]: another receiver is called 'a'; set "
    "another `name`",
    "notify: [{command: [a], event: [job.failed]}]": "unknown key 'notify[0].event'; did you mean "
    "'events'?",
    "metrics: m.txt": "metrics: should end in .prom, or node_exporter does not read it",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, text: str):
    assert problem(tmp_path, text) == WRONG[text]


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "https://a b/TOKEN", "http://a:port/TOKEN", "TOKEN", ""]
)
def test_an_address_that_is_none_is_not_quoted(tmp_path: Path, url: str):
    text = problem(tmp_path, f'notify: [{{url: "{url}"}}]')
    assert "should be an address" in text
    assert "TOKEN" not in text


def test_a_host_is_named_without_what_may_be_secret():
    assert host_of("https://me:word@hooks.example:8443/T0/SECRET?x=1") == (
        "https://hooks.example:8443"
    )


def test_the_fingerprint_is_that_of_where_and_how():
    one = ReceiverConfig("a", url="http://a/TOKEN")
    assert one.fingerprint == ReceiverConfig("a", url="http://a/TOKEN", events=()).fingerprint
    assert one.fingerprint != ReceiverConfig("a", url="http://a/OTHER").fingerprint


def test_fields_are_filled():
    values = dict.fromkeys(FIELDS, "") | {"line": "{type} }} ok", "code": "x"}
    assert fill("{{{line}}} {code}{batch}", values) == "{{type} }} ok} x"
    assert fill_all({"{line}": ["{code}", 1, None]}, values) == {"{line}": ["x", 1, None]}


@pytest.mark.parametrize("text", ["{line!r}", "{line:>9}", "{0}", "{}", "{line.x}", "}", "{"])
def test_forms_of_python_are_no_fields(text: str):
    assert problem_of(text) is not None
