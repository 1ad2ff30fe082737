"""Tell files and folders of dna-pipeline from those of other people and programs.

A folder in `<data>/work` or `<data>/claims` is ours if two things hold: its name is one that only
this program gives, and the mark `<data>/.dna-owner` says that our ledger owns the folders there.
The mark is one file for all folders, since a file in each folder would cost too much at thousands
of claims a second. It lists the folders with names like ours that are older than the ledger: those
stay foreign. Claims in an inbox and staging folders carry the ledger's id in their path instead
(`.dna/<ledger id>/`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import write_bytes
from dna_pipeline.base.layout import (
    claim_root,
    entries,
    is_id,
    is_ledger_id,
    is_real_folder,
    is_trash,
)
from dna_pipeline.base.naming import printable
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.inboxes import is_own_name
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.claiming import owner
from dna_pipeline.ledger import health

if TYPE_CHECKING:
    from dna_pipeline.ledger.store import Ledger

MARK = ".dna-owner"

_ABOUT = (
    "dna-pipeline: the ledger with this id made the folders 'work' and 'claims' beside this file. "
    "It removes or moves only folders of its own in them, and none of 'others', which were there "
    "before."
)
_SYSTEM_NAMES = frozenset(
    "lost+found thumbs.db desktop.ini @eadir #recycle @recycle $recycle.bin".split()  # noqa: SIM905
) | {"system volume information", "output"}
"""Names that operating systems and NAS devices create in any folder; `output` is the outbox of
older versions."""

_WEIGHTS = (".onnx", ".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", "model_index.json")
_KNOWN_FILES = frozenset({owner.NAME, "latest.tmp"})
_NAMES_SHOWN = 4


# --- the mark ---


@dataclass(frozen=True, slots=True)
class Mark:
    """Content of `<data>/.dna-owner`.

    Attributes:
        ledger: id of the ledger that owns `work` and `claims`.
        others: folders in these two that are older than the ledger, as `claims/<name>`.
    """

    ledger: str
    others: frozenset[str] = frozenset()

    def is_foreign(self, folder: Path) -> bool:
        """True if the folder is older than the ledger, whatever its name."""
        return f"{folder.parent.name}/{folder.name}" in self.others


def read_mark(data: Path) -> Mark | None:
    """Read the mark; None if it is missing or cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content: Any = json.loads((data / MARK).read_bytes())
        if is_ledger_id(content["ledger"]):
            return Mark(content["ledger"], frozenset(map(str, content["others"])))
    return None


def make_mark(config: Config, ledger: Ledger) -> Mark:
    """Write the mark that this ledger owns `work` and `claims`, unless it is there already.

    A ledger of version 0.1 has no mark; all folders with names like ours are its own. A new ledger
    owns none of the folders that were there before it.
    """
    # Imported here, since it loads SQLAlchemy, which commands that only read do without.
    from dna_pipeline.ledger import drops

    mark = read_mark(config.data)
    if mark is not None and mark.ledger == ledger.id:
        return mark
    is_older = mark is None and ledger.transact(drops.has_drops)
    others = [] if is_older else [f for f in _named_like_ours(config) if not _knows(ledger, f)]
    mark = Mark(ledger.id, frozenset(f"{path.parent.name}/{path.name}" for path in others))
    write_mark(config.data, mark)
    return mark


def write_mark(data: Path, mark: Mark) -> None:
    text = {"about": _ABOUT, "ledger": mark.ledger, "others": sorted(mark.others)}
    write_bytes(data / MARK, json.dumps(text, indent=1).encode())


def _named_like_ours(config: Config) -> Iterator[Path]:
    for root in (config.work, config.claims):
        yield from (path for path in entries(root) if is_id(path.name))


def _knows(ledger: Ledger, folder: Path) -> bool:
    from dna_pipeline.ledger import drops, queue

    if folder.parent.name == "work":
        return ledger.transact(lambda s: queue.find_job(s, folder.name)) is not None
    return ledger.transact(lambda s: drops.drop_state(s, folder.name)) is not None


