"""Documents: their links lead somewhere, and their commands and options are the program's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dna_pipeline.interfaces.cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\((?!https?:)([^)\s]*)\)")
COMMAND = re.compile(r"(?:^(?:    |\$ )|`)dna-pipeline ([^`#\n]*)", re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def broken(document: Path, text: str) -> Iterator[str]:
    """The links of a text in that document that lead nowhere."""
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path):
    assert list(broken(document, document.read_text(encoding="utf-8"))) == []


def test_a_link_that_leads_nowhere_is_noticed():
    text = "[a](docs/none.md) [b](README.md#none) [c](README.md#try-it) [d](https://example.org)"
    assert list(broken(ROOT / "README.md", text)) == ["docs/none.md", "README.md#none"]


@cache
def program() -> Any:
    return typer.main.get_command(app)


def wrong(call: str) -> str | None:
    """The part of a call of the program that it does not know; None if it knows all."""
    group, words = program(), shlex.split(call.replace("…", ""))
    while words:
        word = words.pop(0)
        options = {name for parameter in group.params for name in parameter.opts}
        if word.startswith("--"):
            if word.split("=")[0] not in options | {"--help"}:
                return word
            if group is program() and word == "--config":
                words.pop(0)
        elif hasattr(group, "commands"):
            if word not in group.commands:
                return word
            group = group.commands[word]
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_those_of_the_program(document: Path):
    calls = COMMAND.findall(document.read_text(encoding="utf-8"))
    assert [(call, part) for call in calls if (part := wrong(call)) is not None] == []


@pytest.mark.parametrize(
    ("call", "part"),
    [
        ("wach", "wach"), ("retry --fialed", "--fialed"), ("models fetch", "fetch"),
        ("--config a.yaml check --al", "--al"), ("models pull --dry-run sd15", None),
    ],
)  # fmt: skip
def test_a_wrong_command_is_noticed(call: str, part: str | None):
    assert wrong(call) == part
