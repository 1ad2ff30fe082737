"""A connection that ends when its client stands still.

uvicorn ends idle connections after an answer, and no others. Without further limits, a client could
open thousands and send or take nothing. How long a body may stand still is the guard's matter.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 30.0
"""Time that the first line and the headers of a request may take."""
IDLE_S = 130
"""Time for which a connection is kept between two requests: longer than proxies keep theirs, which
would send the next request into a connection that is just being closed."""
TAKE_S = 120.0
"""Time in which a client has to take some 50 KiB of an answer, if so much waits for it."""


class _State(Enum):
    ANSWERING = auto()
    IDLE = auto()
    RECEIVING = auto()
    """A request has begun, or the rest of a refused one is read and dropped."""


class Connection(H11Protocol):
    """One connection of a client."""

    _state: _State | None = None
    _limit: asyncio.TimerHandle | None = None
    """Ends the connection if it stays in its state for too long."""
    _stalled: asyncio.TimerHandle | None = None
    """Ends the connection if nothing is taken."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._enter(_State.RECEIVING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self._stop_stalled()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._enter(self._current())

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._enter(self._current())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_stalled()
        # `close` would wait for what is still to be sent.
        self._stalled = self.loop.call_later(TAKE_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stalled()

    def _current(self) -> _State:
        if self.cycle is not None and not self.cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison]
            return _State.ANSWERING
        has_begun = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        return _State.RECEIVING if has_begun else _State.IDLE

    def _enter(self, state: _State) -> None:
        """Set the limit of a state; what comes meanwhile does not extend it."""
        if state is self._state:
            return
        self._cancel()
        self._state = state
        if state is not _State.ANSWERING and not self.transport.is_closing():
            limit_s = IDLE_S if state is _State.IDLE else REQUEST_S
            self._limit = self.loop.call_later(limit_s, self.transport.abort)

    def _cancel(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _stop_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
