"""The terminal of a command: whether it can show a live view, and its input meanwhile."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

try:
    import termios
except ImportError:  # Windows
    termios = None


def can_show(stream: Any) -> bool:
    """True if the stream is a terminal in which a view can be drawn anew in place, and which is
    this process's to draw on."""
    if stream is None or not stream.isatty():
        return False
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return False
    if sys.platform == "win32":
        from rich.console import Console

        return not Console(file=stream).legacy_windows
    return "TERM" in os.environ and is_in_foreground(stream)


def is_in_foreground(stream: Any) -> bool:
    """True if the shell runs this process in the foreground. In the background, as after `&`, the
    terminal belongs to the shell and to what people type into it."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except OSError:
        return False


class QuietInput:
    """Keeps typed letters from being shown, since they would spoil the view. Ctrl-C and Ctrl-Z
    work. Does nothing if standard input is no terminal."""

    def __init__(self) -> None:
        self._saved: tuple[int, list[Any]] | None = None

    def begin(self) -> None:
        if termios is None or self._saved is not None:
            return
        with suppress(OSError, ValueError, AttributeError, termios.error):
            number = sys.stdin.fileno()
            saved = termios.tcgetattr(number)
            quiet = list(saved)
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(number, termios.TCSADRAIN, quiet)
            self._saved = number, saved

    def end(self) -> None:
        """Restore the terminal, and drop what was typed, since no shell should run it."""
        if termios is None or self._saved is None:
            return
        number, saved = self._saved
        self._saved = None
        with suppress(OSError, termios.error):
            termios.tcsetattr(number, termios.TCSAFLUSH, saved)
