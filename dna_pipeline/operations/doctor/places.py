"""Gathers the facts about what pipeline.yaml names: folders, models, the ledger, other daemons.

A folder that may be on a dead mount is first looked at by a helper process, and not touched if it
does not answer.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dna_pipeline.base import filesystem
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import fsync
from dna_pipeline.base.layout import CLAIMS, entries
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.inboxes import WEIGHT_FOLDERS, is_own_name
from dna_pipeline.execution.result_store import ResultStore
from dna_pipeline.ledger import health
from dna_pipeline.operations import obstacles
from dna_pipeline.operations.doctor.facts import Folder, KeptFacts, LedgerFacts, ModelFiles, Use
from dna_pipeline.operations.doctor.machine import name_of_user
from dna_pipeline.operations.doctor.project import PULL
from dna_pipeline.operations.lookup import open_queries, sentence
from dna_pipeline.operations.ownership import check_data_folder
from dna_pipeline.providers.checkpoints import Models
from dna_pipeline.weights.headers import read_header

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config, Inbox
    from dna_pipeline.ledger.queries import Queries
    from dna_pipeline.providers.base import Provider

COUNT_LIMIT_S = 10.0
"""Time limit for counting the folders of an inbox."""

_PROBE = ".dna-doctor-"
"""Start of the name of a file that is written to see if that is possible. Hidden, so that no scan
takes it; on Linux it has no name at all."""


def folders(config: Config, queries: Queries | None, look: Look) -> tuple[Folder, ...]:
    """Facts about the data folder, the outbox and all inboxes."""
    places = [
        folder("data", config.data, "write", look),
        _outbox(config, look),
        *(_inbox(config, inbox, queries, look) for inbox in config.inboxes),
    ]
    return tuple(places)


def temporary_folder() -> Folder:
    """Facts about the folder for temporary files."""
    try:
        return folder("temporary", Path(tempfile.gettempdir()), "write", look_directly)
    except OSError as error:  # Python has tried all usual ones
        return Folder("temporary", "", "write", refusal=error.strerror or str(error))


def folder(role: str, path: Path, use: Use, look: Look) -> Folder:
    """Facts about one folder; about the lowest one above it that exists if it is missing."""
    reach = look(path)
    facts = Folder(role, str(path), use, reach.state, reach.why, kind="")
    if reach.is_silent:
        return facts
    if reach.state == "missing" and reach.why != os.strerror(errno.ENOENT):
        return replace(facts, refusal=reach.why)
    if reach.state == "missing" and (problem := _dangling_link(path)):
        return replace(facts, problem=problem)
    place = _existing(path)
    if place != path and look(place).is_silent:
        return facts
    kind = kind_of(place)
    facts = replace(facts, kind=kind, is_network=kind in filesystem.NETWORK or _is_remote(place))
    with suppress(OSError):
        facts = replace(facts, free_bytes=shutil.disk_usage(place).free)
    facts = replace(facts, free_files=_free_files(place))
    return replace(facts, refusal=_refusal(place, use, is_there=reach.is_there))


def kept_results(config: Config, look: Look) -> KeptFacts | None:
    """Facts about the results that are kept for later jobs; None if the data folder does not
    answer."""
    if look(config.data).is_silent:
        return None
    entries = list(ResultStore(config.kept_results).entries())
    return KeptFacts(
        str(config.kept_results), len(entries), sum(entry.bytes for entry in entries),
        config.retention.reuse_bytes,
    )  # fmt: skip


def kind_of(place: Path) -> str:
    """Type of the file system that holds a folder; "" if the system does not say."""
    if (kind := filesystem.type_of(place)) or sys.platform == "linux":
        return kind
    import psutil

    real = Path(os.path.realpath(place))
    mounts = [part for part in psutil.disk_partitions(all=True) if real.is_relative_to(part[1])]
    return max(mounts, key=lambda part: len(part[1]))[2] if mounts else ""


def _is_remote(place: Path) -> bool:
    """True for a folder on a network drive of Windows."""
    if sys.platform != "win32":
        return False
    import ctypes

    drive_remote = 4
    real = os.path.realpath(place)
    anchor = Path(real).anchor
    return anchor.startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(anchor) == drive_remote


def _dangling_link(path: Path) -> str:
    """Sentence about a link on the way to a folder whose target does not exist; "" if there is
    none. No folder can be made in the place of such a link."""
    while not os.path.lexists(path) and path.parent != path:
        path = path.parent
    if not path.is_symlink() or path.exists():
        return ""
    target = os.path.realpath(path)
    return (
        f"{path} is a link to {target}, which is not there; connect its disk, make that folder, or "
        "remove the link"
    )


def _existing(path: Path) -> Path:
    # `Path.is_dir` would raise where a folder above may not be entered.
    while not os.path.isdir(path) and path.parent != path:  # noqa: PTH112
        path = path.parent
    return path


def _free_files(place: Path) -> int | None:
    """Number of files that the disk has room for; None if it has no such limit."""
    if sys.platform == "win32":
        return None
    try:
        status = os.statvfs(place)
    except OSError:
        return None
    return status.f_favail if status.f_files > 0 else None


def _refusal(place: Path, use: Use, *, is_there: bool) -> str:
    """The system's reason why the program may not use a folder as it has to; "" if it may.

    A file is written to know it for sure: rights, quotas and read-only disks all count.
    """
    if sys.platform == "win32" and use != "write":
        return ""
    needed = os.R_OK | os.X_OK | (0 if use == "read" and is_there else os.W_OK)
    try:
        if use == "write" and is_there:
            with tempfile.TemporaryFile(prefix=_PROBE, dir=place) as file:
                file.write(b"\0")
                file.flush()
                fsync(file.fileno())
        if not _may(place, needed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        where = "" if is_there else f"{place}: "
        return f"{where}{error.strerror or error}"
    return ""


def _outbox(config: Config, look: Look) -> Folder:
    facts = folder("outbox", config.outbox, "write", look)
    if facts.state != "there" or facts.refusal:
        return facts
    for name in (CLAIMS, *(inbox.name for inbox in config.inboxes)):
        part = config.outbox / name
        # Results go into these, which another user may have made.
        if part.is_dir() and not _may(part, os.W_OK | os.X_OK):
            return replace(facts, refusal=f"{part}: {os.strerror(errno.EACCES)}")
    return facts


def _may(place: Path, mode: int) -> bool:
    """True if this process has these rights to a file or folder, as `os.access` names them."""
    return os.access(place, mode, effective_ids=os.access in os.supports_effective_ids)


def _inbox(config: Config, inbox: Inbox, queries: Queries | None, look: Look) -> Folder:
    facts = folder(f"inbox {inbox.name}", inbox.path, "read" if inbox.keeps else "move", look)
    facts = replace(facts, watch=inbox.watch)
    if facts.state == "silent" or facts.refusal or facts.problem:
        return facts
    if facts.state == "missing" and _will_be_made(config, inbox, queries, look):
        return facts
    problem = obstacles.of_inbox(config, inbox, queries, look) or ""
    claims = inbox.path / CLAIMS
    if not inbox.keeps and claims.is_dir() and not _may(claims, os.W_OK | os.X_OK):
        facts = replace(facts, refusal=f"{claims}: {os.strerror(errno.EACCES)}")
    if facts.state == "there" and inbox.recursive and not facts.is_network:
        facts = replace(facts, subfolders=count_folders(inbox.path))
    return replace(facts, problem=problem)


def _will_be_made(config: Config, inbox: Inbox, queries: Queries | None, look: Look) -> bool:
    """True if the daemon makes the folder of the inbox when it starts."""
    from dna_pipeline.intake.inbox_folders import should_make

    was_watched = queries is not None and inbox.name in queries.watched_inboxes()
    return should_make(config, inbox, was_watched=was_watched, look=look)


def count_folders(root: Path, limit_s: float = COUNT_LIMIT_S) -> int | None:
    """Number of folders below one that are watched, itself included; None if counting takes too
    long."""
    from dna_pipeline.intake.discovery.scan import is_noise

    deadline = time.monotonic() + limit_s
    count = 0
    for _, names, _ in os.walk(root):
        count += 1
        names[:] = [name for name in names if not is_noise(name)]
        if time.monotonic() > deadline:
            return None
    return count


# --- the ledger, and daemons ---


def open_ledger(config: Config, look: Look) -> tuple[LedgerFacts, Queries | None]:
    """Facts about the ledger, and queries to it if it can be read."""
    path = config.ledger_path
    facts = LedgerFacts(str(path))
    if look(config.data).is_silent:
        return facts, None
    facts = replace(facts, unwritable=tuple(_unwritable(config.data)), owner=_other_owner(path))
    queries: Queries | None = None
    try:
        check_data_folder(config, look)
        health.check_present(path)
        if not path.exists():
            return facts, None
        queries = open_queries(config)
        size = path.stat().st_size
        events = queries.events(None, max(queries.last_event() - 1, 0), 1)
        last = events[0]["at"] if events else None
        return replace(facts, size_bytes=size, last_event=last), queries
    except (ConfigError, OSError) as error:
        if queries is not None:
            queries.close()
        return replace(facts, problem=sentence(error) or str(error)), None


def _unwritable(data: Path) -> Iterator[str]:
    """Names of the program's own files and folders in the data folder that it may not change."""
    for place in entries(data):
        is_weight = place.name.casefold() in WEIGHT_FOLDERS
        if is_own_name(place.name) and not is_weight and not _may(place, os.W_OK):
            yield place.name


