"""Work that is repeated: not too often, and in steps so small that they delay nothing else.

Times are seconds of the monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import inf

LOOK_S = 0.05
"""Time between two looks of a thread that waits for a `SignalFlag`."""


class SignalFlag:
    """A flag that a signal handler may set.

    `threading.Event` takes a lock to be set. If the signal comes while the main thread holds it, to
    wait for the event, the handler would wait for that lock for ever.
    """

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, for so long at most; True if it is."""
        end = time.monotonic() + seconds
        while not self._is_set and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_S))
        return self._is_set


class Throttle:
    """Says when something that costs time is due again.

    Args:
        interval_s: time that passes at least.
        cost_share: factor that limits the share of time spent on it: if it took t seconds, it is
            due `cost_share * t` seconds later at the earliest.
        longest_s: time after which it is due, whatever it cost.
    """

    def __init__(
        self, interval_s: float, cost_share: float = 0.0, *, longest_s: float = inf
    ) -> None:
        self._interval_s = interval_s
        self._cost_share = cost_share
        self._longest_s = longest_s
        self.next_at = -inf

    def is_due(self, now: float) -> bool:
        return now >= self.next_at

    def take(self, now: float) -> bool:
        """True if it is due, which counts as done from now on."""
        if is_due := self.is_due(now):
            self.done(now)
        return is_due

    def done(self, now: float, cost_s: float = 0.0) -> None:
        """Note that it was done now, which took so many seconds."""
        self.next_at = now + min(max(self._interval_s, self._cost_share * cost_s), self._longest_s)


class PeriodicTask:
    """Goes through the steps of a task again and again, some of them at each call.

    Args:
        steps: begins a round and yields after each of its steps.
        throttle: says when the next round may begin, from the end of the one before.
        step_s: a call goes on with further steps until this time has passed; 0 for one step a
            call.
    """

    def __init__(
        self, steps: Callable[[], Iterator[None]], throttle: Throttle, step_s: float = 0.0
    ) -> None:
        self._steps = steps
        self._throttle = throttle
        self._step_s = step_s
        self._round: Iterator[None] | None = None
        self._spent_s = 0.0

    def step(self, now: float, *, may_begin: bool = True) -> None:
        """Do the next steps if a round is due, or has begun. An error ends the round."""
        if self._round is None:
            if not (may_begin and self._throttle.is_due(now)):
                return
            self._round, self._spent_s = self._steps(), 0.0
        started, round_, has_ended = time.monotonic(), self._round, True
        try:
            for _ in round_:
                if time.monotonic() - started >= self._step_s:
                    has_ended = False
                    return
        finally:
            self._spent_s += time.monotonic() - started
            if has_ended:
                self._round = None
                self._throttle.done(now, self._spent_s)

    def rest(self) -> Iterator[None]:
        """Hand the steps that are left of a begun round to the caller, who finishes it."""
        begun, self._round = self._round, None
        return iter(()) if begun is None else begun
