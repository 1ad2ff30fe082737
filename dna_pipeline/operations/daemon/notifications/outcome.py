"""The outcome of one attempt to send a message."""

from __future__ import annotations

from dataclasses import dataclass

PROBLEM_CHARS = 300
"""Longest part of a problem that others wrote."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one attempt.

    Attributes:
        problem: the reason why the receiver did not take the message; "" if it did. It holds no
            secret.
        retry_after_s: delay that the receiver asks for.
        is_gone: the receiver wants no more messages.
    """

    problem: str = ""
    retry_after_s: float | None = None
    is_gone: bool = False
