"""`dna-pipeline models`: lists, fetches, checks and carries the files of models."""

from __future__ import annotations

import typer

models = typer.Typer(
    name="models",
    help="Weights: list, pull, verify, export, import.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@models.command("list")
def list_models(context: typer.Context) -> None:
    """List the models of pipeline.yaml: what is there, what is missing."""


@models.command()
def pull(context: typer.Context) -> None:
    """Fetch published weights; alone, those that pipeline.yaml lacks."""


@models.command()
def verify(context: typer.Context) -> None:
    """Hash the weights and compare with the published files and with manifests."""


@models.command("export")
def export_models(context: typer.Context) -> None:
    """Write models to one archive, for a machine without a network."""


@models.command("import")
def import_models(context: typer.Context) -> None:
    """Take models from an archive that `models export` wrote."""


def register(app: typer.Typer) -> None:
    app.add_typer(models)
