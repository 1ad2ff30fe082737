"""Asks a child process whether a file is an image that decodes to its end.

Decoders are the part of an image library that hostile files aim at. They run in a process that
may crash or be ended when it takes too long; the daemon only reads its answers.
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
from dna_pipeline.base.reachability import Look, look_directly

TIMEOUT_S = 120.0
MEMORY_BYTES = 5 << 30
"""`exr.MAX_DECODED_BYTES`, which is more than any other format needs, and 1 GiB for the libraries,
their threads and the picture itself. On a machine with less memory the limit is lower."""
DETAIL_CHARS = 1000
_LARGE_HINT = "Make it smaller, or write fewer layers; a damaged file may also ask for too much."
REAP_S = 1.0
"""How long a child that was killed is waited for."""


_TOO_LATE = f"took too long over this file: more than {TIMEOUT_S:g} s"
_DAMAGED = (
    "crashed over this file, so it is damaged or made to do harm: export it again from the program "
    "it came from"
)
_Answers = queues.Queue[list[bytes] | None]
"""The lines that came together from the child; None at its end. There is room for one list, so that
a child that talks without being asked fills no memory but its pipe and that."""


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


@dataclass(slots=True, eq=False)
class Question:
    """A file to be decoded."""

    path: Path
    answer: Probed | JobError | None = None
    ending: str | None = None
    """How the decoder ended over it, if it gave no answer."""


class Prober:
    """One child, started when first asked and again after each of its deaths.

    It answers in the order in which it was asked, so that many files can be asked about ahead and
    are decoded while the asker does other things.

    Args:
        look: says whether a file's folder can be reached, where the child gave no answer.
    """

    def __init__(self, look: Look = look_directly) -> None:
        self._look = look
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: _Answers = queues.Queue(1)
        self._lines: deque[bytes] = deque()
        """The answers that came with the last one."""
        self._writer: ipc.LineWriter | None = None
        self._asked: deque[Question] = deque()
        self._waiting_since: float | None = None
        self._late: subprocess.Popen[bytes] | None = None
        """The child that was ended since it took too long."""
        self._ended = threading.Event()
        self._is_closed = False
        self._lock = threading.Lock()

    def probe(self, path: Path) -> Probed | JobError:
        """Decode the file. An error is an answer here, not raised. Raises as `answer` does."""
        return self.answer(Question(path))

    def ask(self, paths: Iterable[Path]) -> list[Question]:
        """Have these decoded as soon as can be; `answer` tells what came of it."""
        questions = [Question(path) for path in paths]
        with self._lock:
            if questions and not self._is_closed:
                self._send(questions)
        return questions

    def answer(self, question: Question) -> Probed | JobError:
        """Wait for an answer; a question that the child does not know of is asked.

        Raises:
            RuntimeError: `close` was called, by another thread perhaps.
        """
        with self._lock:
            while question.answer is None and question.ending is None and not self._is_closed:
                if question not in self._asked:  # new, or its child died over one before it
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
        """Clear away a child that died or hung, and what it was still to do."""
        assert self._process and self._writer
        self._ended.set()
        self._asked.clear()
        self._writer.close()
        ipc.end(self._process, REAP_S)
        self._process = None

    def _send(self, questions: Sequence[Question]) -> None:
        if self._process is None:
            self._start()
        assert self._writer
        self._asked.extend(questions)
        with self._guarded(), suppress(OSError):
            self._writer.send({"paths": [str(question.path) for question in questions]})

    def _receive(self) -> None:
        """Take the next answer; a child that gives none died over the first question."""
        answer: Probed | JobError | None = None
        ending = "gave no answer that makes sense about this file"
        with self._guarded(), suppress(ipc.WireError):
            try:
                line = self._next_line()
            except queues.Empty:
                ending = _TOO_LATE
            else:
                if line is None:
                    ending = self._how_it_ended()
                else:
                    answer = _understood(ipc.parsed(line))
        question = self._asked.popleft()
        question.answer = answer
        if answer is None:
            question.ending = ending
            self._end()

    def _next_line(self) -> bytes | None:
        """The next line of the child; None at its end. Raises `queue.Empty`: it took too long."""
        if not self._lines:
            self._lines.extend(self._answers.get(timeout=TIMEOUT_S) or ())
        return self._lines.popleft() if self._lines else None

    def _how_it_ended(self) -> str:
        """Words for the end of a child that closed its pipe."""
        assert self._process
        if self._process is self._late:
            return _TOO_LATE
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return _DAMAGED
        if code == -signal.SIGKILL:  # by the system, most likely, and then not the file's fault
            limit = _gib(memory_limit())
            return f"crashed over this file: it {ipc.how_it_ended(code)}; it may use {limit}"
        return f"{_DAMAGED} ({ipc.how_it_ended(code)})"

    @contextmanager
    def _guarded(self) -> Generator[None]:
        """Only while someone waits for the child may it be found to take too long."""
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
        """On a thread of its own: one timer for each file would cost as much as its decoding."""
        while not ended.wait(TIMEOUT_S / 4):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > TIMEOUT_S:
                self._late = process
                process.kill()


def _read(file: IO[bytes], answers: _Answers, ended: threading.Event) -> None:
    """Pass a child's lines on, until it was ended; None where there will be no more."""
    with file, suppress(ipc.WireError):
        for lines in ipc.lines_at_once(file):
            _pass_on(lines, answers, ended)
    _pass_on(None, answers, ended)


