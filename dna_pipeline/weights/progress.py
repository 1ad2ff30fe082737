"""Interface between a transfer of files and those who show how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Listener of one transfer, which may be of several models."""

    def begin(self, total_bytes: int) -> None:
        """Take the size of the whole."""
        ...

    def show_file(self, name: str) -> None:
        """Take the name of the file that is worked on from now on."""
        ...

    def advance(self, number: int) -> None:
        """Count bytes that came."""
        ...

    def resume(self, number: int) -> None:
        """Count bytes that an earlier transfer left, or, as a negative number, bytes that were
        thrown away."""
        ...

    def remark(self, text: str) -> None:
        """Take a sentence about a disturbance."""
        ...
