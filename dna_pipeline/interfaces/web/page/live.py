"""The state of daemon and queue, rendered about once a second for all who look at it, and never
else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.overview import Overview, make_overview
from dna_pipeline.operations.serving.kept_answers import KeptAnswer
from dna_pipeline.operations.status import read_daemon_and_queue

LOOK_S = 1.0
KEPT_S = 0.5
"""Least time for which a state is shown to all who open the view, since reading it takes long."""


class LiveState:
    """Reads the state while anyone looks, and hands each change to all of them.

    Args:
        render: makes the HTML of a state. Called in a thread.
    """

    def __init__(self, site: Site, render: Any) -> None:
        self._site = site
        self._render = render
        self._html = ""
        self._kept = KeptAnswer(self.read_html, KEPT_S)
        self._changed = asyncio.Event()
        self._viewers = 0
        self._task: asyncio.Task[None] | None = None

    def read(self) -> Overview:
        """Read the state now. May wait for the disk. Raises `ConfigError`."""
        config = self._site.config
        return make_overview(config, read_daemon_and_queue(config).fields)

    def html(self) -> str:
        """The state of the last moments as HTML. May wait for the disk."""
        return self._kept.get()

    def forget(self) -> None:
        """Have the state read anew by whoever asks next, since something was changed."""
        self._kept.forget()

    def read_html(self) -> str:
        """Read the state now and render it; an error is rendered too. May wait for the disk."""
        try:
            return self._render(state=self.read(), problem=None)
        except ConfigError as error:
            return self._render(state=None, problem=str(error))

    async def changes(self, quiet_s: float = 15.0) -> AsyncGenerator[str]:
        """Yield the HTML now and after each change; "" after a time without any."""
        self._viewers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        last = ""
        try:
            while True:
                changed = self._changed
                if self._html and self._html != last:
                    last = self._html
                    yield last
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), quiet_s)
                except TimeoutError:
                    yield ""
        finally:
            self._viewers -= 1

    async def _look(self) -> None:
        while self._viewers:
            with suppress(OSError):
                html = await self._site.ask(self.read_html)
                if html != self._html:
                    self._html = html
                    # Those who wait have this event; who comes later waits for the next one.
                    changed, self._changed = self._changed, asyncio.Event()
                    changed.set()
            await asyncio.sleep(LOOK_S)
        self._html = ""
