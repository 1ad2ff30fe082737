"""`dna-pipeline init`: writes a first pipeline.yaml, the schemas for editors, and the folders."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import typer

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.cli.output import say

Purpose = Literal["photos", "night", "dcc"]
"""The kinds of work that have a pipeline.yaml of their own, in `templates/<purpose>/`."""

FOLDERS: dict[Purpose | None, tuple[str, ...]] = {
    None: ("inbox/restyle", "inbox/mesh"),
    "photos": ("inbox/photos", "inbox/cutouts"),
    "night": ("inbox/night",),
    "dcc": ("exports/blender", "exports/maya", "exports/houdini"),
}
"""The inboxes of each template."""
WEIGHTS: dict[Purpose | None, str] = {
    None: "3.5 GiB",
    "photos": "1.7 GiB",
    "night": "3.5 GiB",
    "dcc": "1.6 GiB",
}
"""Size of the weights that each template needs."""


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to; made if missing.")
    ] = Path(),
    purpose: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="photos|night|dcc",
            help="photos: dropped by hand, to meshes; night: many by table, in certain hours; "
            "dcc: what Blender, Maya and Houdini export.",
        ),
    ] = None,
) -> None:
    """Write a commented pipeline.yaml, schemas for editors and the folders; overwrites nothing."""
    kind = _purpose(purpose)
    try:
        _write(folder, kind)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    say("`dna-pipeline check` says what would run, `dna-pipeline watch` runs it.")
    if _lacks_weights(folder / "pipeline.yaml"):
        size = WEIGHTS[kind]
        say(f"Fetch the weights, {size}, into data/models: `dna-pipeline models pull`")


def _purpose(name: str | None) -> Purpose | None:
    """The purpose of that name. Raises `ConfigError` if there is none."""
    for purpose in FOLDERS:
        if purpose == name:
            return purpose
    raise ConfigError(
        f"--for {name}: should be photos, night or dcc; dcc is for Blender, Maya and Houdini"
    )


def _write(folder: Path, purpose: Purpose | None) -> None:
    from dna_pipeline.operations.editor_schemas import write_schemas

    folder.mkdir(parents=True, exist_ok=True)
    for name, template in _templates(purpose):
        _write_new(folder / name, template.read_bytes())
    for path in write_schemas(folder / "pipeline.yaml", overwrite=False):
        say(f"wrote {path}")
    for name in ("data/models", *FOLDERS[purpose], "outbox"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def _templates(purpose: Purpose | None) -> Iterator[tuple[PurePosixPath, Traversable]]:
    """The files of a template, with their relative paths."""
    root = files("dna_pipeline.interfaces.cli") / "templates"
    if purpose is None:
        yield PurePosixPath("pipeline.yaml"), root / "pipeline.yaml"
        return
    yield from _files_below(root / purpose, PurePosixPath())


def _files_below(
    folder: Traversable, path: PurePosixPath
) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda each: (each.is_dir(), each.name)):
        if entry.is_dir():
            yield from _files_below(entry, path / entry.name)
        else:
            yield path / entry.name, entry


def _write_new(target: Path, data: bytes) -> None:
    if target.exists():
        say(f"{target} is there already and stays as it is")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    say(f"wrote {target}")


def _lacks_weights(target: Path) -> bool:
    """True if files of a model are missing. A pipeline.yaml that cannot be read has no models here,
    and `check` says why it cannot be read."""
    from dna_pipeline.operations.configuration import load

    try:
        models = load(target).models
        return any(provider.missing() is not None for provider in models.values())
    except (ConfigError, OSError):
        return False
