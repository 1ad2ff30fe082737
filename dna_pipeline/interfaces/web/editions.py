"""The application as pipeline.yaml is now, and as it was for requests that began before an edit.

It takes the place of the lifespan that uvicorn would run, since each edition has its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from starlette.types import Receive, Scope, Send

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.access import Access
from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.interfaces.web.guard import Guard
from dna_pipeline.interfaces.web.names import ServerNames
from dna_pipeline.interfaces.web.site import Site

log = structlog.get_logger()

CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Door:
    """The part that an edit of pipeline.yaml does not change.

    Attributes:
        host: the address that people told the server to listen on.
        is_loopback: True if no other machine reaches it.
        token: None: none is set.
        origins: those that may use the server beside its own.
    """

    host: str
    is_loopback: bool
    token: str | None
    origins: tuple[str, ...] = ()
    most_streams: int = 2000

    def check(self, config: Config) -> None:
        """Raise `ConfigError` if nobody could come in, or if everybody could."""
        if self.is_loopback or self.token is not None or config.serve.networks:
            return
        raise ConfigError(
            f"--host {self.host}: other machines reach this address, so set a token (--token-file, "
            "or $DNA_SERVE_TOKEN), or say in pipeline.yaml who needs none: "
            "serve: {networks: [192.168.1.0/24]}"
        )


class Edition:
    """The application by one configuration."""

    def __init__(self, config: Config, door: Door) -> None:
        self.site = Site(config)
        spec = config.serve
        access = Access(door.token, spec, is_loopback=door.is_loopback)
        app = make_app(self.site, access)
        self._lifespan = app.router.lifespan_context(app)
        self.guard = Guard(
            app,
            access,
            ServerNames(door.host, spec.hosts, door.origins),
            max_body_mib=spec.max_upload_mib,
            most_streams=door.most_streams,
        )
        self.requests = 0
        """Number of requests that are being answered."""

    async def open(self) -> None:
        """Begin what the application does before its first request."""
        await self._lifespan.__aenter__()

    async def close(self) -> None:
        """Close what the application has open. May wait for files, for five seconds at most."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._lifespan.__aexit__(None, None, None)
        except Exception:  # of a ledger on a dead disk, say; it ends with the process
            log.exception("site.not_closed")


class Editions:
    """Answers each request by the newest configuration. One that has begun ends as it began, so
    that an edit cuts off nobody.

    Raises:
        ConfigError: as `Door.check` raises it.
    """

    def __init__(self, config: Config, door: Door) -> None:
        door.check(config)
        self._door = door
        self._current = Edition(config, door)
        self._before: set[Edition] = set()

    @property
    def config(self) -> Config:
        """The newest configuration."""
        return self._current.site.config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        edition = self._current
        edition.requests += 1
        try:
            await edition.guard(scope, receive, send)
        finally:
            edition.requests -= 1
            if edition is not self._current and not edition.requests:
                self._before.discard(edition)
                await edition.close()

    async def open(self) -> None:
        """Begin what the application does before its first request."""
        await self._current.open()

    async def replace(self, config: Config) -> None:
        """Answer by this configuration from now on. Raises `ConfigError` as `Door.check` does."""
        self._door.check(config)
        new = Edition(config, self._door)
        await new.open()
        old, self._current = self._current, new
        if old.requests:
            self._before.add(old)
        else:
            await old.close()

    def end(self) -> None:
        """Have all requests end soon. Called by the event loop."""
        for edition in (self._current, *self._before):
            edition.guard.end()

    async def close(self) -> None:
        """Close all that is open, as `Edition.close`."""
        for edition in (self._current, *self._before):
            await edition.close()
