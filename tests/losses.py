"""A connection that is lost at a chosen moment, between a client and a server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

ANSWER = "answer"
"""The request arrives whole, its answer does not."""
REQUEST = "request"
"""The connection is lost while the request is sent."""
PART = "part"
"""The connection is lost in the midst of the answer."""


class LossyRelay:
    """Passes connections on to a server, and loses those of `losses`, in their order.

    Attributes:
        address: of the relay, for the client.
        losses: kinds of the next losses; None lets a connection pass.
        part_bytes: size of the part of an answer that still comes.
        connections: how many there were.
    """

    def __init__(self, server: str) -> None:
        self._server = urlsplit(server)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.losses: list[str | None] = []
        self.part_bytes = 1000
        self.connections = 0

    def run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            loss = self.losses.pop(0) if self.losses else None
            threading.Thread(target=self._relay, args=(client, loss), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _relay(self, client: socket.socket, loss: str | None) -> None:
        there = (self._server.hostname or "", self._server.port or 0)
        with closing(client), closing(socket.create_connection(there)) as server:
            limit = 200 if loss == REQUEST else None
            up = threading.Thread(target=_copy, args=(client, server, limit), daemon=True)
            up.start()
            if loss == REQUEST:
                up.join(20)
            elif loss == ANSWER:
                server.recv(1)  # the server has answered
            else:
                _copy(server, client, self.part_bytes if loss == PART else None)
            # To close a socket that another thread reads would leave the connection open.
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    left = limit
    with suppress(OSError):
        while left is None or left > 0:
            data = source.recv(1 << 16 if left is None else min(left, 1 << 16))
            if not data:
                break
            target.sendall(data)
            left = None if left is None else left - len(data)


@contextmanager
def lossy(server: str) -> Iterator[LossyRelay]:
    """A relay to that server, until the block is left."""
    relay = LossyRelay(server)
    thread = threading.Thread(target=relay.run, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        relay.close()
        thread.join(5)
