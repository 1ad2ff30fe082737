"""Queues the images that a server was sent."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.batch import BATCH_KEYS
from dna_pipeline.config.schema import Config
from dna_pipeline.config.yaml12 import Document
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.ledger.engine import Transaction
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.lookup import open_ledger
from dna_pipeline.operations.serving.readers import file_id
from dna_pipeline.operations.submit import Submission, Submitter

T = TypeVar("T")

MOST_PROBERS = 2
"""Most images that are decoded at once; each is decoded in a child process."""


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
        with self._prober() as prober:
            return submitter.submit(submission, prober)

    def transact(self, action: Callable[[Transaction], T]) -> T:
        """Run `action` in one transaction. Raises `ConfigError` if there can be no ledger."""
        return self.ledger().transact(action)

    def ledger(self) -> Ledger:
        with self._lock:
            if self._ledger is None or file_id(self._config.ledger_path) != self._file:
                if self._ledger is not None:
                    self._ledger.close()
                self._ledger = open_ledger(self._config)
                self._file = file_id(self._config.ledger_path)
            return self._ledger

    @contextmanager
    def _prober(self) -> Generator[Prober]:
        with self._turns:
            with self._lock:
                prober = self._probers.pop() if self._probers else Prober()
            try:
                yield prober
            finally:
                with self._lock:
                    self._probers.append(prober)

    def close(self) -> None:
        with self._lock:
            for prober in self._probers:
                prober.close()
            self._probers.clear()
            if self._ledger is not None:
                self._ledger.close()
                self._ledger = None
