"""Checks names and docstrings for the language of docs/glossary.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("dna_pipeline", "scripts", "integrations")

# Words that said several things each, or nothing to someone who is new. No name contains one.
# fmt: off
WORDS = frozenset({
    "account", "accounts", "away", "bench", "giveback", "lookout", "outlook", "patience", "prove",
    "resting", "taker", "takers", "taking", "teller", "tellers", "tells", "tend", "thrift",
    "told", "wire", "wishes",
})
# fmt: on

# Names of former concepts, and participles in place of a noun: no name is one of these.
# fmt: off
NAMES = frozenset({
    "Gate", "InboxGate", "Holds", "Left", "Names", "Ready", "Running", "Taken", "Views",
    "Lookout", "Account", "Accounts", "asked", "found", "given", "heard", "known", "seen",
    "taken", "wanted", "undo", "put_all_back",
})
# fmt: on

PUBLIC = {
    # Keys of `repair --json`, which users' scripts read.
    "dna_pipeline/operations/repair/rebuild.py": {"known"},
    "dna_pipeline/operations/repair/takeover.py": {"taken"},
}

# A docstring begins with a verb or with the noun of its subject.
RIDDLE = re.compile(
    r"(What|Whether|Who|Which|One that|It|They|This|Those|So many|How many|How long|For how|Where"
    r"|When|Why)\b"
)


def modules() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names that the module defines: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case _:
                pass


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes, functions, and those below attributes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield statement.lineno, text.strip()
                case _:
                    pass


def is_old(name: str) -> bool:
    """True if a name is, or contains, a word that the glossary replaced."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")
    return name.strip("_") in NAMES or not WORDS.isdisjoint(words)


@pytest.mark.parametrize("name", ["Lookout", "TakerOfAll", "_told", "told_code", "max_thrift"])
def test_an_old_name_is_recognised(name: str) -> None:
    assert is_old(name)


@pytest.mark.parametrize("name", ["known_files", "KnownFiles", "entry", "is_yielding", "benches"])
def test_other_names_are_not(name: str) -> None:
    assert not is_old(name)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_speaks_the_language_of_the_glossary(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    allowed = PUBLIC.get(path.relative_to(ROOT).as_posix(), set())
    problems = [
        f"line {line}: the name {name}"
        for line, name in names(tree)
        if is_old(name) and name not in allowed
    ]
    problems += [
        f"line {line}: the docstring begins with {RIDDLE.match(text)[0]!r}"  # type: ignore[index]
        for line, text in docstrings(tree)
        if RIDDLE.match(text)
    ]
    assert problems == []
