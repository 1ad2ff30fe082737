"""What documents and docstrings name of the package is there: files, folders, functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dna_pipeline"
ROOMS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}

FOREIGN = {
    "version.py", "setup_model.py", "setup_offline.py", "setup_manual.py", "convert_model.py",
    "convert_weights.py",
}  # fmt: skip
"""Files of other programs that ours speak of."""

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(PACKAGE.rglob("*.py")),
]

QUOTED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FILE = re.compile(r"[\w./-]+\.py")
FOLDER = re.compile(r"[\w./-]+/")
DEFINITION = re.compile(r"([\w./-]+\.py): ([A-Za-z_][\w.]*)")
MODULE = re.compile(r"dna_pipeline(\.\w+)+")


def prose(document: Path) -> str:
    """A document as it is; of a module its docstrings and its comments."""
    text = document.read_text(encoding="utf-8")
    if document.suffix != ".py":
        return text
    constants = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return "\n".join([*constants, *re.findall(r"#.*", text)])


def file_of(path: str, document: Path) -> Path | None:
    """The file or folder that a path means: seen from the document, the package, the project or
    its tests."""
    for start in (document.parent, PACKAGE, ROOT, ROOT / "tests"):
        if (start / path).exists():
            return start / path
    return None


@cache
def definitions(file: Path) -> frozenset[str]:
    """Names that a module defines at its top, and those of its classes' members."""

    def names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield prefix + node.name
                yield from names(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                yield prefix + node.name
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (prefix + ast.unparse(target) for target in targets)

    return frozenset(names(ast.parse(file.read_text(encoding="utf-8")).body, ""))


def fault(quoted: str, document: Path) -> str | None:
    """What is wrong with a name in backquotes; None if nothing is, or if it names nothing here."""
    if (named := DEFINITION.fullmatch(quoted)) is not None:
        file = file_of(named[1], document)
        if file is None:
            return f"there is no {named[1]}"
        return None if named[2] in definitions(file) else f"{named[1]} defines no {named[2]}"
    if MODULE.fullmatch(quoted):
        return module_fault(quoted)
    is_file = FILE.fullmatch(quoted) and quoted not in FOREIGN
    is_folder = FOLDER.fullmatch(quoted) and is_ours(quoted)
    if (is_file or is_folder) and file_of(quoted, document) is None:
        return f"there is no {quoted}"
    return None


def is_ours(folder: str) -> bool:
    """Whether a folder's name is one of the package's, and not one that it makes for people."""
    first, *rest = folder.rstrip("/").split("/")
    return first in ({"dna_pipeline", "tests", "scripts"} if rest else set()) | ROOMS


def module_fault(dotted: str) -> str | None:
    """What is wrong with a dotted name of the package: a module, or a name that it defines."""
    names = dotted.split(".")
    for end in range(len(names), 1, -1):
        path = ROOT.joinpath(*names[:end])
        if path.is_dir() or path.with_suffix(".py").is_file():
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            is_there = end == len(names) or ".".join(names[end:]) in definitions(file)
            return None if is_there else f"there is no {dotted}"
    return f"there is no {dotted}"


def faults(text: str, document: Path) -> list[str]:
    found = (fault(match[1], document) for match in QUOTED.finditer(text))
    return [each for each in found if each is not None]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_named_is_there(document: Path):
    assert faults(prose(document), document) == []


@pytest.mark.parametrize(
    "text",
    [
        "see `exr.py`",
        "see `dna_pipeline/tsr/volume.py`",
        "in `dna_pipeline/spec/`",
        "in `media/shapes/`",
        "as `publish/outbox.py: Outbox.vanish` does",
        "as `dna_pipeline.inbox.scan` does",
    ],
)
def test_what_is_not_there_is_noticed(text: str):
    assert len(faults(text, ROOT / "README.md")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "see `media/formats/exr.py` and `dna_pipeline/media/formats/exr.py`",
        "in `dna_pipeline/media/`, `media/meshes/`, `tests/unit/media/`",
        "as `publish/outbox.py: Outbox.publish` and `base/failpoints.py: POINTS` do",
        "as `dna_pipeline.intake.discovery.scan` does",
        "results lie in `latest/`, originals in `source/`",
    ],
)
def test_what_is_there_is_passed_over(text: str):
    assert faults(text, ROOT / "README.md") == []
