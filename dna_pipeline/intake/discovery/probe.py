"""Decode images in a child process, to check that they are complete.

Decoders are the part of an image library that hostile files attack. They run in a process that may
crash, or be killed when it takes too long; the daemon only reads its answers.
"""

from __future__ import annotations

import os
import queue as queues
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from dna_pipeline.base import ipc
from dna_pipeline.base.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable, JobError
from dna_pipeline.base.logs import configure_child, relay
from dna_pipeline.base.quantities import size
from dna_pipeline.base.reachability import Look, look_directly

TIMEOUT_S = 120.0
MEMORY_BYTES = 5 << 30
"""Memory limit of the child: `exr.MAX_DECODED_BYTES`, which is more than any other format needs,
plus 1 GiB for the libraries, their threads and the picture itself. The limit is lower on a machine
with less memory."""
DETAIL_CHARS = 1000
_LARGE_HINT = "Make it smaller, or write fewer layers; a damaged file may also ask for too much."
REAP_S = 1.0
"""Longest wait for the end of a child that was killed."""


_TOO_LATE = f"took too long over this file: more than {TIMEOUT_S:g} s"
_DAMAGED = (
    "crashed over this file, so it is damaged or made to do harm: export it again from the program "
    "it came from"
)
_Answers = queues.Queue[list[bytes] | None]
"""Batches of lines of the child, then None at its end. The queue has room for one batch, so that a
child that writes without being asked fills no memory beyond that and its pipe."""


class NotReadable(ImageUnreadable):
    """The file could not be read at all, because of permissions or of the disk; this may pass."""


_ERRORS: dict[str, type[JobError]] = {
    cls.__name__: cls for cls in (ImageUnreadable, ImageTooSmall, ImageTooLarge, NotReadable)
}


@dataclass(frozen=True, slots=True)
class Probed:
    """Size in pixels of an image that decodes, upright by its EXIF orientation."""

    width: int
    height: int


@dataclass(slots=True, eq=False)
class Question:
    """A file to be decoded."""

    path: Path
    answer: Probed | JobError | None = None
    ending: str | None = None
    """End of the decoder over this file, in words, if it gave no answer."""


class Prober:
    """One child, started with the first question and again after each of its deaths.

    The child answers in the order of the questions, so that a caller can ask about many files ahead
    and do other things while they are decoded.

    Args:
        look: tells, if the child gave no answer, whether the file's folder can be reached.
    """

    def __init__(self, look: Look = look_directly) -> None:
        self._look = look
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: _Answers = queues.Queue(1)
        self._lines: deque[bytes] = deque()
        """Lines of the last batch that are not yet parsed."""
        self._writer: ipc.LineWriter | None = None
        self._open: deque[Question] = deque()
        self._waiting_since: float | None = None
        self._late_process: subprocess.Popen[bytes] | None = None
        """The child that was killed because it took too long."""
        self._ended = threading.Event()
        self._is_closed = False
        self._lock = threading.Lock()

    def probe(self, path: Path) -> Probed | JobError:
        """Decode the file. Errors of the file are returned, not raised; raises as `answer` does."""
        return self.answer(Question(path))

    def ask(self, paths: Iterable[Path]) -> list[Question]:
        """Request that files are decoded soon; pass each question to `answer` for its result."""
        questions = [Question(path) for path in paths]
        with self._lock:
            if questions and not self._is_closed:
                self._send(questions)
        return questions

    def answer(self, question: Question) -> Probed | JobError:
        """Wait for an answer; a question that the child has not received is sent to it.

        Raises:
            RuntimeError: `close` was called, perhaps by another thread.
        """
        with self._lock:
            while question.answer is None and question.ending is None and not self._is_closed:
                if question not in self._open:  # new, or its child died over an earlier one
                    self._send([question])
                self._receive()
        if self._is_closed:
            raise RuntimeError("the decoder was closed")
        if question.answer is not None:
            return question.answer
        if not (reach := self._look(question.path.parent)).is_there:
            return NotReadable(f"its folder cannot be reached: {reach.why}")
        return ImageUnreadable(f"the decoder {question.ending}")

    def close(self) -> None:
        """End the child for good. A thread that waits for its answer gets an error."""
        self._is_closed = True
        with suppress(queues.Full):
            self._answers.put_nowait(None)
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            if self._process is not None:
                self._end()

    def _end(self) -> None:
        """Remove a child that died or hung, and its open questions."""
        assert self._process and self._writer
        self._ended.set()
        self._open.clear()
        self._writer.close()
        ipc.end(self._process, REAP_S)
        self._process = None

    def _send(self, questions: Sequence[Question]) -> None:
        if self._process is None:
            self._start()
        assert self._writer
        self._open.extend(questions)
        with self._timed(), suppress(OSError):
            self._writer.send({"paths": [str(question.path) for question in questions]})

    def _receive(self) -> None:
        """Receive the next answer; without one, the child died over its first open question."""
        answer: Probed | JobError | None = None
        ending = "gave no answer that makes sense about this file"
        with self._timed(), suppress(ipc.PipeError):
            try:
                line = self._next_line()
            except queues.Empty:
                ending = _TOO_LATE
            else:
                if line is None:
                    ending = self._how_it_ended()
                else:
                    answer = _parse_answer(ipc.parse(line))
        question = self._open.popleft()
        question.answer = answer
        if answer is None:
            question.ending = ending
            self._end()

    def _next_line(self) -> bytes | None:
        """Return the child's next line; None at its end. Raises `queue.Empty` after a timeout."""
        if not self._lines:
            self._lines.extend(self._answers.get(timeout=TIMEOUT_S) or ())
        return self._lines.popleft() if self._lines else None

    def _how_it_ended(self) -> str:
        """Words for the end of a child that closed its pipe."""
        assert self._process
        if self._process is self._late_process:
            return _TOO_LATE
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return _DAMAGED
        if code == -signal.SIGKILL:  # most likely by the system, which is not the file's fault
            limit = size(memory_limit())
            return f"crashed over this file: it {ipc.how_it_ended(code)}; it may use {limit}"
        return f"{_DAMAGED} ({ipc.how_it_ended(code)})"

    @contextmanager
    def _timed(self) -> Generator[None]:
        """Apply the time limit: a child is late only if a caller waits for it."""
        self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None

    def _start(self) -> None:
        self._process = ipc.spawn("dna_pipeline.intake.discovery.probe")
        ipc.follow_stderr(self._process, relay)
        assert self._process.stdin and self._process.stdout
        self._writer = ipc.LineWriter(self._process.stdin)
        self._answers = queues.Queue(1)
        self._lines.clear()
        self._ended = threading.Event()
        reader = partial(_read, self._process.stdout, self._answers, self._ended)
        threading.Thread(target=reader, name="probe-answers", daemon=True).start()
        guard = partial(self._end_if_late, self._process, self._ended)
        threading.Thread(target=guard, name="probe-guard", daemon=True).start()

    def _end_if_late(self, process: subprocess.Popen[bytes], ended: threading.Event) -> None:
        """Kill a child that takes too long over one file.

        This runs in a thread of its own, since one timer for each file would cost as much time as
        the decoding.
        """
        while not ended.wait(TIMEOUT_S / 4):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > TIMEOUT_S:
                self._late_process = process
                process.kill()


