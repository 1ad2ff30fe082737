"""Sockets that the server listens on."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

from dna_pipeline.interfaces.web.listening import listen, resolve


def test_no_part_of_an_answer_waits_for_the_receipt_of_the_one_before():
    """As seen at the connections that asyncio makes of these sockets."""

    async def nodelay() -> int:
        listening = listen("127.0.0.1", 0, resolve("127.0.0.1", 0))
        options: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connection = transport.get_extra_info("socket")
                options.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        server = await asyncio.get_running_loop().create_server(Protocol, sock=listening.sockets[0])
        with closing(server), socket.create_connection(("127.0.0.1", listening.port)):
            return await options

    assert asyncio.run(nodelay()) != 0
