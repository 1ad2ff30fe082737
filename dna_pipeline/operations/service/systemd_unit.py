"""The unit file of systemd for a site; see systemd.service(5) and systemd.syntax(7)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dna_pipeline.operations.service.site import Site
from dna_pipeline.operations.service.system import MARK

WATCHDOG_S = 180
"""Time without a sign of life after which systemd restarts the daemon. One round of the loop takes
milliseconds, and some seconds where the ledger is huge or its disk is full."""

RESTART_S = 10
STOP_S = 30
"""Time for an end in order. The daemon needs ten seconds at the most; then it is killed, and loses
nothing."""

_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./=+,-]+")
_UNFIT_FOR_PROGRAMS = frozenset("$\"'\\")

GPU_HELPER = "nvidia-modprobe"
"""Program by which CUDA makes the device files of a GPU. It has to become root for that."""


def unit_text(site: Site, *, user: str | None, gpu_helper: str | None) -> str:
    """Content of the unit file.

    Args:
        user: name of the person whom the daemon of the system runs as; None for a service in a
            person's own manager.
        gpu_helper: path of `nvidia-modprobe`; None if the machine has none.
    """
    lines = [
        f"# {MARK}, which replaces it.",
        "# Changes of yours belong beside it: `systemctl edit` makes such a file.",
        "",
        "[Unit]",
        *_unit(site, is_system=user is not None),
        "",
        "[Service]",
        *_service(site, user),
        "",
        *_hardening(user, gpu_helper),
        "",
        "[Install]",
        f"WantedBy={'default' if user is None else 'multi-user'}.target",
    ]
    return "\n".join(lines) + "\n"


def _unit(site: Site, *, is_system: bool) -> Iterator[str]:
    # In brackets, since a backslash at the end would continue the line.
    yield f"Description=dna-pipeline ({specifiers_escaped(str(site.config.parent))})"
    # On a disk that is not mounted yet, the daemon would begin a new ledger.
    places = dict.fromkeys((str(site.config.parent), str(site.data)))
    yield f"RequiresMountsFor={' '.join(map(quoted, places))}"
    if is_system:
        yield "Wants=network-online.target"
        yield "After=network-online.target remote-fs.target"
    # What is wrong with the machine may take long to mend, and the daemon has to go on then.
    yield "StartLimitIntervalSec=0"


def _service(site: Site, user: str | None) -> Iterator[str]:
    yield "Type=notify"
    yield f"ExecStart={command_line(site.command)}"
    for name, value in site.variables.items():
        yield f"Environment={quoted(f'{name}={value}')}"
    if user is not None:
        yield f"User={specifiers_escaped(user)}"
    yield "Restart=on-failure"
    yield f"RestartSec={RESTART_S}"
    yield f"WatchdogSec={WATCHDOG_S}"
    yield "# A ledger that was not closed in order is checked first, however long that takes."
    yield "TimeoutStartSec=infinity"
    yield f"TimeoutStopSec={STOP_S}"
    yield "# The daemon ends its worker itself, and goes on if that runs out of memory."
    yield "KillMode=mixed"
    yield "OOMPolicy=continue"
    yield "LimitCORE=0"


def _hardening(user: str | None, gpu_helper: str | None) -> Iterator[str]:
    """Restrictions that need no mount namespace, since folders that are mounted or unmounted later
    have to be seen. RestrictSUIDSGID is left out, since shared folders have the set-group-ID bit,
    and MemoryDenyWriteExecute, since CUDA and PyTorch make code."""
    if gpu_helper is not None and user is None:
        yield f"# {GPU_HELPER} becomes root to make the device files of the GPU; restrictions"
        yield "# that a person's service may have would forbid that."
        return
    if gpu_helper is not None:
        yield "# What follows would keep CUDA from making the device files of the GPU."
        yield f"ExecStartPre=-+{command_line((gpu_helper, '-u', '-c=0'))}"
    yield "NoNewPrivileges=yes"
    yield "LockPersonality=yes"
    yield "RestrictRealtime=yes"
    yield "RestrictNamespaces=yes"
    yield "SystemCallArchitectures=native"
    if user not in (None, "root"):
        yield "CapabilityBoundingSet="


def command_line(command: tuple[str, ...]) -> str:
    """A command as ExecStart takes it: blanks, quotes, `%`, `$` and backslashes as they are.

    systemd takes no quotes and no backslash in the program's path, and replaces `$` in some of its
    uses. A shell then starts the program, and becomes it.
    """
    program, *arguments = command
    if _UNFIT_FOR_PROGRAMS & set(program):
        program, arguments = "/bin/sh", ["-c", 'exec "$0" "$@"', program, *arguments]
    words = [_word(word).replace("$", "$$") for word in arguments]
    return " ".join([_word(program), *words])


def _word(text: str) -> str:
    return text if _PLAIN_WORD.fullmatch(text) else quoted(text)


def quoted(text: str) -> str:
    """A word in double quotes, with what systemd would replace in it escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{specifiers_escaped(escaped)}"'


def specifiers_escaped(text: str) -> str:
    """Text in which `%` means itself."""
    return text.replace("%", "%%")
