"""The process between the daemon and Ray: the driver, in Ray's words.

A driver ends with its raylet or with the head of the cluster, whatever it was about to do. So it is
a process of its own: the daemon outlives it, and starts another. All actors end with it, and it
ends with the daemon's pipe.

It reads its settings and then messages for workers from its standard input, and writes what happens
to them to its original standard output:

    in   worker, epoch, and one of  order · task · cancel · rest;  or  close
    out  worker, epoch, and one of  node · absent · draining · room · event;  or  beat
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dna_pipeline.base import ipc
from dna_pipeline.base.files import remove_tree, write_bytes
from dna_pipeline.base.layout import ATTEMPTS
from dna_pipeline.base.logs import configure_child
from dna_pipeline.execution.cluster import api
from dna_pipeline.execution.cluster.carrier import Actor, Carrier
from dna_pipeline.execution.cluster.link import Link
from dna_pipeline.execution.cluster.relay import EVENTS, Relay

BEAT_S = 2.0
LOCK = "ray.lock"
"""Name of the lock of the only such process, in the data folder."""


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """Settings that the process receives once.

    Attributes:
        address: of the cluster, as for `api.connect`.
        transfers: files are carried through Ray, since nodes do not see the data folder.
        module: of the worker processes.
        workers: the settings of each worker, as plain values, by its name.
        data: the data folder.
    """

    address: str
    transfers: bool
    module: str
    data: str
    workers: dict[str, dict[str, Any]]


class RayCluster:
    """The cluster, as the links see it."""

    def __init__(self, settings: BridgeSettings, witness: str) -> None:
        self._settings = settings
        self._witness = witness
        self._names: dict[str, str] = {}
        self._draining: frozenset[str] = frozenset()

    def make_actor(self, worker: str, process: str) -> Actor:
        settings = self._settings.workers[worker]
        arguments = (settings, process, self._settings.module, self._witness)
        return api.Actor(Relay, arguments, _needs(settings), (EVENTS,))

    def result(self, reference: Any, timeout_s: float) -> Any:
        return api.result(reference, timeout_s)

    def node_name(self, node: str) -> str:
        if node not in self._names:
            self._names |= {each.id: each.name for each in api.nodes()}
        return self._names.get(node, node[:8])

    def is_draining(self, node: str) -> bool:
        return node in self._draining

    def look(self) -> None:
        """Find out which nodes are about to leave. Raises `Lost`."""
        self._draining = api.draining()


def _needs(settings: dict[str, Any]) -> api.Needs:
    """The part of a node that a worker takes: a card, or as many cores as it has threads."""
    if str(settings["device"]).startswith("cuda"):
        return api.Needs(cpus=0, gpus=1)
    return api.Needs(cpus=settings["threads"] or 1, gpus=0)


class Bridge:
    """Relays between the daemon and the workers.

    Args:
        out: the daemon's end of the pipe.
    """

    def __init__(self, settings: BridgeSettings, out: ipc.LineWriter) -> None:
        self._out = out
        attempts = Path(settings.data, ATTEMPTS)
        self._cluster = RayCluster(settings, _prepare(attempts, settings))
        carrier = Carrier(None if settings.transfers else attempts)
        self._links = {
            name: Link(name, self._cluster, carrier, self._say) for name in settings.workers
        }

    def _say(self, message: ipc.Message) -> None:
        try:
            self._out.send(message)
        except (OSError, ValueError):
            os._exit(0)  # the daemon has ended

    def start(self) -> None:
        """Begin to look for places for all workers."""
        for link in self._links.values():
            link.start()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def _beat(self) -> None:
        while True:
            with suppress(api.Lost):
                self._cluster.look()
            self._say({"beat": True})
            time.sleep(BEAT_S)

    def take(self, message: ipc.Message) -> None:
        """Take a message of the daemon."""
        if "close" in message:
            self._close(message["close"])
        else:
            self._links[message["worker"]].put(message)

    def _close(self, grace_s: float) -> None:
        """End all workers at the same time, then this process."""
        threads = [
            threading.Thread(target=link.close, args=(grace_s,)) for link in self._links.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(grace_s)
        os._exit(0)


def _prepare(attempts: Path, settings: BridgeSettings) -> str:
    """Empty the folder of attempts: those of an earlier process are of no use. Leave a file there
    that nodes must see if they share it; its path, or "" with `work_dir: transfer`."""
    if settings.transfers:
        return ""
    if attempts.is_dir():
        for path in attempts.iterdir():
            if path.is_dir():
                remove_tree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    attempts.mkdir(parents=True, exist_ok=True)
    witness = attempts / f"{secrets.token_hex(8)}.seen"
    write_bytes(witness, b"Nodes that see this file share the data folder.\n")
    return str(witness)


def main() -> None:
    """Entry point of the process."""
    from filelock import FileLock

    inbound, out = ipc.claim_stdio()
    configure_child()
    received = ipc.messages(inbound)
    settings = BridgeSettings(**next(received))
    # The process of a daemon that was killed may still write the files of a stage.
    with FileLock(Path(settings.data, LOCK)):
        try:
            api.connect(settings.address)
        except api.Lost as error:
            print(f"no Ray cluster answers at {settings.address}: {error}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)
        bridge = Bridge(settings, out)
        bridge.start()
        for message in received:
            bridge.take(message)
        os._exit(0)


if __name__ == "__main__":
    main()