def _read(file: IO[bytes], answers: _Answers, ended: threading.Event) -> None:
    """Put a child's lines into the queue, then None, also after data that is no message.

    The thread stops once `ended` is set.
    """
    with file, suppress(ipc.PipeError):
        for lines in ipc.line_batches(file):
            _pass_on(lines, answers, ended)
    _pass_on(None, answers, ended)


def _pass_on(lines: list[bytes] | None, answers: _Answers, ended: threading.Event) -> None:
    """Put lines into the queue, once it has room: a child that writes without being asked must not
    fill our memory."""
    while not ended.is_set():
        with suppress(queues.Full):
            answers.put(lines, timeout=0.5)
            return


def _parse_answer(message: ipc.Message) -> Probed | JobError:
    """The answer in a message. Raises PipeError for another message, such as a hostile file may
    cause."""
    match message:
        case {"error": str(name), "detail": str(detail)} if name in _ERRORS:
            hint = str(message.get("hint") or "")[:DETAIL_CHARS]
            return _ERRORS[name](detail[:DETAIL_CHARS], hint=hint)
        case {"width": int(width), "height": int(height)} if min(width, height) > 0:
            return Probed(width, height)
        case _:
            raise ipc.PipeError("no answer")


def memory_limit() -> int:
    """Bytes that the decoder may use: `MEMORY_BYTES`, or all memory of a smaller machine."""
    try:
        return min(MEMORY_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not every system has these values
        return MEMORY_BYTES


def limit_memory() -> None:
    """Limit this process to `memory_limit()`, so that a decompression bomb does no harm."""
    # Each thread of numpy's OpenBLAS uses 40 MB of the limit, and decoding needs none of them.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if sys.platform == "linux":  # other systems have no such limit, or do not enforce it
        import resource

        # RLIMIT_AS would not do: each of a decoder's threads reserves much address space unused.
        limit = memory_limit()
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main() -> None:
    """Entry point of the child process."""
    inbound, out = ipc.claim_stdio()
    configure_child()
    limit_memory()
    paths: queues.SimpleQueue[str | None] = queues.SimpleQueue()

    def listen() -> None:
        for message in ipc.messages(inbound):
            for path in message["paths"]:
                paths.put(path)
        paths.put(None)

    # A thread reads the questions, so that earlier ones never block the daemon's writing.
    threading.Thread(target=listen, daemon=True).start()
    while (path := paths.get()) is not None:
        out.send(_decode(Path(path)))


def _decode(path: Path) -> ipc.Message:
    from dna_pipeline.media import images  # only in the child

    try:
        facts = images.probe(path)
        return {"width": facts.width, "height": facts.height}
    except JobError as error:
        return {"error": type(error).__name__, "detail": error.detail, "hint": error.hint}
    except MemoryError:
        detail = f"decoding it takes more than the {size(memory_limit())} of memory allowed for it"
        return {"error": ImageTooLarge.__name__, "detail": detail, "hint": _LARGE_HINT}
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
        return {"error": NotReadable.__name__, "detail": detail}


if __name__ == "__main__":
    main()
