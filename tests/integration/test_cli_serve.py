"""The command `serve` where it does not start, and the service that runs a server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dna_pipeline.interfaces.cli import serve as module
from tests.commands import call
from tests.serving import PIPELINE_YAML


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE_YAML)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "other machines reach this address, so set a token"),
        (["--token-file", "none"], "--token-file none: cannot be read: No such file"),
        (["--port", "65536"], "less than or equal to 65535"),
        (["--host", "nowhere.invalid"], "--host nowhere.invalid: is no known name or address"),
    ],
)
def test_what_cannot_be_served_is_a_sentence_and_two(folder: Path, arguments: list[str], says: str):
    done = call(folder, "serve", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_a_sentence_and_two(folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = call(folder, "serve", "--port", port)
    assert done.returncode == 2
    assert done.stderr == (
        f"dna-pipeline: port {port} of 127.0.0.1 is in use by another program; --port takes "
        "another, or 0 for any free one\n"
    )


@pytest.mark.parametrize(
    "arguments", [["serve"], ["watch", "--serve"], ["service", "install", "--serve", "--print"]]
)
def test_missing_packages_are_a_sentence_and_two(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "uvicorn" else True)
    done = call(folder, *arguments)
    assert done.returncode == 2
    assert done.stderr == (
        "dna-pipeline: the packages of the server are not installed; install dna-pipeline with its "
        'extra web: `pip install ".[web]" -c constraints.txt` in its folder\n'
    )
    assert not (folder / "data").exists()


def test_the_service_gets_the_options_of_the_server(folder: Path):
    (folder / "token").write_text("x" * 20)
    server = ["--serve", "--host", "0.0.0.0", "--port", "80", "--token-file", "token"]
    done = call(folder, "service", "install", "--print", *server)
    assert done.returncode == 0, done.stderr
    for word in ("--plain", "--serve", "0.0.0.0", "80", str(folder / "token")):
        assert word in done.stdout
    plain = call(folder, "service", "install", "--print", "--port", "80")
    assert "--serve" not in plain.stdout
