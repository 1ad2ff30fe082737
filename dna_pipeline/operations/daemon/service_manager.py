"""Tells systemd how the daemon is: ready, at work on what, alive, stopping.

Each message is one datagram to the socket that `$NOTIFY_SOCKET` names; sd_notify(3) describes them.
Without that variable, as in a terminal or on other systems, nothing is sent.
"""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import structlog

from dna_pipeline.base.naming import visible
from dna_pipeline.base.periodic import Throttle
from dna_pipeline.base.quantities import number_of

log = structlog.get_logger()

SEND_LIMIT_S = 1.0
"""Time that one message may take where systemd does not read."""

WATCHDOG_SHARE = 4
"""The sign of life is sent so many times within the time that systemd waits for one."""

STATUS_INTERVAL_S = 2.0
STATUS_CHARS = 200

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """The service manager that started the daemon; none if `address` is None.

    An error of the socket is logged once and changes nothing else.

    Args:
        address: of the socket, as `$NOTIFY_SOCKET` has it: a path, or `@name` in the abstract
            namespace of Linux.
        watchdog_s: time without a sign of life after which systemd restarts the daemon; None if
            it waits for none.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = None if address is None else _socket_address(address)
        self._watchdog = None if watchdog_s is None else Throttle(watchdog_s / WATCHDOG_SHARE)
        self._status = Throttle(STATUS_INTERVAL_S)
        self._shown = ""
        self._has_failed = False

    @classmethod
    def from_environment(cls, env: MutableMapping[str, str] = os.environ) -> ServiceManager:
        """Read the variables that systemd sets, and remove them: they are not for children.

        Where systemd waits for signs of life, Python prints the stacks of all threads when it is
        aborted, so that the journal says where the loop hung.
        """
        address, watchdog_us, pid = (env.pop(name, None) for name in _VARIABLES)
        watchdog_s: float | None = None
        if address and pid in (None, str(os.getpid())):
            with suppress(TypeError, ValueError):
                watchdog_s = int(watchdog_us or "") / 1e6
        if watchdog_s is not None and sys.stderr is not None:  # type: ignore[reportUnnecessaryComparison]
            faulthandler.enable()
        return cls(address or None, watchdog_s)

    def ready(self) -> None:
        """Say that the daemon works now, which ends its start."""
        self._send("READY=1")

    def alive(self) -> None:
        """Say that the loop goes round, if that is due. Called by the loop itself and by no other
        thread, since systemd could not see otherwise that the loop hangs."""
        if self._watchdog is not None and self._watchdog.take(time.monotonic()):
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the daemon ends in order; from then on no sign of life is expected."""
        self._send("STOPPING=1")

    def show(self, fields: Mapping[str, Any]) -> None:
        """Have `systemctl status` show a line, made of the fields of status.json."""
        if self._address is None or not self._status.take(time.monotonic()):
            return
        if (text := status_line(fields)) != self._shown:
            self._shown = text
            self._send(f"STATUS={text}")

    def shown_beside(
        self, observe: Callable[[dict[str, Any]], None]
    ) -> Callable[[dict[str, Any]], None]:
        """An observer of the status that does what `observe` does, and `show`."""

        def both(fields: dict[str, Any]) -> None:
            observe(fields)
            self.show(fields)

        return both

    def _send(self, message: str) -> None:
        if self._address is None or sys.platform == "win32":
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_LIMIT_S)
                sender.sendto(message.encode("utf-8", "backslashreplace"), self._address)
        except OSError as error:
            if not self._has_failed:
                log.warning("service_manager.unreachable", why=str(error), message=message)
            self._has_failed = True


def status_line(fields: Mapping[str, Any]) -> str:
    """One line about the running job and the queue."""
    parts: list[str] = []
    if running := fields.get("running"):
        fraction = running.get("fraction")
        percent = "" if fraction is None else f" {fraction:.0%}"
        parts.append(f"{running['name']}: {running.get('stage') or 'starting'}{percent}")
    queue: Mapping[str, Mapping[str, int]] = fields.get("queue") or {}
    if queued := sum(queue.get("queued", {}).values()):
        parts.append(f"{number_of(queued, 'job')} waiting")
    if holds := fields.get("holds"):
        parts.append(f"held: {', '.join(sorted({hold['code'] for hold in holds}))}")
    # A line break would begin a message of its own.
    return visible("; ".join(parts) or "no jobs")[:STATUS_CHARS]


def _socket_address(address: str) -> bytes | None:
    """The address as the socket takes it; None if it is of another kind, such as vsock."""
    if address.startswith("@"):
        return b"\0" + os.fsencode(address[1:])
    return os.fsencode(address) if address.startswith("/") else None