def _other_owner(ledger: Path) -> str:
    """Name of the user that owns the ledger; "" if it is this one, or if there is no ledger."""
    if sys.platform == "win32":
        return ""
    try:
        owner = ledger.stat().st_uid
    except OSError:
        return ""
    return "" if owner == os.getuid() else name_of_user(owner)


def daemons(config: Config, look: Look) -> tuple[str, ...]:
    """Sentences about daemons that work on these folders now."""
    if look(config.data).is_silent:
        return ()
    try:
        return tuple(remark["text"] for remark in obstacles.of_daemons(config, look))
    except OSError as error:
        return (f"it cannot be told if a daemon works on {config.data}: {sentence(error)}",)


# --- models ---


def models(config: Config, look: Look) -> tuple[ModelFiles, ...]:
    """Facts about the files of all configured models.

    The headers of a folder's checkpoints are read if a pipeline names the checkpoint: a folder may
    hold thousands.
    """
    look = cache(look)  # models lie in few folders, and each look reads the table of mounts
    used = config.models_in_pipelines()
    facts = [
        _model(name, provider, look)
        if name in config.models.declared
        else replace(_model(name, provider, look, reads_headers=name in used), shares_memory=True)
        for name, provider in config.models.items()
    ]
    return (*facts, *_unclear(config.models, used))


