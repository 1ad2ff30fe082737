"""`dna-pipeline models`: lists, fetches, checks and carries the files of models."""

from __future__ import annotations

import errno
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dna_pipeline.base.errors import ConfigError, TransferFailed
from dna_pipeline.base.quantities import number_of, size
from dna_pipeline.interfaces.cli.models_text import (
    print_models,
    print_plan,
    print_published,
    print_verified,
    pulled_line,
)
from dna_pipeline.interfaces.cli.output import (
    JsonOption,
    clean,
    load,
    load_to_write,
    print_json,
    say,
)
from dna_pipeline.interfaces.cli.progress import transfer_progress

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config
    from dna_pipeline.operations.models.pull import PullPlan

models = typer.Typer(
    name="models",
    help="Weights: list, pull, discard, verify, convert, export, import.",
    no_args_is_help=True,
)

_GOES_ON = "what came is kept, and the next `dna-pipeline models pull` goes on from there"

NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="NAME…", help="Models of pipeline.yaml; default: all.")
]


@models.command("list")
def list_models(
    context: typer.Context,
    published: Annotated[
        bool, typer.Option("--known", help="The published models that `pull` can fetch.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the models of pipeline.yaml: what is there, what is missing. Hashes nothing."""
    from dna_pipeline.operations.models import leftovers, listing

    if published:
        entries = listing.list_published()
        print_json(entries) if as_json else print_published(entries)
        return
    config = load(context)
    entries = listing.list_models(config)
    print_json(entries) if as_json else print_models(entries, config.data)
    _say_leftovers("that did not end", leftovers.list_unneeded(config))


@models.command()
def pull(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME…",
            help="Models of pipeline.yaml, or published ones; default: what pipeline.yaml lacks.",
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Float32 in place of float16, where there is a choice.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Take the files from there, whatever their names are, and none from the network.",
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="With --from: share the files' bytes by hard links.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print addresses, sizes and hashes; fetch nothing.")
    ] = False,
    accept_changed: Annotated[
        bool,
        typer.Option(
            "--accept-changed",
            help="Take small text files that differ from the known ones; weights never.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch published weights; alone, those that pipeline.yaml lacks.

    A pull that was cut off goes on at the byte that it reached. Each model appears whole.
    HF_ENDPOINT names a mirror of the hub, HTTPS_PROXY a proxy, HF_TOKEN a token for the hub.
    """
    from dna_pipeline.operations.models import leftovers
    from dna_pipeline.operations.models import pull as operation

    if link and folder is None:
        raise ConfigError("--link shares bytes with files of a folder: name it with --from FOLDER")
    config = load(context) if dry_run else load_to_write(context)
    with _failures("nothing was fetched"):
        plan = operation.plan_pull(config, names or [], full=full)
    for text in plan.selection.remarks if names else ():
        say(text)
    facts = operation.plan_facts(plan)
    try:
        if not dry_run and facts:
            with _failures(_GOES_ON):
                facts = _fetch(config, plan, facts, folder, link, accept_changed)
        _print_pulled(facts, dry_run, as_json)
    finally:
        for text in (*plan.selection.unknown, *plan.refused):
            say(text)
    if plan.selection.unknown or plan.refused:
        raise typer.Exit(1)
    if not facts:
        say("nothing is missing")
    if not dry_run:
        _say_leftovers("that were cut off", leftovers.list_leftovers(config))


def _say_leftovers(which: str, left: Sequence[dict[str, Any]]) -> None:
    """Say how many bytes transfers left in hidden folders; nothing if there are none.

    Args:
        which: clause about the transfers. A transfer that runs now has such a folder as well.
    """
    number = sum(one["bytes"] for one in left)
    if number:
        folders = ", ".join(one["path"] for one in left)
        say(
            f"transfers {which} left {size(number)} in {folders}; "
            "`dna-pipeline models discard` removes them"
        )


def _print_pulled(facts: Sequence[dict[str, Any]], dry_run: bool, as_json: bool) -> None:
    """Print what came, or what a pull would fetch."""
    if as_json:
        print_json(facts)
    elif dry_run:
        print_plan(facts)
    else:
        for one in facts:
            print(clean(pulled_line(one)))


def _fetch(
    config: Config,
    plan: PullPlan,
    planned: Sequence[dict[str, Any]],
    folder: Path | None,
    link: bool,
    accept_changed: bool,
) -> list[dict[str, Any]]:
    """Fetch what is planned, with a bar. Gives the facts of the models that appeared."""
    from dna_pipeline.operations.models import pull as operation

    say(_beginning(planned, plan.bytes_to_come, folder))
    with transfer_progress() as progress:
        pulled = operation.run_pull(
            config, plan, progress, folder=folder, links=link, accepts_changed=accept_changed
        )
    for one in pulled:
        for path, sha256 in one["changed"].items():
            say(f"{one['name']}: {path} was taken although it changed: SHA-256 {sha256}")
    return pulled


def _beginning(planned: Sequence[dict[str, Any]], number: int, folder: Path | None) -> str:
    """Say what is fetched, under which licences: `sd15 (CreativeML-OpenRAIL-M): 2 GiB to fetch`."""
    names = [
        f"{one['name']} ({'; '.join(filter(None, (one['license'], one['note'])))})"
        for one in planned
    ]
    verb = "fetch" if folder is None else f"take from {folder}"
    return f"{', '.join(names)}: {size(number)} to {verb}; Ctrl-C stops, and a later pull goes on"


@models.command()
def discard(context: typer.Context, as_json: JsonOption = False) -> None:
    """Remove what transfers that were cut off left. A later pull begins anew."""
    from dna_pipeline.operations.models import leftovers

    config = load_to_write(context)
    with _failures("what is left stays until the next `dna-pipeline models discard`"):
        removed = leftovers.discard_leftovers(config)
        if as_json:
            print_json(removed)
            return
        for one in removed:
            print(clean(f"{one['path']}: {size(one['bytes'])} removed"))
        if not removed:
            say("nothing is left of transfers")


@models.command()
def verify(
    context: typer.Context, names: NamesArgument = None, as_json: JsonOption = False
) -> None:
    """Hash the weights, and compare them with the published files and with manifests.

    Exit status 1 says that a model is missing, differs from the published one that it seems to be,
    or changed since the newest result that was made with it.
    """
    from dna_pipeline.operations.models import verify as operation

    config = load(context)
    with _failures("nothing was changed"), transfer_progress() as progress:
        results = operation.verify_models(config, names or [], progress)
    print_json(results) if as_json else print_verified(results)
    if any(result["problem"] for result in results):
        raise typer.Exit(1)


@models.command()
def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A Stable Diffusion 1.5 in one file.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The new folder in Diffusers format.")
    ],
    vae: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A VAE to take in place of the checkpoint's own."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a checkpoint in one file to a folder in Diffusers format. Goes never online.

    Values and number types are kept. The folder appears whole or not at all. Of a pickled file
    (.ckpt), only tensors are read, and none of its code is run.
    """
    from dna_pipeline.operations.models import convert as operation

    with _failures("nothing was made"):
        made = operation.convert_checkpoint(file, target, vae)
    if as_json:
        print_json(made)
        return
    print(clean(f"{made['target']}: {number_of(made['files'], 'file')}, {size(made['bytes'])}"))


@models.command("export")
def export_models(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new archive, a .tar.")],
    names: NamesArgument = None,
    as_json: JsonOption = False,
) -> None:
    """Write models to one archive, for a machine without a network."""
    from dna_pipeline.operations.models import archive as operation

    config = load(context)
    with _failures("no archive was written"), transfer_progress() as progress:
        packed = operation.export_models(config, file, names or [], progress)
    if as_json:
        print_json(packed)
        return
    for one in packed:
        print(clean(f"{one['name']}: {one['target']}, {size(one['bytes'])}"))
    say(f"wrote {file}; `dna-pipeline models import {file.name}` takes it in elsewhere")


@models.command("import")
def import_models(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")],
    as_json: JsonOption = False,
) -> None:
    """Take models from an archive that `models export` wrote. Overwrites nothing."""
    from dna_pipeline.operations.models import archive as operation

    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file")
    config = load_to_write(context)
    with _failures("models that were taken in before stay"), transfer_progress() as progress:
        taken_in = operation.import_models(config, file, progress)
    if as_json:
        print_json(taken_in)
        return
    for one in taken_in:
        state = "is there already, the same" if one["was_there"] else size(one["bytes"])
        print(clean(f"{one['name']}: {one['target']}, {state}"))
    count = sum(not one["was_there"] for one in taken_in)
    say(f"{number_of(count, 'model')} taken in below {config.data}")


@contextmanager
def _failures(kept: str) -> Generator[None]:
    """Turn failures of a transfer into a sentence and exit status 1.

    Args:
        kept: a clause that says what a transfer that was cut off leaves.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; {kept}")
    except TransferFailed as error:
        say(f"dna-pipeline: {error}")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if is_full else error.strerror or str(error)
        say(f"dna-pipeline: {place}{what}; {kept}")
    else:
        return
    raise typer.Exit(1)
