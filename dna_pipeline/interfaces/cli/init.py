"""`dna-pipeline init`: writes a first pipeline.yaml and the folders."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.cli.output import say


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to; made if missing.")
    ] = Path(),
) -> None:
    """Write a commented pipeline.yaml and the folders; overwrites nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / "pipeline.yaml"
        if target.exists():
            say(f"{target} is there already and stays as it is")
        else:
            template = files("dna_pipeline.interfaces.cli") / "templates" / "pipeline.yaml"
            target.write_bytes(template.read_bytes())
            say(f"wrote {target}")
        for name in ("data/models", "inbox/restyle", "inbox/mesh", "outbox"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    say("`dna-pipeline check` says what would run, `dna-pipeline watch` runs it.")
    if _lacks_weights(target):
        say("Fetch the weights, about 4 GB, into data/models: `dna-pipeline models pull`")


def _lacks_weights(target: Path) -> bool:
    """True if files of a model are missing. A pipeline.yaml that cannot be read has no models here,
    and `check` says why it cannot be read."""
    from dna_pipeline.operations.configuration import load

    try:
        models = load(target).models
        return any(provider.missing() is not None for provider in models.values())
    except (ConfigError, OSError):
        return False
