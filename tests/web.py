"""The server of a site of the integration tests, in the process of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving import submissions


class MovingSite:
    """A site that is another one in each test, so that the application need not be made anew: that
    takes longer than most of the tests."""

    current: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)

    @property
    def hide(self) -> Any:
        return _MovingHider(self)


class _MovingHider:
    def __init__(self, site: MovingSite) -> None:
        self._site = site

    def __call__(self, text: str) -> str:
        return self._site.current.hide(text)

    def below_folders(self, text: str) -> str:
        return self._site.current.hide.below_folders(text)


SITE = MovingSite()


@cache
def moving_app() -> Any:
    """The application of `SITE`, which has to be one when this is first called."""
    return make_app(SITE)  # pyright: ignore[reportArgumentType]


@contextmanager
def client_of(
    config: Config, monkeypatch: pytest.MonkeyPatch | None = None, prober: Any = None
) -> Iterator[TestClient]:
    """A client of a server on that configuration; `prober` takes the place of the child processes
    that decode."""
    if monkeypatch is not None:
        monkeypatch.setattr(submissions, "Prober", prober)
    SITE.current = Site(config)
    with TestClient(moving_app(), base_url="http://127.0.0.1:8000") as client:
        yield client


@contextmanager
def server_of(
    config: Config, tell: Callable[[Site], object] = lambda _: None, **options: Any
) -> Iterator[str]:
    """The address of a server that listens on a free port of this machine.

    Args:
        tell: gets its site.
        options: those of uvicorn, such as `ssl_certfile`.
    """
    site = Site(config)
    tell(site)
    served = uvicorn.Config(
        make_app(site), host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1,
        **options,
    )  # fmt: skip
    server = uvicorn.Server(served)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until, "the server does not start"
        time.sleep(0.005)
    try:
        scheme = "https" if options else "http"
        yield f"{scheme}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
