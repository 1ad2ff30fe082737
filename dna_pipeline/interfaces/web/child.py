"""The server as a child process of the daemon; `operations/daemon/server_process.py` starts it.

It gets one message on standard input, with the path of pipeline.yaml (`config`) and the options
`host`, `port` and `token_file`. It ends when the pipe closes, as it does when the daemon ends.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import IO

from dna_pipeline.base import ipc, logs
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.web.server import Options, Server
from dna_pipeline.operations import configuration
from dna_pipeline.operations.lookup import sentence


def main() -> None:
    """Serve until standard input closes."""
    inbound, outbound = ipc.claim_stdio()
    logs.configure_child()
    message = next(ipc.messages(inbound), None)
    if message is None:
        return
    try:
        server = _server(message)
    except (ConfigError, OSError) as error:
        outbound.send({"problem": sentence(error) or str(error)})
        return
    threading.Thread(target=_wait_for_end, args=(inbound, server), daemon=True).start()
    server.run(lambda: outbound.send({"url": server.url, "warnings": server.warnings}))


def _server(message: ipc.Message) -> Server:
    config = configuration.load(Path(message["config"]))
    logs.configure(config.logs, console=False, file=logs.server_log_file(config.logs))
    logs.pass_errors_on()
    token_file = message["token_file"]
    file = None if token_file is None else Path(token_file)
    return Server(config, Options(message["host"], message["port"], file))


def _wait_for_end(inbound: IO[bytes], server: Server) -> None:
    while inbound.read(1 << 10):
        pass
    server.stop()


if __name__ == "__main__":
    main()
