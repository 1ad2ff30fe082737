"""A connection that ends when its client stands still.

uvicorn ends idle connections only after an answer. Without further limits, a client could open
thousands and send or take nothing. How long a body may stand still is the guard's matter.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 30.0
"""Time that the first line and the headers of a request may take."""
TAKE_S = 120.0
"""Time in which a client has to take some 50 KiB of an answer, if so much waits for it."""


class Connection(H11Protocol):
    """One connection of a client."""

    _awaiting: asyncio.TimerHandle | None = None
    """Ends the connection if no request comes."""
    _stalled: asyncio.TimerHandle | None = None
    """Ends the connection if nothing is taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_awaiting()
        self._stop_stalled()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_stalled()
        # `close` would wait for what is still to be sent.
        self._stalled = self.loop.call_later(TAKE_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stalled()

    def _await_request(self) -> None:
        """Set a limit while no request is answered; what comes meanwhile does not extend it."""
        is_answering = self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]
        if is_answering or self.transport.is_closing():
            self._stop_awaiting()
        elif self._awaiting is None:
            self._awaiting = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _stop_awaiting(self) -> None:
        if self._awaiting is not None:
            self._awaiting.cancel()
            self._awaiting = None

    def _stop_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