def _unclear(models: Models, used: Collection[str]) -> Iterator[ModelFiles]:
    """Facts about a file in the place of the folder of checkpoints, and about names that pipelines
    use and that several checkpoints have."""
    folder = models.folder
    if folder is None or not folder.exists():
        return
    for name, text in models.problems(used).items():
        yield ModelFiles(name, str(folder), "diffusers", missing=text, can_be_pulled=False)


def _model(name: str, provider: Provider, look: Look, *, reads_headers: bool = True) -> ModelFiles:
    paths = provider.weight_paths
    facts = ModelFiles(
        name,
        str(paths[0]) if paths else "",
        provider.name_in_config,
        dtype=str(getattr(provider, "dtype", "auto")),
        needs_device=provider.needs_device,
    )
    silent = next((path.parent for path in paths if look(path.parent).is_silent), None)
    if silent is not None:
        return replace(facts, missing=f"{silent} does not answer")
    try:
        if (missing := provider.missing()) is not None:
            return replace(facts, missing=missing, can_be_pulled=PULL in missing)
        files = provider.weights()[1]
        facts = replace(facts, file_bytes=sum(file.stat().st_size for file in files))
        if not reads_headers:
            return facts
        why = provider.mismatch()
        mismatch = "" if why is None else f"{why}; {provider.way_to_replace()}"
        return replace(facts, mismatch=mismatch, elements=_elements(files))
    except OSError as error:
        return replace(facts, missing=sentence(error) or str(error))


def _elements(files: Iterable[Path]) -> int | None:
    """Number of values in the weights; None if a file does not say."""
    total = 0
    for file in files:
        if file.suffix in (".safetensors", ".ckpt"):
            shapes = read_header(file).tensors.values()
            if not shapes:
                return None
            total += sum(map(math.prod, shapes))
        elif file.suffix == ".onnx":
            return None
    return total or None


def receivers(config: Config, queries: Queries | None) -> tuple[tuple[str, str], ...]:
    """Give the receivers of notifications by name, each with its problem, or ""."""
    from dna_pipeline.operations.receivers import of_config

    problems = dict(of_config(config, queries))
    return tuple((each.name, problems.get(each.name, "")) for each in config.receivers)
