"""Checks of the folders: their disks, their file systems, the rights to them, and their watches."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from dna_pipeline.base.filesystem import IN_MEMORY
from dna_pipeline.base.quantities import number_of, size
from dna_pipeline.operations.doctor.facts import Folder, Machine
from dna_pipeline.operations.doctor.findings import Finding

LITTLE_BYTES = 2 << 30
"""Free space below which a warning is given."""

FEW_NEW_FILES = 1000
"""Number of files that a disk must have room for."""

_FILES_IN_THE_WAY = ("is no folder", os.strerror(errno.ENOTDIR))
"""Refusals that no right to a folder can mend."""

_USES = {"write": "written", "move": "changed, so no file can be taken out of it", "read": "read"}


def folders(machine: Machine) -> Iterator[Finding]:
    """Check each folder: it answers, it may be used, and there is room."""
    for folder in machine.folders:
        yield _folder(machine, folder)


def _folder(machine: Machine, folder: Folder) -> Finding:
    finding = _unusable(machine, folder) or _no_room(machine, folder) or _remarkable(folder)
    return finding or Finding("folder", "ok", _description(folder), subject=folder.role)


def _description(folder: Folder) -> str:
    parts = [folder.path]
    if folder.state == "missing":
        parts.append("will be made")
    if folder.kind:
        parts.append(folder.kind)
    if folder.free_bytes is not None:
        parts.append(f"{size(folder.free_bytes)} free")
    return ", ".join(parts)


def _unusable(machine: Machine, folder: Folder) -> Finding | None:
    """A fault if the folder cannot be used at all."""
    if folder.state == "silent":
        hint = "see if its server or disk is there; mount it again, or unmount it with umount -l"
        return Finding("folder", "fault", f"{folder.path} {folder.why}", hint, folder.role)
    if folder.problem:
        value, _, hint = folder.problem.partition("; ")
        return Finding("folder", "fault", value, hint or "mend the path", folder.role)
    if folder.refusal in _FILES_IN_THE_WAY:
        value = f"{folder.path} cannot be made: a file is in its place, or on the way to it"
        hint = "move the file away, or name another folder in pipeline.yaml"
        return Finding("folder", "fault", value, hint, folder.role)
    if folder.refusal:
        value = f"{folder.path} cannot be {_USES[folder.use]}: {folder.refusal}"
        return Finding("folder", "fault", value, _right_hint(machine, folder), folder.role)
    return None


def _right_hint(machine: Machine, folder: Folder) -> str:
    if "read-only" in folder.refusal.casefold():
        return "mount its disk for writing (mount -o remount,rw), or name another folder"
    if "space" in folder.refusal.casefold() or "quota" in folder.refusal.casefold():
        return "make room there, or raise the quota"
    user = machine.user or "this user"
    return f"give {user} the right (chown or chmod), or run as the user whom it belongs to"


def _no_room(machine: Machine, folder: Folder) -> Finding | None:
    """A fault or a warning if the disk is full, or nearly so."""
    free, needed = folder.free_bytes, machine.demand.disk_bytes
    if folder.use == "read":
        return None
    if folder.role == "temporary":
        needed = 64 << 20
    hint = "make room on that disk; jobs that wait for it go on by themselves"
    if free is not None and folder.use == "write" and free < needed:
        value = f"{_description(folder)}, and a job may need {size(needed)}"
        return Finding("folder", "fault", value, hint, folder.role)
    if folder.free_files is not None and folder.free_files < FEW_NEW_FILES:
        value = f"{folder.path}: its disk has room for {number_of(folder.free_files, 'more file')}"
        return Finding("folder", "fault", value, f"remove files (df -i); {hint}", folder.role)
    if free is not None and folder.use == "write" and free < LITTLE_BYTES:
        return Finding("folder", "warning", _description(folder), hint, folder.role)
    return None


def _remarkable(folder: Folder) -> Finding | None:
    """A finding if the kind of file system has consequences."""
    value = _description(folder)
    if folder.role == "data" and folder.is_network:
        hint = (
            "SQLite may damage the ledger on a network share: let paths.data or $DNA_DATA_DIR name "
            "a folder on a disk of this machine; models may stay on the share"
        )
        return Finding("folder", "fault", f"{value}: a network share", hint, folder.role)
    if folder.role in ("data", "outbox") and folder.kind in IN_MEMORY:
        hint = "name a folder on a disk: this one is in memory and gone after a restart"
        return Finding("folder", "warning", value, hint, folder.role)
    if not folder.is_network:
        return None
    if folder.watch == "native":
        hint = "set watch: auto or poll for it; until then files are found by rescans only"
        value += ": a network share sends no events of other machines"
        return Finding("folder", "warning", value, hint, folder.role)
    if folder.watch:
        hint = "nothing to do: it is polled, since a share sends no events of other machines"
    else:
        hint = "nothing to do: jobs wait while the share is away"
    return Finding("folder", "note", f"{value}: a network share", hint, folder.role)


def watches(machine: Machine) -> Iterator[Finding]:
    """Check that inboxes can be watched by events of the file system."""
    trial, limit = machine.watch, machine.max_user_watches
    instances = machine.max_user_instances
    if trial.problem:
        hint = "inboxes are polled until then"
        if instances is not None:
            hint = f"{_sysctl('max_user_instances', instances)}; {hint}"
        yield Finding("watches", "warning", f"no folder can be watched: {trial.problem}", hint)
        return
    native = [f for f in machine.folders if f.watch in ("auto", "native") and not f.is_network]
    needed = sum(1 if f.subfolders is None else f.subfolders for f in native)
    if limit is None:
        yield Finding("watches", "ok", "by events of the system")
    elif needed > limit:
        value = f"the inboxes have {needed:,} folders, and {limit:,} can be watched"
        hint = f"{_sysctl('max_user_watches', needed)}; such inboxes are polled until then"
        yield Finding("watches", "warning", value, hint)
    else:
        value = f"by events of the system; {number_of(needed, 'folder')} of at most {limit:,}"
        yield Finding("watches", "ok", value)


def _sysctl(name: str, number: int) -> str:
    """The command that raises a limit of inotify to twice the number at least."""
    value = max(1 << (2 * number - 1).bit_length(), 256)
    setting = f"fs.inotify.{name}={value}"
    return f"sudo sysctl {setting} (in a file below /etc/sysctl.d to keep it)"
