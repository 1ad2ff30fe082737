"""Queues the images that a server was sent."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.naming import safe_name
from dna_pipeline.config.batch import BATCH_KEYS
from dna_pipeline.config.schema import Config
from dna_pipeline.config.yaml12 import Document
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.health import LedgerReplaced, check_in_place, file_id
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.lookup import open_ledger
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.operations.submit import Submission, Submitter

T = TypeVar("T")

MOST_PROBERS = 2
"""Most images that are decoded at once; each is decoded in a child process."""


class NotRetried(ConfigError):
    """A job cannot be tried again; the text says why."""


class Submissions:
    """The way of a server to write to the ledger. Threads may share it.

    The ledger is opened when the first of them needs it, and again if another file has taken its
    place.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ledger: Ledger | None = None
        self._file = file_id(config.ledger_path)
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(MOST_PROBERS)
        self._probers: deque[Prober] = deque()

    def submit(self, submission: Submission, values: Mapping[str, Any]) -> str:
        """Queue one image and give its job's id; on return, the image and the job are durable.

        Args:
            values: keys and values as in a sidecar. They may not name files of this machine.

        Raises:
            Refused: the image or a value is wrong; its `error` says why.
            ConfigError: the ledger cannot be used, or a value is wrong.
            OSError: the image could not be copied into the data folder.
        """
        if several := sorted(BATCH_KEYS.intersection(values)):
            raise ConfigError(f"{several[0]}: is for several jobs, and an image is one job here")
        document = Document(dict(values), {(): 0}, "the request")
        submitter = Submitter(self._config, self.ledger(), document, follows_paths=False)
        with self.prober() as prober:
            return submitter.submit(safely_named(submission), prober)

    def retry(self, job_id: str) -> None:
        """Queue a failed or cancelled job again, under its id.

        Raises:
            NotRetried: it is in another state, or would fail again.
            ConfigError: the ledger cannot be used.
        """
        retrier = Retrier(self._config, self.ledger())
        with self.prober() as prober:
            try:
                retrier.retry(job_id, prober)
            except LedgerReplaced:
                raise
            except ConfigError as error:
                raise NotRetried(str(error)) from None

    def transact(self, action: Callable[[Transaction], T]) -> T:
        """Run `action` in one transaction. Raises `ConfigError` if there can be no ledger."""
        return self.ledger().transact(action)

    def ledger(self) -> Ledger:
        """Give the ledger, opened for writing.

        Raises:
            LedgerReplaced: a repair is at work: what is written now would be lost.
            ConfigError: the ledger cannot be used.
        """
        with self._lock:
            check_in_place(self._config.ledger_path, None)
            if self._ledger is None or file_id(self._config.ledger_path) != self._file:
                if self._ledger is not None:
                    self._ledger.close()
                self._ledger = open_ledger(self._config)
                self._file = file_id(self._config.ledger_path)
            return self._ledger

    @contextmanager
    def prober(self) -> Generator[Prober]:
        """Lend a prober for the block; waits while all others are lent."""
        with self._turns:
            with self._lock:
                prober = self._probers.pop() if self._probers else Prober()
            try:
                yield prober
            finally:
                with self._lock:
                    self._probers.append(prober)

    def close(self) -> None:
        """Close the ledger, and end the processes that decode."""
        with self._lock:
            for prober in self._probers:
                prober.close()
            self._probers.clear()
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None


def safely_named(submission: Submission) -> Submission:
    """The submission with a name that is no path and that every file system takes.

    A sender may call its image whatever it likes.
    """
    last = re.split(r"[/\\]", submission.name)[-1]
    stem, dot, ending = last.rpartition(".")
    is_ending = re.fullmatch("[A-Za-z0-9]{1,8}", ending) is not None
    if not (dot and stem and is_ending):
        return replace(submission, name=safe_name(last))
    return replace(submission, name=f"{safe_name(stem)}.{ending}")
