"""Checks of Python, the clock, the locale, and limits of the system."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from dna_pipeline.base.clock import to_second
from dna_pipeline.operations.doctor.facts import Machine
from dna_pipeline.operations.doctor.findings import Finding
from dna_pipeline.operations.lookup import ONLY_ASCII_NAMES

OLDEST_PYTHON = (3, 11)

EARLIEST = datetime(2026, 11, 1, tzinfo=UTC)
"""A time before which this version did not exist."""

SKEW = timedelta(minutes=5)
"""Time by which the ledger may be ahead: its disk may have been in another machine."""

FEW_FILES = 40
"""Limit of open files below which the daemon cannot work: with 32 it just does, for one inbox."""

ENOUGH_FILES = 256
"""Limit of open files below which many inboxes or large batches may reach it."""


def python(machine: Machine) -> Iterator[Finding]:
    """Check Python's version."""
    version = ".".join(map(str, machine.python))
    value = f"{version}, {machine.bits} bits, {machine.platform}"
    if machine.python < OLDEST_PYTHON:
        hint = "install Python 3.11 or newer, and run scripts/demo.py with it"
        yield Finding("python", "fault", value, hint)
    elif machine.bits < 64:
        hint = "install Python for 64 bits: models need more memory than 32 bits can address"
        yield Finding("python", "fault", value, hint)
    else:
        yield Finding("python", "ok", value)


def clock(machine: Machine) -> Iterator[Finding]:
    """Check that the time is plausible, and that time zones are known."""
    clock = machine.clock
    value = f"{to_second(clock.now)} {clock.zone}".strip()
    last = machine.ledger.last_event if machine.ledger else None
    set_it = "set the clock (Linux: timedatectl set-ntp true), then start the daemon again"
    if clock.now < EARLIEST:
        yield Finding("clock", "warning", f"{value} is before this program was written", set_it)
    elif last is not None and clock.now + SKEW < last:
        value += f" is before the ledger's last event, {to_second(last)}"
        yield Finding("clock", "warning", value, f"{set_it}; not_before and hours go by it")
    elif not clock.is_tz_valid:
        value = f"{value}; TZ={clock.tz} names no zone, so UTC is taken for the local time"
        yield Finding("clock", "warning", value, "let TZ name one like Europe/Berlin, or unset it")
    elif not clock.has_zones:
        value += "; this machine has no list of time zones, which `hours` with a zone need"
        yield Finding("clock", "warning", value, "pip install tzdata")
    else:
        yield Finding("clock", "ok", value)


def open_files(machine: Machine) -> Iterator[Finding]:
    """Check the limit of open files."""
    limit = machine.open_files
    if limit is None:
        return
    value = f"at most {limit:,} at once"
    hint = "raise the limit: ulimit -n 1024 in the shell, LimitNOFILE=1024 in a systemd unit"
    if limit < FEW_FILES:
        value += f"; the daemon needs {FEW_FILES} or more"
        yield Finding("open files", "fault", value, hint)
    elif limit < ENOUGH_FILES:
        yield Finding("open files", "warning", f"{value}, which is few", hint)
    else:
        yield Finding("open files", "ok", value)


def locale(machine: Machine) -> Iterator[Finding]:
    """Check that names of files can be written, and shown."""
    if not machine.is_utf8:
        why, _, hint = ONLY_ASCII_NAMES.partition("; ")
        yield Finding("locale", "fault", why, hint)
    elif machine.encoding.lower().replace("-", "").startswith("utf"):
        yield Finding("locale", "ok", "names of files in UTF-8")
    else:
        value = f"the terminal shows {machine.encoding}; other letters are shown as escapes"
        yield Finding(
            "locale", "note", value, "nothing to do; PYTHONUTF8=1 where the terminal shows more"
        )