def _pass_on(lines: list[bytes] | None, answers: _Answers, ended: threading.Event) -> None:
    """Wait for room: a child that talks without being asked must not fill our memory."""
    while not ended.is_set():
        with suppress(queues.Full):
            answers.put(lines, timeout=0.5)
            return


def _understood(message: ipc.Message) -> Probed | JobError:
    """An answer. Raises WireError where a file has brought the child to talk otherwise."""
    match message:
        case {"error": str(name), "detail": str(detail)} if name in _ERRORS:
            hint = str(message.get("hint") or "")[:DETAIL_CHARS]
            return _ERRORS[name](detail[:DETAIL_CHARS], hint=hint)
        case {"width": int(width), "height": int(height)} if min(width, height) > 0:
            return Probed(width, height)
        case _:
            raise ipc.WireError("no answer")


def memory_limit() -> int:
    """Bytes that the decoder may have: `MEMORY_BYTES`, or all of a smaller machine's."""
    try:
        return min(MEMORY_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not every system tells
        return MEMORY_BYTES


def limit_memory() -> None:
    """Let this process have no more than `memory_limit()`; a bomb then fails and hurts nobody."""
    # Each thread of numpy's OpenBLAS takes 40 MB from the limit, and decoding needs none of them.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if sys.platform == "linux":  # the others know no such limit, or do not keep to it
        import resource

        # Not the address space, of which each of a decoder's threads reserves a lot unused.
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

    # A thread, so that whoever asks is never held up by what was asked before.
    threading.Thread(target=listen, daemon=True).start()
    while (path := paths.get()) is not None:
        out.send(_decode(Path(path)))


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.3g} GiB"


def _decode(path: Path) -> ipc.Message:
    from dna_pipeline.media import images  # only in the child

    try:
        facts = images.probe(path)
        return {"width": facts.width, "height": facts.height}
    except JobError as error:
        return {"error": type(error).__name__, "detail": error.detail, "hint": error.hint}
    except MemoryError:
        detail = f"decoding it takes more than the {_gib(memory_limit())} of memory allowed for it"
        return {"error": ImageTooLarge.__name__, "detail": detail, "hint": _LARGE_HINT}
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
        return {"error": NotReadable.__name__, "detail": detail}


if __name__ == "__main__":
    main()
