"""`dna-pipeline verify`: results against their manifests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.cli.output import JsonOption, clean, load, print_json, say


def verify(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="Folders; default: the outbox.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hash results again and compare with their manifests."""
    roots = paths or [load(context).outbox]
    for root in roots:
        if not root.exists():
            raise ConfigError(f"{root}: there is no such file or folder")
    results = [_verify(manifest) for root in roots for manifest in _manifests(root)]
    if as_json:
        print_json(results)
    else:
        _print(results)
    if any(result["problems"] for result in results):
        raise typer.Exit(1)


def _manifests(root: Path) -> list[Path]:
    """All manifests at or below `root`, our own hidden folders left out."""
    from dna_pipeline.operations.repair.results import find_accounts
    from dna_pipeline.publish.manifest import NAME

    if root.is_file():
        return [root]
    return [path for path in find_accounts(root) if path.name == NAME]


def _verify(path: Path) -> dict[str, Any]:
    from pydantic import ValidationError

    from dna_pipeline.publish.manifest import Manifest

    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        text = str(error).splitlines()[0]
        return {"folder": str(path.parent), "files": 0, "problems": [f"{path.name}: {text}"]}
    problems = [
        problem
        for artifact in manifest.artifacts
        if (problem := _compare(_file(path.parent, artifact.path), artifact.sha256)) is not None
    ]
    return {"folder": str(path.parent), "files": len(manifest.artifacts), "problems": problems}


def _file(folder: Path, name: str) -> Path:
    """A file by its name in a manifest, also where the locale takes names for plain ASCII."""
    return folder / os.fsdecode(name.encode("utf-8", "surrogatepass"))


def _compare(path: Path, sha256: str) -> str | None:
    from dna_pipeline.base.files import sha256_file

    try:
        same = sha256_file(path) == sha256
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    return None if same else f"{path.name}: is not what the manifest says"


def _print(results: list[dict[str, Any]]) -> None:
    for result in results:
        for problem in result["problems"]:
            print(f"{clean(result['folder'])}: {clean(problem)}")
    wrong = sum(1 for result in results if result["problems"])
    files = sum(result["files"] for result in results)
    say(f"{len(results)} results with {files} files looked at, {wrong} with problems")


def register(app: typer.Typer) -> None:
    app.command()(verify)
