"""Asks a child process whether a file is an image that decodes to its end.

Decoders are the part of an image library that hostile files aim at. They run in a process that
may crash or be ended when it takes too long; the daemon only reads its answers.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline import wire
from dna_pipeline.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable, JobError
from dna_pipeline.logs import configure_child, relay

TIMEOUT_S = 120.0


class NotReadable(ImageUnreadable):
    """The file could not be read at all: a matter of permissions or of the disk, which may pass."""


_ERRORS: dict[str, type[JobError]] = {
    cls.__name__: cls for cls in (ImageUnreadable, ImageTooSmall, ImageTooLarge, NotReadable)
}


@dataclass(frozen=True, slots=True)
class Probed:
    """Size in pixels of an image that decodes, upright by its EXIF orientation."""

    width: int
    height: int


class Prober:
    """One child, started when first asked and again after each of its deaths."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: Iterator[wire.Message] = iter(())
        self._writer: wire.LineWriter | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def probe(self, path: Path) -> Probed | JobError:
        """Decode the file. An error is an answer here, not raised.

        Raises:
            RuntimeError: `close` was called, by another thread perhaps.
        """
        with self._lock:
            answer = None if self._is_closed else self._ask(path)
        if self._is_closed:
            raise RuntimeError("the decoder was closed")
        if answer is None:
            return ImageUnreadable("the decoder crashed or took too long on this file")
        if "error" in answer:
            kind = _ERRORS.get(answer["error"], ImageUnreadable)
            return kind(answer["detail"], hint=answer.get("hint", ""))
        return Probed(answer["width"], answer["height"])

    def close(self) -> None:
        """End the child for good. A thread that waits for its answer gets an error."""
        self._is_closed = True
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            if self._process is not None:
                self._end()

    def _end(self) -> None:
        """Clear away a child that died or hung."""
        assert self._process and self._writer and self._process.stdout
        self._writer.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process = None

    def _ask(self, path: Path) -> wire.Message | None:
        if self._process is None:
            self._start()
        assert self._process and self._writer
        timer = threading.Timer(TIMEOUT_S, self._process.kill)
        timer.start()
        try:
            with suppress(OSError):
                self._writer.send({"path": str(path)})
            answer = next(self._answers, None)
        finally:
            timer.cancel()
        if answer is None:
            self._end()
        return answer

    def _start(self) -> None:
        self._process = wire.spawn("dna_pipeline.probe")
        wire.follow_stderr(self._process, relay)
        assert self._process.stdin and self._process.stdout
        self._writer = wire.LineWriter(self._process.stdin)
        self._answers = wire.messages(self._process.stdout)


def main() -> None:
    """Entry point of the child process."""
    from dna_pipeline import imaging

    inbound, out = wire.claim_stdio()
    configure_child()
    for message in wire.messages(inbound):
        try:
            facts = imaging.probe(Path(message["path"]))
            out.send({"width": facts.width, "height": facts.height})
        except JobError as error:
            out.send({"error": type(error).__name__, "detail": error.detail, "hint": error.hint})
        except OSError as error:
            detail = f"cannot be read: {error.strerror}"
            out.send({"error": NotReadable.__name__, "detail": detail})


if __name__ == "__main__":
    main()
