"""The messages to systemd, read from a real socket as systemd reads them."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from dna_pipeline.operations.daemon import service_manager
from dna_pipeline.operations.daemon.service_manager import ServiceManager, status_line

if sys.platform == "win32":
    pytest.skip("systemd is Linux's", allow_module_level=True)

RUNNING = {
    "running": {"name": "chair.png", "stage": "img2img", "fraction": 0.62},
    "queue": {"queued": {"photos": 11, "submit": 1}, "running": {"photos": 1}},
    "holds": [{"code": "disk_full", "jobs": 3}, {"code": "weights_missing", "jobs": 2}],
}


class Systemd:
    """The receiving end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(5)

    def read(self) -> str:
        return self.socket.recv(4096).decode()

    def is_silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(5)
        return False


@pytest.fixture(params=["path", "abstract"])
def systemd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Systemd]:
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    name = str(tmp_path / "notify") if request.param == "path" else f"@dna-{secrets.token_hex(8)}"
    ended = Systemd(name)
    yield ended
    ended.socket.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(service_manager.time, "monotonic", lambda: now[0])
    return now


def test_a_start_a_status_and_an_end(systemd: Systemd):
    manager = ServiceManager(systemd.address)
    manager.ready()
    assert systemd.read() == "READY=1"
    manager.show(RUNNING)
    assert systemd.read() == (
        "STATUS=chair.png: img2img 62%; 12 jobs waiting; held: disk_full, weights_missing"
    )
    manager.stopping()
    assert systemd.read() == "STOPPING=1"


def test_signs_of_life_come_four_times_within_the_limit(systemd: Systemd, clock: list[float]):
    manager = ServiceManager(systemd.address, 180.0)
    sent: list[float] = []
    for second in range(1000, 1180):
        clock[0] = float(second)
        manager.alive()
        if not systemd.is_silent():
            sent.append(clock[0])
    assert sent == [1000, 1045, 1090, 1135]


def test_no_sign_of_life_is_sent_where_none_is_expected(systemd: Systemd):
    ServiceManager(systemd.address).alive()
    assert systemd.is_silent()


def test_a_status_is_sent_only_when_it_changes(systemd: Systemd, clock: list[float]):
    manager = ServiceManager(systemd.address)
    fields: dict[str, Any] = {"queue": {"queued": {"photos": 1}}}
    manager.show(fields)
    assert systemd.read() == "STATUS=1 job waiting"
    clock[0] += 10
    manager.show(fields)
    assert systemd.is_silent()
    clock[0] += 10
    manager.show({})
    assert systemd.read() == "STATUS=no jobs"
    clock[0] += 0.5
    manager.show(fields)
    assert systemd.is_silent(), "at most once in two seconds"


def test_an_observer_of_the_status_gets_it_too(systemd: Systemd):
    seen: list[dict[str, Any]] = []
    ServiceManager(systemd.address).shown_beside(seen.append)({"queue": {}})
    assert seen == [{"queue": {}}]
    assert systemd.read() == "STATUS=no jobs"


def test_a_name_cannot_make_a_message_of_its_own():
    line = status_line({"running": {"name": "a\nREADY=1\nMAINPID=1.png", "stage": None}})
    assert line == "a\\x0aREADY=1\\x0aMAINPID=1.png: starting"
    assert len(status_line({"running": {"name": "x" * 999, "stage": None}})) == 200


def test_names_that_are_not_utf8_are_sent_as_escapes(systemd: Systemd):
    ServiceManager(systemd.address).show({"running": {"name": "\udcff.png", "stage": "triposr"}})
    assert systemd.read() == "STATUS=\\xdcff.png: triposr"


def test_the_environment_is_read_and_not_left_to_children(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, clock: list[float]
):
    enabled: list[bool] = []
    monkeypatch.setattr(service_manager.faulthandler, "enable", lambda: enabled.append(True))
    env = {
        "NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "4000000",
        "WATCHDOG_PID": str(os.getpid()), "HOME": "/",
    }  # fmt: skip
    manager = ServiceManager.from_environment(env)
    assert env == {"HOME": "/"}
    assert enabled == [True]
    manager.alive()
    assert systemd.read() == "WATCHDOG=1"
    clock[0] += 0.9
    manager.alive()
    assert systemd.is_silent()
    clock[0] += 0.2
    manager.alive()
    assert systemd.read() == "WATCHDOG=1"


@pytest.mark.parametrize(
    "variables",
    [{"WATCHDOG_USEC": "nonsense"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {}],
)
def test_a_watchdog_of_another_process_is_not_fed(systemd: Systemd, variables: dict[str, str]):
    ServiceManager.from_environment({"NOTIFY_SOCKET": systemd.address} | variables).alive()
    assert systemd.is_silent()


@pytest.mark.parametrize("variables", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_systemd_nothing_is_sent(variables: dict[str, str]):
    with structlog.testing.capture_logs() as logs:
        manager = ServiceManager.from_environment(dict(variables))
        manager.ready()
        manager.show(RUNNING)
        manager.alive()
        manager.stopping()
    assert logs == []


@pytest.mark.parametrize("address", ["/nowhere/notify", "/" + "x" * 200])
def test_a_socket_that_is_gone_is_said_once(address: str):
    manager = ServiceManager(address)
    with structlog.testing.capture_logs() as logs:
        manager.ready()
        manager.stopping()
    assert [entry["event"] for entry in logs] == ["service_manager.unreachable"]


def test_a_socket_that_nobody_reads_does_not_hold_the_daemon(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service_manager, "SEND_LIMIT_S", 0.01)
    manager = ServiceManager(systemd.address)

    def fill() -> None:
        for _ in range(30):  # more than the system queues for a socket of datagrams
            manager.stopping()

    with structlog.testing.capture_logs() as logs:
        filling = threading.Thread(target=fill)
        filling.start()
        filling.join(20)
    assert not filling.is_alive()
    assert len(logs) <= 1
