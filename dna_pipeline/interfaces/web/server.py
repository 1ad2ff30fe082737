"""Listens on a port and serves the application there."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import socket
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette import formparsers

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.web.access import is_readable_by_others, read_token
from dna_pipeline.interfaces.web.connection import IDLE_S, Connection
from dna_pipeline.interfaces.web.editions import Door, Editions
from dna_pipeline.interfaces.web.guard import MOST_STREAMS
from dna_pipeline.interfaces.web.listening import (
    Certificate,
    is_loopback,
    listen,
    raise_file_limit,
    resolve,
)
from dna_pipeline.interfaces.web.names import read_origins
from dna_pipeline.operations import configuration
from dna_pipeline.operations.daemon.config_watch import ConfigWatch
from dna_pipeline.operations.daemon.takeover import BY_RESTART, changed_keys
from dna_pipeline.operations.serving.addresses import announced

log = structlog.get_logger()

END_S = 5
"""Time after which requests are cut off that have not ended when the server ends."""
FOLLOW_TICKS = 10
"""Number of uvicorn's ticks, of a tenth of a second each, between two looks at files."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line.

    Attributes:
        port: 0: any free one.
        token_file: its first line is the token; None: `$DNA_SERVE_TOKEN`, if that is set.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None


class Server:
    """The server of one data folder; it listens already, and answers while `run` runs.

    Attributes:
        url: the address for a browser.
        warnings: sentences for people.

    Raises:
        ConfigError: it cannot listen there, or everybody could come in.
    """

    def __init__(self, config: Config, options: Options) -> None:
        token = read_token(options.token_file)
        addresses = resolve(options.host, options.port)
        most = raise_file_limit()
        door = Door(
            options.host,
            is_loopback(addresses),
            token,
            tuple(read_origins(has_token=token is not None)),
            min(MOST_STREAMS, most // 2),
        )
        door.check(config)
        certificate = _certificate(config)
        self._listening = listen(options.host, options.port, addresses)
        self._data = config.data
        self._has_token = token is not None
        self._server = _Uvicorn(Editions(config, door), certificate, most)
        self.url = self._listening.url(is_https=certificate is not None)
        self.warnings = _warnings(options)

    def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Answer requests until a signal or `stop`. Meanwhile the data folder says where.

        Args:
            started: called when the first request can be answered.
        """

        def announce() -> None:
            announcement.enter_context(announced(self._data, self.url, has_token=self._has_token))
            started()

        self._server.started_callback = announce
        try:
            with _uploads_kept_in(self._data / "uploads"), ExitStack() as announcement:
                self._server.run(sockets=self._listening.sockets)
        finally:
            self._listening.close()

    def stop(self) -> None:
        """End `run` within a few seconds. Safe to call from any thread."""
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """uvicorn, with the ends of this server: streams end at once, and a signal is no error."""

    def __init__(
        self, editions: Editions, certificate: Certificate | None, connections: int
    ) -> None:
        super().__init__(
            uvicorn.Config(
                editions,
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                workers=1,
                limit_concurrency=connections,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=END_S,
                ssl_context_factory=None if certificate is None else certificate.give,
            )
        )
        self.started_callback: Callable[[], None] = lambda: None
        self._editions = editions
        self._certificate = certificate
        self._watch = ConfigWatch(editions.config.file, configuration.load)
        self._problem = ""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await self._editions.open()
        await super().startup(sockets)
        self._watch.start()
        self.started_callback()

    async def on_tick(self, counter: int) -> bool:
        if counter % FOLLOW_TICKS == 0:
            await self._follow()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._watch.close()
        log.info("server.ending")
        with _quiet("uvicorn.error"):  # it calls each request that is cut off an error
            self._editions.end()
            await super().shutdown(sockets)
        await self._editions.close()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Let the first signal end the server in order, and a second one kill it."""
        numbers = (signal.SIGINT, signal.SIGTERM)

        def stop(_number: int, _frame: FrameType | None) -> None:
            for number in numbers:
                signal.signal(number, signal.SIG_DFL)
            self.should_exit = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # --- files that are followed ---

    async def _follow(self) -> None:
        """Take over an edited pipeline.yaml and a renewed certificate."""
        try:
            certificate = self._certificate
            if certificate is not None and await asyncio.to_thread(certificate.refresh):
                log.info("certificate.renewed")
            if (config := self._watch.take()) is not None:
                await self._take_over(config)
            elif self._watch.problem:
                raise ConfigError(self._watch.problem)
        except ConfigError as error:
            self._refuse(str(error))
        except Exception:  # the server goes on as it was
            log.exception("config.failed")

    async def _take_over(self, config: Config) -> None:
        old = self._editions.config
        self._problem = ""
        changed = changed_keys(old, config)
        if not changed:
            return
        if BY_RESTART.intersection(changed) or _tls(old) != _tls(config):
            raise ConfigError("paths or certificate changed: restart the server to take it over")
        await self._editions.replace(config)
        log.info("config.taken_over", changed=changed)

    def _refuse(self, problem: str) -> None:
        """Log why something is not taken over, once."""
        if problem != self._problem:
            log.error("config.refused", why=problem)
        self._problem = problem


@contextmanager
def _quiet(name: str) -> Generator[None]:
    """Drop what a logger says while the block runs."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _tls(config: Config) -> tuple[Path | None, Path | None]:
    return config.serve.certificate, config.serve.key


def _certificate(config: Config) -> Certificate | None:
    certificate, key = _tls(config)
    return None if certificate is None else Certificate(certificate, key)


@contextmanager
def _uploads_kept_in(folder: Path) -> Generator[None]:
    """Have uploads spooled to files without a name, which are gone with the process.

    On the disk of the data folder, since the system's folder may be kept in memory. Starlette has
    no option for it, and `tempfile.tempdir` is used by others as well: by the locks of inboxes that
    keep their files, for one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starlette: Any = formparsers  # its type information does not export the name
    usual = starlette.SpooledTemporaryFile
    starlette.SpooledTemporaryFile = partial(usual, dir=folder)
    try:
        yield
    finally:
        starlette.SpooledTemporaryFile = usual


def _warnings(options: Options) -> list[str]:
    file = options.token_file
    if file is None or not is_readable_by_others(file):
        return []
    return [f"every user of this machine can read the token in {file}; `chmod 600 {file}` mends it"]
