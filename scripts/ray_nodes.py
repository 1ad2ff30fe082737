"""A Ray cluster on this machine: several nodes, each a raylet with processes of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")
STORE_BYTES = 80_000_000
"""Memory of each node's object store, which is nearly the least that Ray takes."""


class RayNodes:
    """The nodes by their names; the first one is the head.

    Args:
        environment: of their processes, and so of the actors.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        # Sockets lie there, whose paths may have 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
        self._environment = environment | {"RAY_USAGE_STATS_ENABLED": "0"}
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._head = ""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.address = f"127.0.0.1:{server.getsockname()[1]}"

    def start(self, name: str, cpus: int = 1) -> None:
        """Start a node, and wait until its raylet runs."""
        port = self.address.rpartition(":")[2]
        head = ["--head", f"--port={port}", "--include-dashboard=false",
                f"--temp-dir={self.folder}"]  # fmt: skip
        self._head = self._head or name
        part = head if name == self._head else [f"--address={self.address}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *part, "--block",
                   f"--num-cpus={cpus}", f"--object-store-memory={STORE_BYTES}",
                   f"--node-name={name}", "--disable-usage-stats"]  # fmt: skip
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self._nodes[name] = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        wait(lambda: self.raylet(name), 60)

    def raylet(self, name: str) -> psutil.Process | None:
        return next((p for p in self._below(name) if name_of(p) == "raylet"), None)

    def actors(self, name: str) -> list[psutil.Process]:
        """The actors of the program on a node."""
        return [p for p in self._below(name) if "ray::Relay" in " ".join(command_of(p))]

    def workers(self, name: str, module: str) -> list[psutil.Process]:
        """The worker processes of the actors on a node."""
        return [
            child
            for actor in self.actors(name)
            for child in children(actor)
            if command_of(child)[-2:] == ["-m", module]
        ]

    def _below(self, name: str) -> list[psutil.Process]:
        try:
            return children(psutil.Process(self._nodes[name].pid))
        except psutil.NoSuchProcess:
            return []

    def kill_raylet(self, name: str) -> None:
        """Kill the raylet of a node, and wait until all of the node has ended."""
        before, raylet = self._below(name), self.raylet(name)
        assert raylet is not None
        raylet.kill()
        end(before)
        self._nodes[name].wait(30)

    def kill(self, name: str) -> None:
        """Kill all of a node at once, as when its machine loses power."""
        before, process = self._below(name), self._nodes[name]
        process.kill()
        end(before, wait_s=0)
        process.wait(30)

    def stop(self) -> None:
        """End all nodes at once."""
        for name, process in self._nodes.items():
            if process.poll() is None:
                self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)


def end(processes: list[psutil.Process], wait_s: float = 10) -> None:
    """Wait for the end of processes; kill those that are left."""
    _, left = psutil.wait_procs(processes, timeout=wait_s)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def wait(find: Callable[[], T | None], limit_s: float) -> T:
    """Wait until something is there."""
    deadline = time.monotonic() + limit_s
    while not (result := find()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it took more than {limit_s:g} s")
        time.sleep(0.05)
    return result


@contextmanager
def running_nodes(*names: str) -> Generator[RayNodes]:
    """A cluster with these nodes, each with one core."""
    scripts = Path(__file__).resolve().parent
    paths = [str(scripts), str(scripts.parent), os.environ.get("PYTHONPATH", "")]
    nodes = RayNodes(os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))})
    try:
        for name in names:
            nodes.start(name)
        yield nodes
    finally:
        nodes.stop()
