"""Carries the files of orders to an actor, and those of its results back."""

from __future__ import annotations

import errno
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import structlog

from dna_pipeline.base.errors import DiskFull, Failure, InboxUnavailable, SourceMissing
from dna_pipeline.base.files import remove_tree, sha256_file
from dna_pipeline.execution.cluster import files
from dna_pipeline.execution.cluster.relay import EVENTS
from dna_pipeline.execution.protocol import JobFailed, Order, StageDone

log = structlog.get_logger()

CALL_S = 30.0
"""Time after which an actor that does not answer counts as lost."""

TRIES = 2
"""How often a file is carried that does not arrive as it was sent."""


class Actor(Protocol):
    """The part of `api.Actor` that is used, so that tests can play one."""

    def start(self, method: str, *arguments: Any, group: str | None = None) -> Any: ...
    def call(
        self, method: str, *arguments: Any, timeout_s: float, group: str | None = None
    ) -> Any: ...
    def kill(self) -> None: ...


@dataclass(slots=True)
class Attempt:
    """An order at an actor.

    Attributes:
        id: name of its folder on the node, of this attempt alone.
        failed: its end, which is reported in place of the actor's own; None as long as its files
            could be carried.
    """

    order: Order
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    failed: JobFailed | None = None


class Carrier:
    """Carries files through Ray, or links them where both sides see the data folder.

    Args:
        attempts: the folder of all attempts, if both sides see it; None to carry.
    """

    def __init__(self, attempts: Path | None) -> None:
        self._attempts = attempts

    def send(self, actor: Actor, attempt: Attempt) -> JobFailed | None:
        """Send the files of an order. The end of its job if an input is not what it was.

        Raises:
            Lost, Refused, TimeoutError: by the actor.
            Damaged: an input did not arrive as it was sent.
        """
        if self._attempts is not None:
            return None
        order = attempt.order
        for file in files.inputs_of(order):
            if (failed := self._send_input(actor, attempt, file)) is not None:
                return failed
        for file in files.finished_files(order):
            with suppress(OSError, files.Damaged):  # without its files, a stage runs again
                _send_file(actor, attempt, file)
        return None

    def _send_input(self, actor: Actor, attempt: Attempt, file: files.Carried) -> JobFailed | None:
        job = attempt.order.job
        missing = SourceMissing(f"{file.source} is gone or was changed").failure().to_dict()
        try:
            try:
                _send_file(actor, attempt, file)
            except files.Damaged:
                if sha256_file(Path(file.source)) == file.sha256:
                    raise
                return JobFailed(job, missing)
        except FileNotFoundError:
            return JobFailed(job, missing)
        except TimeoutError:  # of the actor, although it is an OSError by its kind
            raise
        except OSError as error:
            why = f"{file.source} cannot be read: {error.strerror}"
            return JobFailed(job, Failure(InboxUnavailable.code, "", why).to_dict(), hold=True)
        return None

    def fetch(self, actor: Actor, attempt: Attempt, done: StageDone) -> JobFailed | None:
        """Bring the files of a stage into the job's work folder. The end of the job's attempt if
        there is no space for them.

        Raises:
            Lost, Refused, TimeoutError: by the actor.
            Damaged: a file did not arrive as it was sent.
            OSError: a file cannot be written for another reason.
        """
        folder = Path(attempt.order.work_dir, done.stage)
        try:
            self._fetch_again_if_damaged(actor, attempt, done, folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            failure = Failure(DiskFull.code, "", f"{error.filename or folder}: {error.strerror}")
            return JobFailed(done.job, failure.to_dict(), done.stage, hold=True)
        return None

    def forget(self, attempt: str) -> None:
        """Remove the folder of an attempt whose actor was lost, if it is in reach."""
        if self._attempts is not None:
            remove_tree(self._attempts / attempt, ignore_errors=True)

    def _fetch_again_if_damaged(
        self, actor: Actor, attempt: Attempt, done: StageDone, folder: Path
    ) -> None:
        for left in reversed(range(TRIES)):
            try:
                return self._fetch(actor, attempt, done, folder)
            except files.Damaged as error:
                log.warning("file.damaged", job=done.job, stage=done.stage, why=str(error))
                if not left:
                    raise
        return None

    def _fetch(self, actor: Actor, attempt: Attempt, done: StageDone, folder: Path) -> None:
        if self._attempts is not None:
            made = self._attempts / attempt.id / files.WORK / done.stage
            return files.adopt(folder, done.artifacts, made)

        def read(name: str, offset: int) -> bytes:
            return actor.call(
                "read", attempt.id, done.stage, name, offset, timeout_s=CALL_S, group=EVENTS
            )

        return files.receive(folder, done.artifacts, read)


def _send_file(actor: Actor, attempt: Attempt, file: files.Carried) -> None:
    for _ in range(TRIES):
        for number, piece in enumerate(files.chunks(Path(file.source))):
            actor.call("store", attempt.id, file.target, piece, number == 0, timeout_s=CALL_S)
        if actor.call("check", attempt.id, file.target, file.sha256, timeout_s=CALL_S):
            return
    raise files.Damaged(f"{file.source} did not arrive as it was sent")
