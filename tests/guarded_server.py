"""A server in this process with all checks that a real one has before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.access import Access
from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.interfaces.web.guard import Guard
from dna_pipeline.interfaces.web.names import ServerNames
from dna_pipeline.interfaces.web.site import Site


@contextmanager
def guarded(config: Config, token: str | None = None) -> Generator[str]:
    """Serve with all checks of a server while the block runs; gives the address."""
    access = Access(token, config.serve, is_loopback=True)
    app = Guard(
        make_app(Site(config), access), access, ServerNames("127.0.0.1"),
        max_body_mib=config.serve.max_upload_mib,
    )  # fmt: skip
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        wait_for(lambda: server.started)
        (socket,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def wait_for(predicate: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := predicate()):
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.02)
    return value