# --- leftovers that people have to look at ---


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Leftovers that stay until a person removes them.

    Attributes:
        folder: `<data>/recovered`.
        recovered: number of folders in it.
        foreign: files and folders among ours that are not ours.
    """

    folder: Path
    recovered: int = 0
    foreign: tuple[Path, ...] = ()

    def to_dict(self, limit: int = 50) -> dict[str, Any]:
        """Give the leftovers as fields of `status.json`, with at most `limit` foreign paths."""
        return {
            "recovered": {"folder": printable(self.folder), "count": self.recovered},
            "foreign": [printable(path) for path in self.foreign[:limit]],
            "foreign_total": len(self.foreign),
        }


def find_leftovers(config: Config, look: Look = look_directly) -> Leftovers:
    """Find the leftovers. Reads folders only, never the ledger.

    Args:
        look: says whether a folder can be reached; a folder that does not answer is left out.
    """
    recovered = [path for path in entries(config.recovered) if not path.name.startswith(".")]
    mark = read_mark(config.data)
    # Only a daemon of this version writes the mark. Without it, no folder is known to be foreign.
    if mark is None:
        return Leftovers(config.recovered, len(recovered))
    places = [config.outbox, *(inbox.path for inbox in config.inboxes if not inbox.keeps)]
    staging, *claim_roots = (claim_root(place, mark.ledger) for place in places)
    roots = [config.work, config.claims, staging, *claim_roots]
    foreign = [
        path
        for root in roots
        if not look(root).is_silent
        for path in _foreign(root, mark)
        if root != staging or not (is_trash(path.name) and is_real_folder(path))
    ]
    return Leftovers(config.recovered, len(recovered), tuple(foreign))


def _foreign(root: Path, mark: Mark) -> Iterator[Path]:
    try:
        with os.scandir(root) as scanner:
            names = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in scanner)
    except OSError:
        return
    for name, is_folder in names:
        is_known_file = not is_folder and name in _KNOWN_FILES
        is_ours = is_folder and is_id(name) and not mark.is_foreign(root / name)
        if not (is_ours or is_known_file or name.startswith(".")):
            yield root / name


# --- the first start ---


def check_data_folder(config: Config, look: Look = look_directly) -> None:
    """Refuse to create a ledger among other people's files.

    Args:
        look: says whether a folder can be reached; links are not followed to a folder that does
            not answer.

    Raises:
        ConfigError: there is no ledger yet, and the data folder holds files that are not ours.
    """
    path = config.ledger_path
    if path.exists() or health.known_id(path) is not None or read_mark(config.data) is not None:
        return
    if not (foreign := _foreign_content(config, look)):
        return
    names = ", ".join(printable(name) for name in foreign[:_NAMES_SHOWN])
    more = f" and {len(foreign) - _NAMES_SHOWN} more" if len(foreign) > _NAMES_SHOWN else ""
    raise ConfigError(
        f"{config.data}: there is no ledger here yet, and this folder holds what is not "
        f"dna-pipeline's: {names}{more}. Nothing was changed. Let paths.data (or $DNA_DATA_DIR) "
        f"name another folder, or an empty one in this, such as {config.data / 'dna-pipeline'}"
    )


def _foreign_content(config: Config, look: Look) -> list[str]:
    """List names in the data folder that belong neither to the program nor to its configuration."""
    configured = {path.parts[0] for path in _below(config.data, _configured(config), look)}
    return [
        path.name
        for path in entries(config.data)
        if path.name not in configured and not _is_usual(path)
    ]


def _configured(config: Config) -> Iterator[Path]:
    from dna_pipeline.base.logs import log_file, server_log_file

    yield from (config.file, config.outbox, log_file(config.logs), server_log_file(config.logs))
    for inbox in config.inboxes:
        yield from (inbox.path, *inbox.source_roots)
    for model in config.models.declared.values():
        yield from model.weight_paths
    if config.models.folder is not None:
        yield config.models.folder


def _below(folder: Path, paths: Iterable[Path], look: Look) -> Iterator[Path]:
    """Give the paths that lie below `folder`, directly or through links, relative to it."""
    bases = (folder, Path(os.path.realpath(folder)))
    for path in paths:
        places = [path] if look(path).is_silent else [path, Path(os.path.realpath(path))]
        for base, place in ((base, place) for base in bases for place in places):
            if base in place.parents:
                yield place.relative_to(base)


def _is_usual(path: Path) -> bool:
    """True for files that any data folder may hold: ours, hidden ones, a README, weights."""
    name = path.name.casefold()
    if name.startswith((".", "readme")) or name in _SYSTEM_NAMES or is_own_name(name):
        return True
    return name.endswith(_WEIGHTS) or any(
        inner.name.casefold().endswith(_WEIGHTS) for inner in entries(path)
    )
